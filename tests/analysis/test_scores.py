"""The page and the tables of one scoring: everything once, nothing from outside, no text markup."""

import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from heed.analysis.score_panel import show_scores
from heed.analysis.scores import Sheet, scores_page, short_metric, write_scores_page
from heed.core.types import Interval, ItemScore, Ratio, Stratum

HOSTILE = '<script>alert("x")</script>&"\'</pre>'
LONGEST = "detectable_format:number_highlighted_sections"


def told(kind: str, strict: bool, loose: bool, **more) -> dict:
    return {"id": kind, "strict": strict, "loose": loose, **more}


def item(key: str, response: str | None, *instructions: dict, prompt="Say it.", stop=None):
    ratio = Ratio(sum(i["strict"] for i in instructions), len(instructions))
    details = {"instructions": list(instructions)}
    return ItemScore("ifeval", key, prompt, response, stop, 7, {"strict": ratio}, details)


def share(value: float) -> Interval:
    return Interval(value, value / 2, (1 + value) / 2, 541)


def stratum(group: str, name: str = "") -> Stratum:
    values = {"inst_level_strict_acc": share(0.25), "inst_level_loose_acc": share(0.5)}
    return Stratum(group, name, 155, 157, values)


def sheet(**more) -> Sheet:
    plain = {
        "title": f"responses {HOSTILE} on suite ifeval",
        "primary": "ifeval/inst_level_strict_acc",
        "level": 0.95,
        "facts": {"file": HOSTILE, "rules": "lm_eval 1"},
        "summary": {
            "ifeval": {"prompt_level_strict_acc": share(0.2), "inst_level_strict_acc": share(0.3)},
            "books": {"bits_per_byte": Interval(2.5, 2.25, 2.75, 9)},
        },
        "strata": {"ifeval": [stratum("detectable_format"), stratum("detectable_format", LONGEST)]},
        "events": {f"null {HOSTILE}": 21},
        "notes": [f"null: {HOSTILE}"],
        "items": [
            item(f"k{HOSTILE}", HOSTILE, told("a:b", True, True), prompt=HOSTILE),
            item("k2", None, told("a:b", False, False)),
            item("k3", "cut", told("a:b", False, True, error=HOSTILE), stop="cap"),
            ItemScore("books", "1/2", "Once.", None, None, 0, {"b": Ratio(5, 2)}, {"tokens": 3}),
        ],
    }
    return Sheet(**{**plain, **more})


class Reader(HTMLParser):
    """Collects elements and text, and demands that elements are closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, name, attributes):
        self.seen.append(name)
        if name not in ("meta", "img"):
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        self.words += data


@pytest.fixture(scope="module")
def page() -> Reader:
    return Reader(scores_page(sheet()))


def test_hostile_text_stays_text_wherever_it_stands(page):
    assert page.open == []
    assert "script" not in page.seen
    assert page.words.count(HOSTILE) >= 9  # title, fact, event, note, key, prompt, response, error


def test_every_item_is_on_the_page_folded(page):
    assert page.seen.count("details") == page.seen.count("summary") == 4
    assert "details open" not in scores_page(sheet())


def test_the_page_needs_nothing_from_elsewhere():
    assert not re.search(r"https?://|@import|url\(|src=|href=", scores_page(sheet()))


def test_a_missing_response_and_a_cut_one_are_told(page):
    assert "There is no response; it is scored as failed." in page.words
    assert "cut at the cap after 7 tokens" in page.words


def test_marks_are_words_not_only_colours(page):
    assert page.words.count("✓ followed") == 3
    assert page.words.count("✗ not followed") == 3


def test_what_is_no_share_has_no_picture_from_0_to_1():
    none = scores_page(sheet(summary={"books": {"b": Interval(2.5, 2.0, 3.0, 9)}}, strata={}))
    assert "<svg" not in none
    assert "2.5000" in none


def test_a_scoring_without_events_says_so():
    assert "Nothing out of the ordinary" in scores_page(sheet(events={}, notes=[]))


def test_the_same_scores_give_the_same_bytes(tmp_path):
    paths = [write_scores_page(tmp_path / name, sheet()) for name in ("1.html", "2.html")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def shown(width: int, of: Sheet) -> list[str]:
    console = Console(width=width)
    with console.capture() as capture:
        show_scores(console, of)
    return capture.get().splitlines()


def test_the_tables_are_whole_on_80_columns():
    lines = shown(80, sheet(title="short", events={"a": 1}, notes=[]))
    assert not [line for line in lines if "…" in line or len(line.rstrip()) > 80]
    (row,) = [line for line in lines if "number_highlighted_sections" in line]
    assert row.split()[1:] == ["155", "157", "0.250", "0.12-0.62", "0.500", "0.25-0.75"]


def beside_prose() -> dict:
    """A record of controls, as far as the table of types reads it."""
    reached = {"inst_level_strict_acc": 0.123}
    values = {"prose20": reached, "echo": {"inst_level_strict_acc": 0.987}}
    names = ("", LONGEST)
    strata = [{"group": "detectable_format", "name": n, "values": values} for n in names]
    blind = {"what": "", "input_blind": True, "value": 0.2, "form": {}, "deltas": {}}
    rows = [{"control": "prose20", **blind}, {"control": "echo", **blind, "input_blind": False}]
    told = {"metric": "m", "best": "prose20", "beaten": {}, "note": "", "rows": rows}
    return told | {"strata": {"ifeval": strata}}


def test_the_types_stand_beside_the_controls_on_80_columns_and_on_the_page():
    of = sheet(title="short", events={"a": 1}, notes=[], controls=beside_prose())
    lines = shown(80, of)
    assert not [line for line in lines if "…" in line or len(line.rstrip()) > 80]
    (row,) = [line for line in lines if "number_highlighted_sections" in line]
    assert row.split()[1:] == ["155", "157", "0.250", "0.12-0.62", "0.500", "0.123", "0.987"]
    page = scores_page(of)
    Reader(page)
    assert "<th>prose20: strict</th><th>echo: strict</th>" in page
    assert "0.987" in page


def test_nothing_that_is_shown_steers_a_terminal():
    odd = "\x1b[31m"
    of = sheet(
        title=odd,
        events={odd: 1},
        notes=[f"key {odd}"],
        strata={"ifeval": [stratum(odd), stratum(odd, f"{odd}:{odd}")]},
    )
    out = "\n".join(shown(80, of))
    assert "\x1b" not in out
    assert out.count(r"\x1b[31m") == 5


def test_the_primary_metric_comes_first_with_a_star():
    lines = shown(80, sheet())
    metrics = [line.split()[0] for line in lines if line.startswith(("ifeval/", "books/"))]
    assert metrics == [
        "ifeval/inst_level_strict_acc", "ifeval/prompt_level_strict_acc", "books/bits_per_byte",
    ]  # fmt: skip
    assert any("inst_level_strict_acc *" in line for line in lines)


def test_brackets_in_a_name_are_printed_as_they_are():
    odd = sheet(title="[red]x[/red]", events={"[b]": 1}, notes=["[link]"])
    text = "\n".join(shown(110, odd))
    assert all(word in text for word in ("[red]x[/red]", "[b]", "[link]"))


def test_metrics_of_other_tasks_keep_their_names():
    assert [short_metric(n) for n in ("inst_level_loose_acc", "bits", "_acc")] == [
        "loose", "bits", "_acc",
    ]  # fmt: skip

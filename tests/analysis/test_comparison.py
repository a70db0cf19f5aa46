"""The page and the tables of a comparison: both sides whole, nothing from outside, no markup."""

import csv
import io
import re
from html.parser import HTMLParser

from rich.console import Console

from heed.analysis.comparison import Comparison, Side, comparison_page, write_comparison_page
from heed.analysis.comparison_panel import COLUMNS, metrics_csv, show_comparison
from heed.analysis.paired import Flips, Pair
from heed.core.types import Delta, ItemScore, Ratio, StratumDelta

HOSTILE = '<script>alert("x")</script>&"\'</pre>'


def score(key: str, followed: list[bool], response: str | None, stop=None) -> ItemScore:
    told = [{"id": f"k:{i}{HOSTILE}", "strict": f, "loose": f} for i, f in enumerate(followed)]
    metrics = {"inst_level_strict_acc": Ratio(sum(followed), len(followed))}
    return ItemScore("t", key, f"Ask {HOSTILE}", response, stop, 7, metrics, {"instructions": told})


def delta(metric: str, **more) -> Delta:
    plain = {
        "before": 0.25, "after": 0.5, "delta": 0.25, "low": 0.125, "high": 0.375, "items": 40,
        "verdict": "helped", "mde": 0.0625, "p": 0.00001, "flips": (12, 2), "mcnemar": 0.0129,
    }  # fmt: skip
    return Delta(metric=metric, **{**plain, **more})


def comparison(**more) -> Comparison:
    plain = {
        "suite": "toy",
        "level": 0.95,
        "first": Side(f"run one {HOSTILE}", "/a", {"student": HOSTILE}, {f"cut {HOSTILE}": 3}),
        "second": Side("run two", "/b", {"student": "two"}, {}),
        "deltas": [
            delta("t/inst_level_strict_acc", flips=None, mcnemar=None, verdict="hurt"),
            delta("t/prompt_level_strict_acc"),
        ],
        "flips": {"t/prompt_level_strict_acc": Flips(8, 2, 12, 18)},
        "types": [
            StratumDelta("t/m", f"k:{HOSTILE}", 9, 0.1, 0.3, 0.2, 0.0625, 0.3125, 0.004, 0.1),
            StratumDelta("t/m", "k:alone", 1, 0.0, 1.0, 1.0, None, None, 1.0, 1.0),
        ],
        "ranked": "t/inst_level_strict_acc",
        "changed": 31,
        "changes": [
            Pair(score("7", [False, False], HOSTILE, "cap"), score("7", [True, True], "Yes.")),
            Pair(score("8", [True, False], "One two."), score("8", [False, False], None)),
        ],
        "unlike": {"template": (f"abc{HOSTILE}", "not known")},
        "left_out": {"item with a score on one side only": 5},
    }
    return Comparison(**{**plain, **more})


class Reader(HTMLParser):
    """Collects elements and text, and demands that elements are closed in order."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text = ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_what_comes_from_outside_is_text_and_never_markup():
    found = Reader(comparison_page(comparison()))
    assert "script" not in found.seen
    assert found.text.count(HOSTILE) >= 8


def test_the_page_needs_nothing_from_elsewhere():
    page = comparison_page(comparison())
    assert not re.search(r"(src|href)=|url\(|@import", page)


def test_the_page_tells_every_number_of_both_sides():
    text = Reader(comparison_page(comparison())).text
    for told in (
        "0.2500", "0.5000", "+0.125 to +0.375", "< 0.001", "0.0625", "B is worse", "Better 12",
        "worse 2", "0.013", "one prompt only", "0.100", "31 items change", "+2 (from 0 to 2 of 2)",
        "-1 (from 1 to 0 of 2)", "cut at the cap after 7 tokens", "There is no response.",
        "2 words", "item with a score on one side only: 5", "not known", "/a", "/b",
    ):  # fmt: skip
        assert told in text, told


def test_each_side_s_ticks_stand_in_its_own_column():
    page = comparison_page(comparison())
    (row,) = re.findall(r"<tr><td><code[^>]*>k:0[^/]*?/?.*?</tr>", page)[1:]
    assert row.index("✓ followed") < row.index("✗ not followed")


def test_a_comparison_in_which_nothing_changes_says_so():
    text = Reader(comparison_page(comparison(changes=[], changed=0, types=[], flips={}))).text
    assert "No item changes in t/inst_level_strict_acc" in text
    assert "Types of instruction" not in text
    assert "Flips" not in text


def test_two_that_were_made_alike_bring_no_warning():
    assert 'class="warning"' not in comparison_page(comparison(unlike={}, left_out={}))
    assert comparison_page(comparison()).count('class="warning"') == 2


def test_the_flags_of_a_side_stand_on_the_page_and_in_the_terminal_as_text():
    flagged = Side("two", "/b", {}, {}, [{"kind": "degenerate", "text": f"Loops. {HOSTILE}"}])
    made = comparison(second=flagged)
    assert f"B: Loops. {HOSTILE}" in Reader(comparison_page(made)).text
    assert "<script>" not in comparison_page(made)
    console = Console(width=110, file=io.StringIO(), highlight=False)
    show_comparison(console, made)
    assert "⚑ B: Loops. <script>" in console.file.getvalue()


def test_the_terminal_shows_the_table_within_its_width():
    console = Console(width=110, file=io.StringIO(), highlight=False)
    show_comparison(console, comparison())
    said = console.file.getvalue()
    assert max(map(len, said.splitlines())) <= 110
    for told in (
        "A: run one",
        "B: run two",
        "B is worse",
        "12 items better, 2 worse, 26 as before",
    ):
        assert told in said
    assert "not alike: template" in said
    assert "one side only: 5" in said


def test_a_record_without_the_newer_numbers_is_shown_all_the_same():
    old = delta("t/m", mde=None, p=None, flips=None, mcnemar=None)
    assert "t/m" in comparison_page(comparison(deltas=[old], flips={}))
    assert metrics_csv(comparison(deltas=[old], flips={})).count("\n") == 2


def test_the_file_holds_every_number_under_its_name(tmp_path):
    first, second = csv.DictReader(io.StringIO(metrics_csv(comparison())))
    assert tuple(first) == COLUMNS
    assert first["both"] == "" == first["mcnemar"]
    assert (second["both"], second["lost"], second["gained"], second["neither"]) == (
        "8", "2", "12", "18",
    )  # fmt: skip
    assert (second["low"], second["high"], second["p"]) == ("0.125", "0.375", "1e-05")
    assert write_comparison_page(tmp_path / "x.html", comparison()).read_text()

"""The analysis as a whole: what it writes, what it refuses, and what the page says."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from heed.analysis.shift import QUERY, TokenShift, evenly
from heed.analysis.shift_figures import shares_figure
from heed.analysis.shift_page import part_labels, warnings_of
from heed.core.compose import compose_component
from heed.core.errors import ConfigError, RunError
from heed.core.files import read_json, read_jsonl
from heed.core.types import Item
from heed.models.student import Loaded

PROMPTS = ["Name a fish.", "red <b>bold</b>", "Say blue", "why", "Name the sea", "a lamp"]
CHOSEN = {
    "limit": 4, "base_context": "same", "choice": "argmax", "top_k": None, "match": "id",
    "unit": "response", "first_share": 0.05, "batch_tokens": 4096, "rows": 4, "shown": 2,
}  # fmt: skip


@dataclass
class Fake:
    """A finished run as the analysis sees it."""

    fresh: Callable[[], Loaded]
    items: list[Item]
    run = "abc123"
    name = "tiny <run>"
    max_new_tokens = 10

    @property
    def facts(self) -> dict[str, str]:
        return {"suite": "toy & more"}

    @property
    def bootstrap(self) -> dict[str, float]:
        return {"level": 0.9, "resamples": 100, "seed": 0}

    def base(self) -> Loaded:
        return self.fresh()

    def tuned(self) -> Loaded:
        made = self.fresh()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            for weight in made.model.parameters():
                weight += 0.2 * torch.randn_like(weight)
        return made


@pytest.fixture(scope="module")
def studied(student) -> Fake:
    return Fake(student.fresh, [Item(str(i), text) for i, text in enumerate(PROMPTS)])


@pytest.fixture(scope="module")
def made(studied, tmp_path_factory) -> tuple[Path, list[str]]:
    """The analysis as it is chosen above, and its lines for the terminal."""
    directory = tmp_path_factory.mktemp("shift")
    return directory, TokenShift(**CHOSEN).make(studied, directory)


def positions(directory) -> list[dict]:
    text = gzip.decompress((directory / "positions.jsonl.gz").read_bytes()).decode()
    return [json.loads(line) for line in text.splitlines()]


def test_all_that_is_written_tells_of_the_same_positions(made):
    directory, said = made
    names = {path.name for path in directory.iterdir()}
    assert names == {
        "summary.json", "items.jsonl", "positions.jsonl.gz", "report.html", "shares.png",
        "curves.png",
    }  # fmt: skip
    summary, items = read_json(directory / "summary.json"), read_jsonl(directory / "items.jsonl")
    rows = positions(directory)
    assert [row["key"] for row in rows] == [item["key"] for item in items] == ["0", "1", "3", "4"]
    ranks = [rank for row in rows for rank in row["rank"]]
    assert summary["positions"] == len(ranks) == sum(item["positions"] for item in items)
    every = summary["parts"]["all"]
    assert every["shifted"]["value"] == pytest.approx(sum(r >= 3 for r in ranks) / len(ranks))
    assert every["rank"]["value"] == pytest.approx(sum(ranks) / len(ranks))
    assert sum(token["count"] for token in summary["tokens"]) == len(ranks)
    assert summary["items"] == 4
    assert summary["items_of_task"] == 6
    assert f"Of {len(ranks)} positions in 4 responses" in said[0]


def test_the_page_shows_numbers_and_settings_and_never_markup_from_outside(made, studied, tmp_path):
    page = (made[0] / "report.html").read_text()
    summary = read_json(made[0] / "summary.json")
    share = f"{summary['parts']['all']['shifted']['value']:.1%}"
    for text in (share, "90% interval", "toy &amp; more", "first 5%", "4 of 6", "tiny &lt;run&gt;"):
        assert text in page
    assert page.count('class="tokens"') == 3  # two responses and the legend
    whole = replace(TokenShift(**CHOSEN), shown=6, limit=None)
    whole.make(studied, tmp_path)
    assert "red &lt;b&gt;bold" in (tmp_path / "report.html").read_text()
    assert "<b>bold" not in (tmp_path / "report.html").read_text()


def test_the_same_run_gives_the_same_bytes(made, studied, tmp_path):
    TokenShift(**CHOSEN).make(studied, tmp_path)
    one, two = (
        {path.name: path.read_bytes() for path in where.iterdir()} for where in (made[0], tmp_path)
    )
    assert one == two


@pytest.mark.parametrize(
    "given",
    [
        {"base_context": "query"},
        {"top_k": 5},
        {"top_k": 5, "match": "text"},
        {"unit": "sentence", "first_share": 0.4},
    ],
    ids=str,
)
def test_each_other_choice_changes_the_numbers_and_is_told_on_the_page(
    made, studied, tmp_path, given
):
    TokenShift(**(CHOSEN | given)).make(studied, tmp_path)
    found = [
        (read_json(where / "summary.json")["parts"], (where / "report.html").read_text())
        for where in (made[0], tmp_path)
    ]
    (plain, plain_page), (other, page) = found
    assert plain != other
    told = {"base_context": "# Query:", "top_k": "5 most likely", "unit": "of each sentence"}
    text = told[next(iter(given))]
    assert text in page
    assert text not in plain_page
    if given.get("match") == "text":
        assert "matched by decoded text" in page


def test_bytes_that_spell_nothing_alone_are_one_token_by_text(studied, tmp_path):
    found = []
    for match in ("id", "text"):
        (tmp_path / match).mkdir()
        TokenShift(**(CHOSEN | {"top_k": 60, "match": match})).make(studied, tmp_path / match)
        found.append(read_json(tmp_path / match / "summary.json")["parts"]["all"])
    assert found[0]["kl_base_tuned"] != found[1]["kl_base_tuned"]


def test_a_part_without_responses_has_no_bar(made):
    parts = read_json(made[0] / "summary.json")["parts"]
    labels = {"all": "all positions", "stop": "stop token"}
    nothing = dict.fromkeys(parts["stop"])
    drawn = shares_figure(parts | {"stop": nothing}, labels)
    assert drawn == shares_figure(parts, {"all": "all positions"})
    assert drawn.startswith(b"\x89PNG")
    assert drawn != shares_figure(parts | {"stop": parts["first"]}, labels)


def counted(*tokens: tuple[str, int, int], loops: int = 0) -> dict:
    """What a summary says of ten responses: text, positions, those of the stop token."""
    made = [dict(zip(("text", "count", "at_the_stop"), token, strict=True)) for token in tokens]
    return {"tokens": made, "items": 10, "loops": loops}


def test_one_token_all_over_is_pointed_out():
    rest = [(str(i), 5, 0) for i in range(4)]
    assert warnings_of(counted((" 0", 3, 0), *rest)) == []
    (said,) = warnings_of(counted((" 0", 20, 0), *rest))
    assert said.startswith("50% of the positions before the stop token have one choice, '␣0'")


def test_the_stop_token_of_short_responses_is_no_loop():
    words = [(str(i), 2, 0) for i in range(5)]
    assert warnings_of(counted(("<end>", 10, 10), *words)) == []
    assert warnings_of(counted(("<end>", 10, 10))) == []  # nothing but stop tokens
    assert len(warnings_of(counted(("<end>", 10, 0), *words))) == 1


def test_loops_are_pointed_out_however_long_their_block():
    words = [(str(i), 2, 0) for i in range(9)]
    assert warnings_of(counted(*words, loops=2)) == []
    (said,) = warnings_of(counted(*words, loops=3))
    assert said.startswith("3 of 10 responses end in a loop")


@pytest.mark.parametrize("top_k", [1, 2])
def test_lists_too_short_for_a_shifted_rank_are_refused(top_k):
    with pytest.raises(ConfigError, match="none ever would be"):
        TokenShift(**(CHOSEN | {"top_k": top_k}))
    assert TokenShift(**(CHOSEN | {"top_k": 3})).top_k == 3


def test_small_first_parts_are_called_what_they_are():
    labels = part_labels({"first_share": 0.001, "unit": "response"})
    assert (labels["first"], labels["last"]) == ("first 0.1%", "last 99.9%")
    labels = part_labels({"first_share": 0.05, "unit": "response"})
    assert (labels["first"], labels["last"]) == ("first 5%", "last 95%")


def test_texts_can_be_matched_in_lists_only():
    with pytest.raises(ConfigError, match="top_k=30"):
        TokenShift(**(CHOSEN | {"match": "text"}))


def test_one_item_is_no_analysis(studied, tmp_path):
    with pytest.raises(RunError, match="1 items"):
        TokenShift(**(CHOSEN | {"limit": 1})).make(studied, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_config_compares_whole_vocabularies_in_the_same_context():
    conf = Path(__file__).resolve().parents[2] / "conf"
    found = compose_component(conf, "evaluate", ["run=abc", "analysis=shift"]).analysis
    assert (found.top_k, found.base_context, found.choice) == (None, "same", "argmax")
    assert found.name == "shift"


@pytest.mark.parametrize("most", [1, 3, 7, 10, None])
def test_items_are_taken_evenly_and_in_order(most):
    taken = evenly(range(10), most)
    assert len(taken) == (most or 10)
    gaps = {b - a for a, b in pairwise(taken)}
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert min(gaps, default=1) > 0


def test_the_published_frame_of_the_base_holds_the_instruction():
    assert QUERY.count("{prompt}") == 1
    assert QUERY.startswith("# Query:")
    assert QUERY.endswith("# Answer: \n ```")

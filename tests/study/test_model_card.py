"""The card shows what was measured, with everything that must be known beside it."""

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from heed.core.files import write_json
from heed.study.model_card import results_section, write_results
from heed.training.card import RESULT, code_of

DELTA = {
    "metric": "play/acc", "before": 0.25, "after": 0.5, "delta": 0.25, "low": 0.125, "high": 0.375,
    "items": 64, "verdict": "helped", "lower_is_better": False, "mde": 0.111, "p": 0.002,
    "flips": [20, 4], "mcnemar": 0.0015,
}  # fmt: skip
OTHER = DELTA | {"metric": "books/nats", "verdict": "cannot tell", "flips": None, "mcnemar": None}
CONTROLS = {
    "metric": "play/acc", "best": "sure", "beaten": {"before": False, "after": True},
    "note": "Chosen on these items.",
    "rows": [{
        "control": "sure", "what": "says Sure", "input_blind": True, "value": 0.3125,
        "deltas": {who: DELTA | {"delta": 0.1875} for who in ("before", "after")},
    }],
}  # fmt: skip
CARD = (
    f"---\nlibrary_name: peft\n---\n\n# t\n\n{RESULT}\n{RESULT}\n\n"
    f"## Loading it\n\n```python\nx\n```\n"
)


def result(**changes: Any) -> dict[str, Any]:
    fit = {"optimiser_steps": 7, "parameters_trained": 1234, "parameters": 56789}
    names = dict.fromkeys(("student", "teacher", "method", "lr", "lr_peak"), "named")
    usual = names | {
        "suite_name": "play", "seed": 3, "run": "0123456789ab", "code": "a commit", "fit": fit,
        "primary": "play/acc", "level": 0.95, "deltas": [DELTA, OTHER], "controls": CONTROLS,
        "form": None, "also": None,
        "flags": [{"kind": "controls", "text": "It beats <b>nothing</b>."}],
        "notes": ["rows: 9 examples in 7 optimiser steps (1 over-long dropped)"],
    }  # fmt: skip
    return usual | changes


def run_with(directory: Path, folder: str = "model") -> Path:
    card = directory / folder / "README.md"
    card.parent.mkdir(parents=True)
    card.write_text(CARD)
    return card


@pytest.mark.parametrize(
    "said",
    [
        "**helped**",
        "same 64 items",
        "seed 3",
        "| play/acc \\* | 0.250 | 0.500 | +0.250 | +0.125 to +0.375 | 64 | helped |",
        "| books/nats | 0.250 | 0.500 | +0.250 | +0.125 to +0.375 | 64 | cannot tell |",
        "| play/acc | 0.002 | 0.111 | 20 / 4 | 0.0015 |",
        "Flag: It beats &lt;b&gt;nothing&lt;/b&gt;.",
        "| sure \\* | 0.312 |",
        "1,234 of 56,789 parameters",
        "1 over-long dropped",
        "run 0123456789ab",
    ],
)
def test_the_section_says(said: str):
    assert said in results_section([result()])


def test_no_flags_and_flags_that_were_never_looked_for_are_two_things():
    assert "No flags." in results_section([result(flags=[])])
    assert "No flags." not in results_section([result(flags=None)])


def test_only_the_task_of_the_verdict_stands_under_how_sure():
    sure = results_section([result()]).split("### How sure")[1].split("###")[0]
    assert "play/acc" in sure
    assert "books/nats" not in sure


def test_the_card_keeps_all_else_and_the_hub_can_read_it(tmp_path: Path):
    cards = [run_with(tmp_path, name) for name in ("model", "merged")]
    write_results(tmp_path, result())
    for card in cards:
        text = card.read_text()
        before, _, rest = text.partition(RESULT)
        assert before + RESULT + "\n" + RESULT + rest.partition(RESULT)[2] == CARD
        assert code_of(text) == "x\n"
        assert ModelCard(text).data.library_name == "peft"
        assert "**helped**" in text


def test_results_of_several_suites_stand_side_by_side_each_once(tmp_path: Path):
    card = run_with(tmp_path)
    write_json(tmp_path / "scores" / "core" / "result.json", result(suite_name="core"))
    for _ in range(2):
        write_results(tmp_path, result())
        write_json(tmp_path / "scores" / "play" / "result.json", json.loads(json.dumps(result())))
        assert [line for line in card.read_text().splitlines() if line.startswith("## R")] == [
            "## Result on core",
            "## Result on play",
        ]


def test_a_run_without_a_card_stays_without(tmp_path: Path):
    write_results(tmp_path, result())
    assert not list(tmp_path.iterdir())

"""It is said where nobody has looked for a suite's prompts in what a run was trained on."""

from pathlib import Path
from typing import Any

import pytest
from tiny import Finished, cell

from heed.core.files import read_json
from heed.study.overlap import overlap_notes, prompts_of


def looked_for(prompts: str) -> dict[str, Any]:
    """What a manifest records, as far as it matters."""
    return {"data": {"overlap": {"prompts": prompts}}}


def test_nothing_is_said_if_these_prompts_were_looked_for(tmp_path: Path):
    here = cell(tmp_path)
    assert prompts_of(here.suite) == here.prompts()
    assert overlap_notes(looked_for(here.prompts().digest), here.suite) == []


def test_prompts_that_were_not_looked_for_are_told_with_the_way_to_count_them(tmp_path: Path):
    suite = cell(tmp_path, "suite.tasks.play_follow.world=2").suite
    other = cell(tmp_path).prompts().digest
    (told,) = overlap_notes(looked_for(other), suite)
    assert "the prompts of another suite" in told
    assert f"suite={suite.name} and debug=data" in told
    for record in ({}, {"data": {}}, {"data": {"overlap": None}}):
        (told,) = overlap_notes(record, suite)
        assert "searched for no prompts" in told


@pytest.mark.slow
def test_a_finished_run_says_nothing_of_the_prompts_that_it_looked_for(finished: Finished):
    fit = read_json(finished.run / "manifest.json")["fit"]
    assert overlap_notes(fit, finished.cell.suite) == []
    notes = [
        *finished.result["notes"],
        *read_json(finished.run / "scores/play/manifest.json")["notes"],
    ]
    assert not [note for note in notes if "has been searched for" in note]
    other = cell(finished.root, "suite.tasks.play_follow.world=2").suite
    (told,) = overlap_notes(fit, other)
    assert "the prompts of another suite" in told

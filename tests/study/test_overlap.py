"""It is said where nobody has looked for a suite's prompts in what a run was trained on."""

from pathlib import Path

from tiny import cell

from heed.study.overlap import overlap_notes, prompts_of


def test_nothing_is_said_if_these_prompts_were_looked_for(tmp_path: Path):
    here = cell(tmp_path)
    assert prompts_of(here.suite) == here.prompts()
    assert overlap_notes({"overlap": {"prompts": here.prompts().digest}}, here.suite) == []


def test_prompts_that_were_not_looked_for_are_told_with_the_way_to_count_them(tmp_path: Path):
    suite = cell(tmp_path, "suite.tasks.play_follow.world=2").suite
    other = cell(tmp_path).prompts().digest
    (told,) = overlap_notes({"overlap": {"prompts": other}}, suite)
    assert "the prompts of another suite" in told
    assert f"suite={suite.name} and debug=data" in told
    for record in ({}, {"overlap": None}):
        (told,) = overlap_notes(record, suite)
        assert "searched for no prompts" in told

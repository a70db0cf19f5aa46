"""A scoring by several ranks gives what one process gives: the same items, texts and numbers."""

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import scoring_cases as cases
from forked import run_ranks

from heed.core.files import read_json, read_jsonl
from heed.study.scores import Kept, scores_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(student, shared_data: Path, tmp_path_factory) -> Path:
    """A student on disk, and the prompts of IFEval."""
    where = tmp_path_factory.mktemp("ranks")
    varied = replace(student.architecture, context=4096, tied=False, init_std=0.5)
    fresh = replace(student, architecture=varied).fresh()
    fresh.model.save_pretrained(where / "model")
    fresh.tokenizer.save_pretrained(where / "model")
    prompts = (shared_data / "ifeval" / "ifeval_input_data.jsonl").read_bytes()
    (where / "prompts.jsonl").write_bytes(prompts)
    return where


@pytest.fixture(scope="module")
def alone(folder: Path) -> Kept:
    """The scores that one process makes."""
    return scores_of(cases.subject(folder, "world1"), cases.suite(folder))


@pytest.fixture(scope="module")
def groups(folder: Path, alone: Kept) -> dict[int, list[tuple[Any, str]]]:
    """Two ranks that stop in the middle, and three that go on there and stop elsewhere."""
    return {world: run_ranks(world, partial(cases.take_part, folder)) for world in (2, 3)}


def kept_by(folder: Path, name: str) -> Path:
    return cases.subject(folder, name).directory(cases.suite(folder))


def answers_of(directory: Path) -> list[Any]:
    return [
        [row["task"], row["key"], row["response"], row["stop"], row["metrics"]]
        for row in read_jsonl(directory / "items.jsonl")
    ]


@pytest.mark.parametrize("world", [2, 3])
def test_items_texts_and_numbers_are_those_of_one_process(folder, alone: Kept, groups, world: int):
    assert len(groups[world]) == world
    found = kept_by(folder, f"world{world}")
    texts = {item.response for item in alone.sheet.items}
    assert Counter(item.task for item in alone.sheet.items)["said"] == 541
    assert len(texts) > 300, "a student that says the same to all would hide a mix-up"
    assert answers_of(found) == answers_of(alone.directory)
    for name in ("summary.json", "events.json", "fingerprint.json"):
        assert (found / name).read_bytes() == (alone.directory / name).read_bytes()
    assert read_json(found / "events.json")[cases.TOLD] == 541


@pytest.mark.parametrize("world", [2, 3])
def test_the_scores_of_a_group_leave_no_journal(folder, groups, world: int):
    directory = kept_by(folder, f"world{world}")
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]


def test_what_two_stopped_ranks_answered_is_not_asked_by_three(folder, alone, groups):
    directory = kept_by(folder, "stopped2")
    events = read_json(directory / "events.json")
    assert events["answer kept from an interrupted scoring"] == 20 + 30
    assert events[cases.TOLD] == 541 - 50
    assert answers_of(directory) == answers_of(alone.directory)
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]


def test_what_three_stopped_ranks_answered_is_not_asked_by_one(folder, alone, groups):
    directory = kept_by(folder, "stopped3")
    assert len(list(directory.parent.iterdir())) == 3
    kept = scores_of(cases.subject(folder, "stopped3"), cases.suite(folder))
    assert kept.sheet.events["answer kept from an interrupted scoring"] == 20 + 30 + 40
    assert kept.sheet.events[cases.TOLD] == 541 - 90
    assert answers_of(directory) == answers_of(alone.directory)
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]


def test_the_leader_can_score_alone_while_the_others_wait(folder, alone, groups):
    assert groups[2][0][0]["alone"] == alone.sheet.items


def test_prompts_that_do_not_fit_are_refused_by_every_rank_as_by_one(folder, groups):
    said = cases.said_of(
        lambda: scores_of(cases.subject(folder, "world1"), cases.suite(folder, max_new_tokens=4000))
    )
    assert " of 541 prompts do not fit" in said
    assert groups[3][0][0]["long"] == said
    assert [refused for refused, _ in groups[3][1:]] == [[said], [said]]


def test_a_backend_with_processes_of_its_own_is_refused(folder, groups):
    said = groups[2][0][0]["vllm"]
    assert "VLLMBackend" in said
    assert "trainer.devices=1" in said


def test_only_the_leader_prints_and_says_of_what(groups):
    lead, *others = (printed for _, printed in groups[3])
    assert "on 3 ranks" in lead
    assert "said, first of 3 shares: " in lead
    assert "541/541 prompts" in lead
    assert others == ["", ""]

"""A training as a job of several ranks: it travels, and who does not lead leaves no trace of it."""

import pickle
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from forked import run_ranks
from tiny import cell

from heed.core import ranks
from heed.core.component import component
from heed.core.errors import RunError
from heed.core.files import read_json, read_jsonl
from heed.study import crew, run_cell
from heed.study.bases import load_base, make_base
from heed.study.fit_job import Pretrain, Tune
from heed.study.run_cell import surroundings
from heed.tracking.tracker import LocalOnly
from heed.training import fit as fits
from heed.training.run import base_run

WRITES = ("open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "shutil.rmtree")


def tiny(root: Path) -> Any:
    return cell(root, "also=none")


def test_a_training_travels_to_other_ranks_as_it_is(tmp_path: Path):
    made = tiny(tmp_path)
    there = pickle.loads(pickle.dumps(Tune(made)))
    assert there == Tune(made)
    assert there.cell.run.id == made.run.id
    run = base_run(made.model)
    job = Pretrain(run, surroundings(made), tmp_path / "runs" / run.directory)
    there = pickle.loads(pickle.dumps(job))
    assert (there.run, there.directory) == (job.run, job.directory)
    for part in ("trainer", "callbacks", "root", "preflight"):
        assert getattr(there.around, part) == getattr(job.around, part), part


def test_who_does_not_lead_trains_the_same(tmp_path: Path, monkeypatch):
    made = tiny(tmp_path)
    asked: dict[str, Any] = {}
    loaded = object()

    def load_base(student: Any, around: Any, root: Path) -> Any:
        asked["base"] = student, root
        return loaded

    monkeypatch.setattr("heed.study.bases.load_base", load_base)
    monkeypatch.setattr(fits, "fit", lambda *given: asked.update(fit=given))
    Tune(made).take_part()
    assert asked["base"] == (made.model, made.root)
    recipe, student, around, directory, prompts = asked["fit"]
    assert (recipe, directory, prompts) == (made.run.recipe, made.directory, made.prompts())
    assert student is loaded
    assert around.trainer == made.trainer
    assert around.callbacks == made.callbacks, "all ranks do the same at every step"


@component
class Mirror(LocalOnly):
    """A mirror somewhere else."""


def test_the_others_are_called_after_the_base_is_there_and_get_no_mirror(tmp_path, monkeypatch):
    made, noted = replace(tiny(tmp_path), logger=Mirror()), []

    def load_base(*_: Any) -> Any:
        noted.append("base")
        return SimpleNamespace(source="", revision="")

    def call(job: Any) -> None:
        noted.append(job)
        raise ZeroDivisionError  # the rest is the leader's

    monkeypatch.setattr(run_cell, "load_base", load_base)
    monkeypatch.setattr(run_cell, "digest_model", lambda *_: "digest")
    monkeypatch.setattr(run_cell, "call", call)
    made.directory.mkdir(parents=True)
    with pytest.raises(ZeroDivisionError):
        run_cell._fit(made, made.directory)
    base, job = noted
    assert base == "base"
    assert type(job.cell.logger) is LocalOnly
    assert replace(job.cell, logger=made.logger) == made


def test_memory_that_is_used_up_is_told_by_the_rank_that_has_none(tmp_path: Path, monkeypatch):
    made = tiny(tmp_path)

    def full(*_: Any) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr(fits, "fit", full)
    run = base_run(made.model)
    with pytest.raises(RunError, match="the memory of cpu is used up in the training"):
        Pretrain(run, surroundings(made), tmp_path).take_part()


def written_by(root: Path) -> set[str]:
    """Note from now on what this process writes below a folder, by what Python says it does."""
    found: set[str] = set()

    def note(event: str, given: tuple[Any, ...]) -> None:
        if event not in WRITES or (event == "open" and not writes(given)):
            return
        for path in given:
            if isinstance(path, str | Path) and Path(path).is_relative_to(root):
                found.add(str(Path(path).relative_to(root)))

    sys.addaudithook(note)
    return found


def writes(given: tuple[Any, ...]) -> bool:
    mode, flags = given[1], given[2]
    return bool(set(mode or "") & set("wax+")) or bool(flags & 3)


def train_together(root: Path, strategy: str) -> set[str]:
    """Pre-train and tune as a cell does; what this rank has written."""
    fits.check_fresh = lambda *_: 0.0
    made = tiny(root)
    settings = replace(made.trainer, devices=2, strategy=strategy)
    made = replace(made, trainer=settings)
    found = written_by(root)
    if not ranks.leads():
        crew.follow()
        return found
    around = surroundings(made)
    make_base(made.model, around, made.root)
    crew.call(Tune(made))
    fits.fit(
        made.run.recipe, load_base(made.model, around, made.root), around, made.directory,
        made.prompts(),
    )  # fmt: skip
    crew.dismiss()
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_who_does_not_lead_writes_nothing_of_a_run(strategy: str, tmp_path: Path):
    lead, other = run_ranks(2, partial(train_together, tmp_path, strategy))
    made = tiny(tmp_path)
    assert f"runs/{made.directory.name}/metrics.jsonl" in lead, "what is written is noted"
    # who comes first makes the tokens, under a lock
    assert [
        path for path in sorted(other) if path.partition("/")[0] not in ("cache", "locks")
    ] == []
    assert all("/tokens-" in path for path in other if path.startswith("locks/"))
    rows = read_jsonl(made.directory / "metrics.jsonl")
    steps = [row["step"] for row in rows if "loss" in row]
    assert steps == sorted(set(steps)), "each step is written once"
    assert (made.directory / "model").is_dir()
    base = base_run(made.model)
    assert (tmp_path / "runs" / base.directory / "DONE").is_file()
    assert read_json(tmp_path / "runs" / base.directory / "manifest.json")["fit"]["strategy"] == (
        strategy
    )

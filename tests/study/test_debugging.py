"""Each way of debugging does what it says, and none of them reads as a finding."""

import pdb
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from tiny import ROOT, Finished, cell

from heed.core.compose import compose_component
from heed.core.errors import HeedError, RunError
from heed.core.files import read_json
from heed.study import debugging
from heed.study.bases import load_base
from heed.study.debugging import post_mortem, say_overfit
from heed.study.flags import debug_flags, preflight_flags
from heed.study.ledger import latest
from heed.study.result import judged
from heed.study.run_cell import run_cell, surroundings
from heed.tracking.tracker import LocalOnly
from heed.training.profile import Profile


def composed(*words: str):
    return compose_component(ROOT / "conf", "train", words)


@pytest.mark.parametrize("mode", ["fast", "overfit", "profile", "pdb"])
def test_each_way_composes_and_is_named(mode):
    made = composed(f"debug={mode}")
    assert made.debugging == mode
    assert composed().debugging is None
    changed = made.run.id != composed().run.id
    assert changed is (mode != "pdb")  # that one looks at the very run


def test_a_profile_is_watched_and_a_handful_is_all_of_a_step():
    assert isinstance(composed("debug=profile").callbacks["profile"], Profile)
    few = composed("debug=overfit").data
    assert few.limit == few.examples_per_step == 8


def fitted(last: float) -> dict:
    return {
        "examples": 8,
        "optimiser_steps": 300,
        "final_loss_nats_per_token": last,
        "preflight": {"base_loss": 2.0},
    }


def test_a_loss_near_zero_is_said(capsys):
    say_overfit(fitted(0.0123))
    assert "from 2.000 to 0.0123 nats/token, near 0" in capsys.readouterr().out


@pytest.mark.parametrize("last", [0.1, 3.0, float("nan")])
def test_a_loss_that_is_not_near_zero_ends_the_command(last):
    with pytest.raises(RunError, match=r"not near 0 \(below 0.1\).*lr\.peak ten times"):
        say_overfit(fitted(last))


@pytest.fixture
def at_once(monkeypatch):
    """A training that takes no time, and what it was given."""
    given = []

    def fit(recipe, loaded, around, directory, prompts=None):
        given.append((directory, around, loaded))
        (directory / "metrics.jsonl").write_text("{}")
        return fitted(0.01)

    monkeypatch.setattr("heed.training.fit.fit", fit)
    monkeypatch.setattr("heed.study.debugging.load_base", lambda *_: "the base")
    return given


@pytest.mark.parametrize("mode", ["overfit", "profile"])
def test_what_looks_at_the_training_alone_has_a_folder_of_its_own(at_once, tmp_path, mode, capsys):
    here = replace(cell(tmp_path), debugging=mode)
    (tmp_path / "debug" / f"{mode}--{here.run.directory}" / "old").mkdir(parents=True)
    run_cell(here)
    ((made, around, loaded),) = at_once
    assert made == tmp_path / "debug" / f"{mode}--{here.run.directory}"
    assert loaded == "the base"
    assert isinstance(around.tracker, LocalOnly)
    assert not (made / "old").exists()
    assert read_json(made / "manifest.json")["fit"] == fitted(0.01)
    assert not here.directory.exists()
    assert latest(tmp_path) == {}
    assert ("near 0" in capsys.readouterr().out) is (mode == "overfit")


@pytest.mark.slow
def test_a_profile_trains_and_scores_nothing(finished: Finished, tmp_path):
    finished.copy(tmp_path)
    before = latest(tmp_path)
    profile = {"profile": Profile(skip=1, rows=5)}
    here = replace(cell(tmp_path, "data.steps=2", "data.limit=16"), debugging="profile")
    run_cell(replace(here, callbacks=profile))
    (made,) = (tmp_path / "debug").glob("profile--*/")
    assert (made / "profile.txt").is_file()
    assert not (made / "scores").exists()
    assert not (made / "checkpoints").exists()
    assert not here.directory.exists()
    assert latest(tmp_path) == before


@pytest.mark.slow
def test_a_fast_run_carries_its_flag_and_has_no_verdict(finished: Finished):
    result = finished.result
    assert "debug" in [flag["kind"] for flag in result["flags"]]
    told = [*result["deltas"], *result["also"]["deltas"]]
    assert {delta["verdict"] for delta in told} == {"cannot tell"}


def test_a_run_that_is_meant_keeps_its_verdicts():
    deltas = [{"metric": "a/b", "verdict": "helped", "delta": 0.5}]
    assert judged(deltas, None) == judged(deltas, "pdb") == deltas
    assert judged(deltas, "fast") == [deltas[0] | {"verdict": "cannot tell"}]
    assert debug_flags(None) == debug_flags("pdb") == []
    assert [flag["kind"] for flag in debug_flags("fast")] == ["debug"]


def test_a_training_past_a_failed_preflight_is_flagged():
    (flag,) = preflight_flags({"preflight": {"failed": ["saved = reloaded"]}})
    assert flag["kind"] == "preflight"
    assert "saved = reloaded" in flag["text"]
    assert preflight_flags({"preflight": {"failed": []}}) == []
    assert preflight_flags({"preflight": {"packed_difference": 0.0}}) == []  # an older record


def test_preflight_goes_from_the_command_to_the_fit():
    assert surroundings(composed()).preflight == "block"
    assert surroundings(composed("preflight=warn")).preflight == "warn"
    assert composed("preflight=warn").run.id == composed().run.id


def test_looks_are_left_out_of_a_pretraining(at_once, tmp_path):
    made = composed("callbacks=watch", f"outputs={tmp_path}")
    assert {"samples", "score"} <= set(made.callbacks)
    with pytest.raises(HeedError):  # nothing was trained, so there is nothing to be loaded
        load_base(made.model, surroundings(made), tmp_path)
    ((_, around, _),) = at_once
    assert set(around.callbacks) == {"metrics", "progress", "validation", "checkpoints"}


@pytest.fixture
def terminal(monkeypatch):
    """A terminal, and what the debugger was opened on."""
    opened = []
    screen = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr(debugging, "sys", SimpleNamespace(
        stdin=screen, stdout=screen, exc_info=sys.exc_info))  # fmt: skip
    monkeypatch.setattr(pdb, "post_mortem", opened.append)
    return opened


PDB = SimpleNamespace(debugging="pdb")


def test_the_debugger_opens_where_an_exception_was_raised(terminal):
    with pytest.raises(ZeroDivisionError), post_mortem(PDB):
        raise ZeroDivisionError
    (place,) = terminal
    assert place is not None


def test_the_debugger_stays_shut_where_nothing_is_wrong_or_nobody_asked(terminal):
    with post_mortem(PDB):
        pass
    with pytest.raises(ZeroDivisionError), post_mortem(SimpleNamespace(debugging=None)):
        raise ZeroDivisionError
    assert terminal == []


def test_without_a_terminal_the_debugger_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))
    ran = []
    with pytest.raises(RunError, match="needs a terminal"), post_mortem(PDB):
        ran.append(1)
    assert not ran

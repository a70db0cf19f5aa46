"""When a checkpoint is written: by steps, by time, at the end, and when a signal asks."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import lightning
import pytest
import torch

from heed.core.component import component
from heed.core.errors import StoppedError
from heed.core.files import read_json
from heed.models.student import load
from heed.tracking.tracker import LocalOnly
from heed.training.callbacks import Metrics, Watched, Watcher
from heed.training.checkpoints import Checkpoints
from heed.training.fit import fit
from heed.training.signals import ASKING, Asked

STEPS = 3  # 24 examples, 8 a step


@component
class Signals(Watcher):
    """Sends this process a signal within a step."""

    step: int
    number: int
    times: int = 1

    def build(self, watched):
        own = self

        class Send(lightning.Callback):
            def on_train_batch_start(self, trainer, module, *_):
                if module.done + 1 == own.step:
                    for _ in range(own.times):
                        os.kill(os.getpid(), own.number)

        return Send()


@pytest.fixture
def start(around, recipe_of, saved_base, template):
    def run(directory: Path, *signals: Signals):
        watchers = {
            "checkpoints": Checkpoints(every_steps=None, every_minutes=None, keep=1),
            "metrics": Metrics(every_steps=1),
        } | dict(enumerate(signals))
        loaded = load(str(saved_base), name="tiny", template=template)
        record = fit(recipe_of(), loaded, replace(around, callbacks=watchers), directory)
        return torch.cat([p.detach().flatten() for p in loaded.model.parameters()]), record

    return run


@pytest.mark.parametrize("number", ASKING)
@pytest.mark.parametrize("step", [1, 2, STEPS])
def test_a_signal_ends_a_training_after_its_step_and_the_same_command_goes_on(
    start, tmp_path: Path, number: signal.Signals, step: int, capfd
):
    before = [signal.getsignal(one) for one in ASKING]
    with pytest.raises(
        StoppedError, match=rf"{number.name} .* step {step} of 3, and all of"
    ) as got:
        start(tmp_path / "run", Signals(step=step, number=number))
    assert got.value.exit_code == 128 + number
    assert "Asked to end: this optimiser step is finished" in capfd.readouterr().err
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == [str(step)]
    assert [signal.getsignal(one) for one in ASKING] == before
    weights, record = start(tmp_path / "run")
    assert record["resumed"] == [step]
    assert torch.equal(weights, start(tmp_path / "whole")[0])


def test_a_second_control_c_ends_at_once(start, tmp_path: Path):
    with pytest.raises(SystemExit):  # as Lightning makes of KeyboardInterrupt
        start(tmp_path, Signals(step=2, number=signal.SIGINT, times=2))
    assert not (tmp_path / "checkpoints").exists()


def test_signals_are_listened_to_in_the_main_thread_only():
    before = signal.getsignal(signal.SIGTERM)
    asked = Asked()
    thread = threading.Thread(target=asked.listen)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
    asked.stop_listening()


STOPPED = """
import signal
from pathlib import Path

from heed.core import check
from heed.core.errors import StoppedError

check.mistakes_of = lambda overrides: []
check.build_config = lambda config: config.x


@check.main("root", conf=Path.cwd())
def command(root):
    print("called with", root)
    raise StoppedError("all is kept", signal.SIGTERM)


command()
"""


def test_a_command_that_was_asked_to_end_has_an_exit_code_of_its_own(tmp_path: Path):
    (tmp_path / "root.yaml").write_text("_target_: test_checkpoints.Root\n")
    (tmp_path / "command.py").write_text(STOPPED)
    line = [sys.executable, "command.py", "-m", "+x=1,2"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)  # resets logging
    assert done.returncode == 128 + signal.SIGTERM
    called = [row for row in done.stdout.splitlines() if row.startswith("called with")]
    assert called == ["called with 1"], "the other runs of a multirun do not begin"
    assert "Stopped\nall is kept" in done.stderr


class Session:
    def __init__(self):
        self.steps = []

    def write(self, trainer, module, keep):
        self.steps.append((module.done, keep))


@pytest.mark.parametrize(
    ("every", "minutes", "written"),
    [(None, None, [8]), (3, None, [3, 6, 8]), (4, 2.5, [3, 4, 7, 8]), (None, 1.0, [*range(1, 9)])],
)
def test_by_steps_by_minutes_and_at_the_end(
    monkeypatch, tmp_path: Path, every: int | None, minutes: float | None, written: list[int]
):
    """A step takes a minute."""
    now = [0.0]
    monkeypatch.setattr("heed.training.checkpoints.time.monotonic", lambda: now[0])
    session = Session()
    watched = Watched(tmp_path, LocalOnly(), session=session)
    keep = Checkpoints(every_steps=every, every_minutes=minutes, keep=2).build(watched)
    trainer = SimpleNamespace(is_global_zero=True, should_stop=False)
    module = SimpleNamespace(done=0, steps=8, wishes={}, wished=frozenset())
    keep.on_train_start(trainer, module)
    for done in range(1, 9):
        module.done, now[0] = done, 60.0 * done
        module.wished = {name for name, wish in module.wishes.items() if wish()}
        keep.on_train_batch_end(trainer, module)
    keep.on_train_end(trainer, module)
    assert session.steps == [(step, 2) for step in written]


def test_a_checkpoint_can_be_read_by_anyone(start, tmp_path: Path):
    with pytest.raises(StoppedError):
        start(tmp_path, Signals(step=2, number=signal.SIGTERM))
    state = read_json(tmp_path / "checkpoints/2/state.json")
    assert (state["step"], state["finished"], state["module"]["done"]) == (2, False, 2)
    assert state["about"].keys() == {
        "recipe", "base", "versions", "plan", "frozen weights"
    }  # fmt: skip

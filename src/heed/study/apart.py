"""A cell in a process of its own: begun from one resolved config file, watched, its end recorded.

What happens is read from the ledger and from disk, never from what a launcher gives back.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from heed.analysis.analysis import Analysis
from heed.core.component import plain
from heed.core.compose import typed
from heed.core.config import build_config
from heed.core.console import progress_console
from heed.core.errors import RunError
from heed.core.files import append_line, read_json, write_yaml
from heed.core.locks import HeldError, lock
from heed.study.cell import Cell
from heed.study.devices import Claim, claimed
from heed.study.ledger import last_word, record
from heed.study.live import shown
from heed.study.mirror import axis_tags
from heed.study.part import Part, file_of, is_missing, on_what_it_uses, title_of
from heed.study.plan import State
from heed.study.srun import NEEDED
from heed.study.supervisor import (
    Ended,
    Limits,
    Signals,
    forget_reasons,
    is_alone,
    is_one_job,
    log_of,
    reason_file,
    tail_of,
    watch,
)
from heed.study.wanted import has_result, keeps_result, key_of, why_not

SAY = progress_console()


@dataclass(frozen=True)
class Apart:
    """What a launcher is handed: called with a composed config, it sees one cell through.

    Attributes:
        part: The scores before tuning, the whole cell, or an analysis of the finished one.
        wait: Whether to wait for a cell that another sweep is at, or to leave it.
        retry: Whether a cell that has failed is run again.
        heard: Bytes of the ledger when the command began: what has failed since is not run again.
            None: since the cell is asked for.
        on_fail: Whether cells are begun after one has failed.
        cell_timeout: Seconds until a cell counts as hung; None: never.
        halt: File that says that no more cells are to be begun; None: nothing says so.
        analysis: Which, where that is the part.
        live: Whether what it prints is shown while it comes.
        study: The study it belongs to, for its mirror; None: none.
        axes: Keys in which the study's cells differ.
        offline: Whether the mirror's server is known to be out of reach.
    """

    part: Part = "cell"
    wait: bool = True
    retry: bool = False
    heard: int | None = None
    on_fail: Literal["continue", "stop"] = "continue"
    cell_timeout: float | None = None
    halt: str | None = None
    analysis: Analysis | None = None
    live: bool = False
    study: str | None = None
    axes: tuple[str, ...] = ()
    offline: bool = False

    def __call__(self, config: Any) -> float | None:
        """See one cell through; the change of its primary metric, None where it has none."""
        cell: Cell = build_config(config)
        see_through(cell, self, typed())
        return _change(cell)

    def placed(self, cell: Cell, overrides: Sequence[str]) -> Cell:
        """A cell whose mirror knows the study; the run is the same."""
        if self.study is None:
            return cell
        tags = axis_tags(self.axes, overrides)
        logger = cell.logger.within(self.study, tags, offline=self.offline)
        return replace(cell, logger=logger)

    @property
    def halted(self) -> bool:
        """Whether no more cells are to be begun."""
        return self.halt is not None and Path(self.halt).exists()

    @property
    def ended(self) -> bool:
        """Whether those under way are to end, too."""
        return self.halt is not None and Path(f"{self.halt}.end").exists()

    def stop_others(self) -> None:
        """Begin no more cells."""
        if self.halt is not None:
            Path(self.halt).parent.mkdir(parents=True, exist_ok=True)
            Path(self.halt).touch()

    def end_all(self) -> None:
        """Begin no more cells, and end those under way, wherever they run."""
        self.stop_others()
        if self.halt is not None:
            Path(f"{self.halt}.end").touch()

    def forget(self) -> None:
        """Remove the signs of both."""
        if self.halt is not None:
            Path(self.halt).unlink(missing_ok=True)
            Path(f"{self.halt}.end").unlink(missing_ok=True)


def run_apart(cell: Cell) -> float | None:
    """One of several runs of a command, under any sweeper of Hydra's.

    Returns:
        The change of its primary metric.

    Raises:
        RunError: it failed, or what more was wanted of it did.
    """
    how = Apart(retry=True)
    see_through(cell, how, typed())
    need_all(cell, how)
    return _change(cell)


def need_all(cell: Cell, how: Apart) -> None:
    """Say why a cell that was seen through lacks some of what is wanted of it, if it does.

    Raises:
        RunError: with the reason, and with the log of its process.
    """
    if why := why_not(cell):
        raise RunError(f"Run {cell.run.directory}: {why} ({log_of(file_of(cell, how))})")


def _change(cell: Cell) -> float | None:
    """The change of the primary metric that the ledger has of a cell; None: none."""
    entry = last_word(cell.root, key_of(cell))
    if entry is None or entry["event"] != "done":
        return None
    found = (d["delta"] for d in entry.get("deltas", ()) if d["metric"] == entry["primary"])
    return next(map(float, found), None)


def see_through(cell: Cell, how: Apart, overrides: Sequence[str]) -> Ended | None:
    """Do what is missing of a part of a cell, in a child, and see that its end is on record.

    Args:
        cell: Which.
        how: Which part, and when to end it.
        overrides: Its command line, to be told in manifests.

    Returns:
        How the child ended; None if none was begun.

    Raises:
        SystemExit: a signal asked this process to end; the child was ended first.
    """
    title = title_of(cell, how)
    known = last_word(cell.root, key_of(cell), how.heard)
    with Signals() as signals, _claimed(cell, how, title) as lost:
        if lost is None or how.halted or not is_missing(cell, how) or _failed(cell, how, known):
            return None
        cell = on_what_it_uses(cell, how)
        with _own_gpus(cell, how, title, lost) as gpus:
            if gpus is None:
                return None
            try:
                ended = _child(cell, how, overrides, gpus, signals, lost)
            except Exception as error:
                why = f"its process was not begun: {type(error).__name__}: {error}"
                _record_unbegun(cell, how, why)
                raise
        if signals.noted and not (is_one_job() or is_alone()):
            how.stop_others()
        signals.hand_on()
        return ended


@contextmanager
def _claimed(cell: Cell, how: Apart, title: str) -> Iterator[threading.Event | None]:
    """Hold the lock of a part of a cell: an event that says that we lost it; None: another has it.

    Who waits can be told that no more cells are to be begun.
    """
    path, lost = file_of(cell, how).with_suffix(".lock"), threading.Event()

    def say_waiting() -> None:
        SAY.print(f"{title}: another process is at it; waiting for that", markup=False)

    def goes_on() -> bool:
        return how.wait and not how.halted

    with ExitStack() as stack:
        claimed = True
        try:
            stack.enter_context(lock(path, say_waiting, wait=goes_on, on_loss=lost.set))
        except HeldError:
            claimed = False
            if not how.wait:
                SAY.print(f"{title}: another process is at it; left to that", markup=False)
        yield lost if claimed else None


@contextmanager
def _own_gpus(cell: Cell, how: Apart, title: str, lost: threading.Event) -> Iterator[Claim | None]:
    """Hold the GPUs of a cell; None: it is not to be begun. One that can never have them failed."""

    def goes_on() -> bool:
        return not (how.halted or how.ended or lost.is_set())

    with ExitStack() as stack:
        gpus = None
        try:
            gpus = stack.enter_context(claimed(cell.trainer, title, goes_on))
        except RunError as error:
            _record_unbegun(cell, how, f"{type(error).__name__}: {error}")
            SAY.print(f"FAILED {title}: {error}", markup=False, soft_wrap=True)
            if how.on_fail == "stop" and how.part != "before":
                how.stop_others()
        yield gpus


def _record_unbegun(cell: Cell, how: Apart, why: str) -> None:
    """Write why a process was not begun where it would say it; a cell without a result failed."""
    file = file_of(cell, how)
    append_line(log_of(file), why)
    file.touch()  # it was tried
    if how.part == "cell" and not keeps_result(cell):
        record(cell.root, "failed", cell.names | {"reason": why, "log": []})


def _failed(cell: Cell, how: Apart, known: Mapping[str, Any] | None) -> bool:
    """Whether a cell has failed and is not to be run again, or did so since we know of it."""
    entry = last_word(cell.root, key_of(cell))
    if how.part != "cell" or entry is None or entry["event"] != "failed":
        return False
    return not how.retry or entry != known


def _child(
    cell: Cell,
    how: Apart,
    overrides: Sequence[str],
    gpus: Claim,
    signals: Signals,
    lost: threading.Event,
) -> Ended:
    """Run the child to its end, and record that where the child did not."""
    file, title, began = file_of(cell, how), title_of(cell, how), time.monotonic()
    asked = {"command": ["train.py", *overrides], "part": how.part, "key": list(key_of(cell))}
    if how.analysis is not None:
        asked["analysis"] = plain(how.analysis)
    write_yaml(file, asked | {"cell": plain(how.placed(cell, overrides))})
    before = last_word(cell.root, key_of(cell))
    kept = NEEDED if cell.trainer.several else ()
    limits = Limits(cell.trainer.threads, how.cell_timeout, gpus, kept)
    SAY.print(f"start {title}", markup=False)
    with signals.only_noted():
        with shown(log_of(file)) if how.live else nullcontext():
            ended = watch(file, limits, signals, lambda: how.ended or lost.is_set())
        state = _recorded(cell, how, overrides, ended, before)
    name = {"failed": "FAILED"}.get(state, state)
    ill = state == "done" and ended.code != 0  # an export, say: the result was there before it
    where = "" if state == "done" and not ill else f", see {log_of(file)}"
    name = f"{name}, but its process ended with {ended.code}:" if ill else name
    SAY.print(
        f"{name} {title} in {time.monotonic() - began:.0f} s{where}", markup=False, soft_wrap=True
    )
    if state == "failed" and how.on_fail == "stop" and how.part != "before":  # a cell will tell why
        how.stop_others()
    return ended


def _recorded(
    cell: Cell,
    how: Apart,
    overrides: Sequence[str],
    ended: Ended,
    before: Mapping[str, Any] | None,
) -> State:
    """How a part of a cell has ended; of a cell, the ledger's last word is the true reason."""
    file, after = file_of(cell, how), last_word(cell.root, key_of(cell))
    said = after if after != before else None
    state = _state(cell, how, ended)
    told = state == "stopped" and said is not None and said["event"] == "stopped"
    if how.part == "cell" and state != "done" and not (keeps_result(cell) or told):
        about: dict[str, Any] = {"reason": ended.reason}
        if said and not ended.hung:
            about = {key: said[key] for key in said if key not in ("event", "time")}
        if reason_file(file).is_file() and not ended.hung:  # one rank failed, the others of that
            about |= read_json(reason_file(file))
        line = shlex.join(["python", "train.py", *overrides])
        about |= {"log": tail_of(file), "command": line}
        record(cell.root, state, cell.names | about)
    forget_reasons(file)
    return state


def _state(cell: Cell, how: Apart, ended: Ended) -> State:
    """How a child ended: by what is there now, not by what it said."""
    if how.part == "before":
        done = ended.code == 0
    else:
        done = has_result(cell) if how.part == "cell" else not is_missing(cell, how)
    if done:
        return "done"
    return "stopped" if ended.stopped else "failed"

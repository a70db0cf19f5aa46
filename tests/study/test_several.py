"""Cells of one command: baselines once each, every cell once, and none lost."""

import os
import random
import signal
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from stubs import CONF, begun, finished, one_by_one, planned, stub

from heed.core.compose import compose_component
from heed.core.errors import RunError
from heed.core.files import append_jsonl
from heed.core.locks import lock
from heed.study import apart, part, supervisor
from heed.study import several as module
from heed.study.apart import Apart
from heed.study.ledger import latest, record
from heed.study.part import file_of
from heed.study.plan import PlannedCell
from heed.study.several import LOST, Launch, Several, sign_of


@dataclass
class Played:
    """A launcher whose cells end as they are told to, in any order, some with their supervisor."""

    root: Path
    cells: list[PlannedCell]
    ends: dict[int, list[str]]  # seed -> how its attempts end; done after the last
    raises: Exception | None = None
    tries: Counter = field(default_factory=Counter)
    waves: list[tuple[str, bool, list[int]]] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(0))

    def begin(self, lines, how: Apart) -> None:
        seeds = [int(text.removeprefix("seed=")) for (text,) in lines]
        self.waves.append((how.part, how.wait, seeds))
        for seed in self.chance.sample(seeds, len(seeds)):
            self._run(next(c for c in self.cells if c.cell.seed == seed), seed, how)
        if self.raises:
            raise self.raises

    def _run(self, cell: PlannedCell, seed: int, how: Apart) -> None:
        if how.part == "before":
            assert not cell.ready, "it was made twice"
            cell.baseline.mkdir(parents=True)
            (cell.baseline / "summary.json").write_text("{}")
            return
        left = self.ends.get(seed, [])
        end = left.pop(0) if left else "done"
        if end == "not begun" or how.halted:
            return
        self.tries[seed] += 1
        file = file_of(cell.cell, how)
        file.parent.mkdir(exist_ok=True)
        file.write_text(str(self.tries))
        os.utime(file, ns=(0, sum(self.tries.values())))
        if end == "stop":
            how.stop_others()
        elif end != "lost":
            record(self.root, end, cell.cell.names | {"reason": end})


def play(root: Path, students: tuple[int, ...], ends=None, **more) -> tuple[Played, Several]:
    """`students[i]` cells with the i-th baseline, the first with seed 1."""
    names = [str(i) for i, count in enumerate(students) for _ in range(count)]
    cells = [planned(root, seed, name) for seed, name in enumerate(names, start=1)]
    how = more.pop("how", Apart())
    played = Played(root, cells, ends or {}, **more)
    how = replace(how, halt=sign_of(root))
    return played, Several(cells, root, Launch(played.begin), how)


def events(root: Path, played: Played) -> list[str]:
    known = latest(root)
    return [known[c.key]["event"] if c.key in known else "missing" for c in played.cells]


def test_scores_before_tuning_are_made_once_each_and_first(tmp_path: Path):
    played, several = play(tmp_path, (3, 1, 2))
    several.run()
    assert played.waves == [("before", True, [1, 4, 5]), ("cell", False, [1, 2, 3, 4, 5, 6])]
    assert events(tmp_path, played) == ["done"] * 6


def test_a_cell_alone_makes_them_itself_and_those_that_are_there_are_not_made(tmp_path: Path):
    played, several = play(tmp_path, (1,))
    several.run()
    assert played.waves == [("cell", False, [1])]
    played, several = play(tmp_path / "other", (1, 2))
    for cell in played.cells[1:]:
        cell.baseline.mkdir(parents=True, exist_ok=True)
        (cell.baseline / "summary.json").touch()
    several.run()
    assert played.waves[0] == ("before", True, [1])


def at_the_end(drawn: list[str]) -> str:
    """How a cell ends on record whose attempts end like this, and the next of which succeeds."""
    tried = [end for end in drawn if end != "not begun"]
    for number, end in enumerate([*tried, "done"]):
        if end in ("done", "failed"):
            return end
        if number == 1:
            return "stopped" if "stopped" in tried[:2] else "failed"
    raise AssertionError


@pytest.mark.parametrize("seed", range(8))
def test_every_cell_ends_on_record_whatever_becomes_of_supervisors(seed: int, tmp_path: Path):
    chance = random.Random(seed)
    kinds = ("done", "failed", "stopped", "lost", "not begun")
    drawn = {n: chance.choices(kinds, k=chance.randint(0, 3)) for n in range(1, 6)}
    played, several = play(tmp_path, (5,), {n: list(ends) for n, ends in drawn.items()})
    none_begun = False
    try:
        several.run()
    except RunError:
        none_begun = True  # of those that were left
    for number, event in enumerate(events(tmp_path, played), start=1):
        left = none_begun and "not begun" in drawn[number]
        assert event == at_the_end(drawn[number]) or left
        assert played.tries[number] <= 2


def test_who_was_stopped_by_another_sweep_goes_on(tmp_path: Path):
    played, several = play(tmp_path, (2,), {1: ["stopped"]})
    several.run()
    assert played.waves[1:] == [("cell", False, [1, 2]), ("cell", True, [1])]
    assert events(tmp_path, played) == ["done", "done"]


def test_a_job_that_was_cancelled_in_a_queue_is_not_put_there_again(tmp_path: Path):
    played, several = play(tmp_path, (2,), {1: ["stopped"], 2: ["lost"]})
    replace(several, launch=Launch(played.begin, stays=True)).run()
    assert played.waves[1:] == [("cell", False, [1, 2]), ("cell", True, [2])]
    assert events(tmp_path, played) == ["stopped", "done"]


def test_a_cell_that_is_lost_with_its_supervisor_is_tried_once_more_and_then_recorded(tmp_path):
    error = RuntimeError("a worker of the pool was killed")
    played, several = play(tmp_path, (4,), {1: ["lost"] * 3, 2: ["lost"]}, raises=error)
    several.run()
    assert played.waves[1:] == [("cell", False, [1, 2, 3, 4]), ("cell", True, [1, 2])]
    assert events(tmp_path, played) == ["failed", "done", "done", "done"]
    assert latest(tmp_path)[played.cells[0].key]["reason"] == LOST


def test_what_is_done_stays_so_and_what_failed_beside_it_is_told(tmp_path: Path):
    """A second prompting is wanted of a finished cell, and its process dies twice."""
    cell = replace(planned(tmp_path, 1), beside={"name": "plain"})
    record(tmp_path, "done", cell.cell.names | {"also": None})
    played = Played(tmp_path, [cell], {1: ["lost", "lost"]})
    several = Several([cell], tmp_path, Launch(played.begin), Apart(halt=sign_of(tmp_path)))
    (line,) = several.run()
    assert line.startswith(f"{cell.directory}: its result stays, but what more was wanted of it")
    assert latest(tmp_path)[cell.key]["event"] == "done"
    assert played.tries[1] == 2


def test_an_export_alone_is_tried_once_and_one_that_was_not_begun_is_not_told(tmp_path: Path):
    cells = []
    for seed in (1, 2):
        one = planned(tmp_path, seed)
        wanted = replace(one.cell, export=replace(one.cell.export, merge=True))
        cells.append(replace(one, cell=wanted))
        (wanted.directory / "model").mkdir(parents=True)
        (wanted.directory / "model" / "adapter_config.json").write_text("{}")
        record(tmp_path, "done", one.cell.names | {"also": {"settings": {"name": "plain"}}})
    assert [cell.not_exported for cell in cells] == ["nothing is recorded of it"] * 2
    how = Apart(halt=sign_of(tmp_path), on_fail="stop")

    def begin(lines, how):
        if how.part == "cell":  # the first fails, and no other is begun
            played.begin(lines[:1], how)
            how.stop_others()

    played = Played(tmp_path, cells, {1: ["lost"] * 3})
    (line,) = Several(cells, tmp_path, Launch(begin), how).run()
    assert line.startswith(f"{cells[0].directory}: its result stays, but it was not exported")
    assert played.tries[1] == 1
    assert {entry["event"] for entry in latest(tmp_path).values()} == {"done"}


ASKED = ("also=plain", "export.merge=true")
DONE = "tell('done', deltas=[], primary='m', code='here', also=None)"


def test_a_prompting_that_fails_is_told_as_such_and_not_with_what_an_export_said(tmp_path: Path):
    cell = finished(tmp_path, 1, *ASKED)
    old = {"event": "failed", "reason": "403 of last month"}
    append_jsonl(cell.cell.directory / "exports.jsonl", old)
    played = Played(tmp_path, [cell], {1: ["lost"] * 3})
    several = Several([cell], tmp_path, Launch(played.begin), Apart(halt=sign_of(tmp_path)))
    (line,) = several.run()
    assert "its result stays, but what more was wanted of it has failed" in line
    assert "403" not in line
    assert played.tries[1] == 2, "it is no export alone"


def no_gpus(trainer, *_):
    raise RunError("1 GPUs may be used here")


def test_a_finished_cell_that_cannot_have_its_gpus_is_told_and_all_else_goes_on(
    tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(supervisor, "CHILD", stub(tmp_path, DONE))
    cells = [finished(tmp_path, 1, *ASKED), planned(tmp_path, 2)]
    free = apart.claimed
    monkeypatch.setattr(
        apart, "claimed", lambda t, *rest: (no_gpus if t.threads == 3 else free)(t, *rest)
    )
    wants = replace(cells[0].cell.trainer, threads=3)
    cells[0] = replace(cells[0], cell=replace(cells[0].cell, trainer=wants))
    launch = one_by_one(tmp_path, *cells)
    (line,) = Several(cells, tmp_path, launch, Apart(halt=sign_of(tmp_path))).run()
    assert line.startswith(f"{cells[0].directory}: its result stays, but what more was wanted")
    assert "1 GPUs may be used here" in cells[0].file.with_suffix(".log").read_text()
    assert [latest(tmp_path)[cell.key]["event"] for cell in cells] == ["done", "done"]


@pytest.mark.parametrize("why", ["exit", "no GPUs"])
@pytest.mark.parametrize(("on_fail", "told"), [("continue", [1, 2]), ("stop", [1])])
def test_every_analysis_that_failed_is_told_and_none_that_was_not_begun(
    tmp_path: Path, monkeypatch, on_fail: str, told: list[int], why: str
):
    monkeypatch.setattr(supervisor, "CHILD", stub(tmp_path, "print('boom'); sys.exit(3)"))
    monkeypatch.setattr(part, "is_analysed", lambda *_: False)
    if why == "no GPUs":
        monkeypatch.setattr(apart, "claimed", no_gpus)
    shift = compose_component(CONF, "evaluate", ["analysis=shift", "run=any"]).analysis
    cells = [finished(tmp_path, seed) for seed in (1, 2)]
    how = Apart(on_fail=on_fail, halt=sign_of(tmp_path))
    lines = Several(cells, tmp_path, one_by_one(tmp_path), how).run([shift])
    said = [f"shift of {cells[n - 1].directory}: see " for n in told]
    assert [line.partition("/")[0] for line in lines] == said
    for line in lines:
        log = Path(line.rpartition("see ")[2]).read_text()
        assert ("boom" if why == "exit" else "1 GPUs may be used here") in log


def test_how_far_the_cells_are_is_told_of_those_that_train(tmp_path: Path, monkeypatch):
    """An export tells the ledger nothing, and takes no time like that of a training."""
    monkeypatch.setattr(supervisor, "CHILD", stub(tmp_path, DONE))
    cells = [finished(tmp_path, 1, "export.merge=true"), planned(tmp_path, 2)]
    watched, progress = [], module.Progress
    monkeypatch.setattr(
        module, "Progress", lambda cells, *rest: watched.append(cells) or progress(cells, *rest)
    )
    how = Apart(halt=sign_of(tmp_path))
    Several(cells, tmp_path, one_by_one(tmp_path, *cells), how).run()
    assert watched == [cells[1:]]
    assert len(begun(tmp_path)) == 3, "a scoring before tuning, and both"


def test_what_another_finishes_while_it_is_recorded_as_lost_stays_done(tmp_path: Path, monkeypatch):
    played, several = play(tmp_path, (1,), {1: ["lost"] * 2})
    (cell,) = played.cells

    @contextmanager
    def finishes(path, **_):
        record(tmp_path, "done", cell.names)
        yield

    monkeypatch.setattr(module, "lock", finishes)
    several.run()
    assert events(tmp_path, played) == ["done"]


def test_who_was_never_begun_is_tried_as_long_as_others_are(tmp_path: Path):
    """A pool that is broken by one cell has not begun those that waited."""
    waits = ["not begun"] * 2
    played, several = play(tmp_path, (3,), {1: ["lost", "lost"], 2: waits, 3: list(waits)})
    several.run()
    assert events(tmp_path, played) == ["failed", "done", "done"]


def test_a_launcher_that_begins_nothing_is_told_and_no_cell_has_failed(tmp_path: Path, capsys):
    never = ["not begun"] * 9
    played, several = play(
        tmp_path, (2,), {1: never, 2: list(never)}, raises=OSError("no such queue")
    )
    with pytest.raises(RunError, match=r"2 cells were not begun.*OSError: no such queue"):
        several.run()
    assert events(tmp_path, played) == ["missing"] * 2


def test_the_launchers_own_words_are_told_and_trusted_in_nothing(tmp_path: Path, capsys):
    played, several = play(tmp_path, (2,), raises=RuntimeError("lost a [job]"))
    several.run()
    assert "RuntimeError: lost a [job] The ledger says" in " ".join(capsys.readouterr().err.split())
    assert events(tmp_path, played) == ["done"] * 2


def test_failed_cells_are_run_again_only_if_that_is_asked(tmp_path: Path):
    played, several = play(tmp_path, (2,), {1: ["failed"]})
    several.run()
    assert events(tmp_path, played) == ["failed", "done"]
    again = Several(played.cells, tmp_path, several.launch, Apart())
    again.run()
    assert played.tries == {1: 1, 2: 1}
    replace(again, how=Apart(retry=True)).run()
    assert played.tries == {1: 2, 2: 1}
    assert events(tmp_path, played) == ["done", "done"]


def test_what_another_command_has_tried_again_meanwhile_is_not_tried_a_third_time(
    tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(supervisor, "CHILD", stub(tmp_path, DONE))
    cells = [planned(tmp_path, seed) for seed in (1, 2)]
    for cell in cells:
        cell.baseline.mkdir(parents=True, exist_ok=True)
        (cell.baseline / "summary.json").touch()
        record(tmp_path, "failed", cell.names | {"reason": "yesterday"})
    several = Several(cells, tmp_path, one_by_one(tmp_path), Apart(retry=True))
    record(tmp_path, "failed", cells[0].names | {"reason": "just now"})
    several.run()
    assert [latest(tmp_path)[cell.key]["event"] for cell in cells] == ["failed", "done"]
    assert len(begun(tmp_path)) == 1
    assert latest(tmp_path)[cells[0].key]["reason"] == "just now"


def test_what_another_sweep_is_at_is_not_recorded_as_lost(tmp_path: Path):
    played, several = play(tmp_path, (1,), {1: ["lost"] * 2})
    with lock(file_of(played.cells[0].cell, Apart()).with_suffix(".lock")):
        several.run()
    assert events(tmp_path, played) == ["missing"]


def test_when_no_more_are_to_be_begun_none_is_and_the_sign_is_removed(tmp_path: Path):
    played, several = play(tmp_path, (3,), {n: ["stop"] for n in (1, 2, 3)})
    several.run()
    assert sum(played.tries.values()) == 1
    assert len(played.waves) == 2
    assert not several.how.halted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_tells_all_cells_to_end_and_then_ends_us(tmp_path: Path, number, capsys):
    """Cells may run in other processes: the launcher comes back when they have ended."""
    seen = []

    def begin(lines, how: Apart) -> None:
        seen.append(how.ended)
        os.kill(os.getpid(), number)
        seen.append(how.ended)

    _, several = play(tmp_path, (1,))
    with pytest.raises(SystemExit) as ended:
        replace(several, launch=Launch(begin)).run()
    assert ended.value.code == 128 + number
    assert seen == [False, True]
    assert not several.how.halted
    said = capsys.readouterr().err
    assert "Stopped: 1 cell, 1 missing. Everything finished is kept; the same command" in said


def test_jobs_in_a_queue_outlive_a_signal_to_us(tmp_path: Path):
    seen = []

    def begin(lines, how: Apart) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            seen.append(how.halted)

    _, several = play(tmp_path, (1,))
    with pytest.raises(SystemExit):
        replace(several, launch=Launch(begin, stays=True)).run()
    assert seen == [False]

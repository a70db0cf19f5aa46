"""What a cell costs beyond its training and its scoring, in CPU seconds of its whole process tree.

    python bench/cell.py                            # a cell of the playground
    python bench/cell.py model=micro lr=play_reference

A first cell of the same student pre-trains it, scores it and keeps the tokens; it is not measured.
Then the cell is measured in a process of its own, with clocks at the doors of what it is for; the
rest is overhead. Once more with clocks at the doors of all its stages, which take time themselves:
what is spent inside a stage, and in no other stage within it, is its own. Imports are a stage for
each package, by whose modules ran.
"""

from __future__ import annotations

import functools
import importlib.machinery
import json
import os
import resource
import runpy
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FIRST = "lr=play_reference"
SECOND = ("model=nano", "lr=play_gentle")
WORK = ("training steps", "generating and scoring")
"""What a cell is for; the rest is overhead."""

SMALL = 0.05
"""CPU seconds below which a stage has no line of its own."""

STAGES = {
    "heed.core.check:_run": "Hydra",
    "heed.core.command:mistakes_of": "mistakes of the command",
    "heed.core.config:build_config": "the config's objects",
    "heed.core.identity:canonical": "ids and digests",
    "heed.core.identity:short_hash": "ids and digests",
    "heed.core.identity:digest_model": "ids and digests",
    "heed.core.identity:versions": "versions",
    "heed.core.manifest:code_state": "git",
    "heed.core.stats:interval": "statistics",
    "heed.core.stats:compare_paired": "statistics",
    "heed.analysis.scores:write_scores_page": "pages",
    "heed.analysis.verdict_page:verdict_page": "pages",
    "heed.training.examples:examples_page": "pages",
    "heed.evaluation.controls:beside_controls": "controls",
    "heed.evaluation.form:forms_of": "form of the answers",
    "heed.evaluation.ifeval:InstructionFollowing.items": "items of the tasks",
    "heed.evaluation.ifeval:InstructionFollowing.digest": "items of the tasks",
    "heed.evaluation.record:read_scores": "scores, written and read",
    "heed.evaluation.record:write_scores": "scores, written and read",
    "heed.evaluation.suite:Suite.score": WORK[1],
    "heed.evaluation.suite:Suite.fingerprint": "fingerprint of the suite",
    "heed.study.memory:memory_lines": "memory of a step",
    "heed.study.overlap:overlap_notes": "evaluation prompts in the data",
    "heed.study.show:plan_table": "plan on the screen",
    "heed.study.scores:kept_scores": "scores, written and read",
    "heed.training.checkpoint:load_student": "the student, made and read",
    "heed.training.checkpoint:save_student": "the student, written",
    "heed.training.fit:dataset_for": "tokens of the data",
    "heed.training.preflight:preflight": "proofs before the training",
    "heed.training.preflight:with_attached": "proofs before the training",
    "heed.training.reload:check_fresh": "the student in a fresh process",
    "lightning.pytorch.trainer.trainer:Trainer.fit": WORK[0],
}
"""Module and function -> stage. A function that is not there any more ends the measurement."""

HYDRA = ("Hydra", "mistakes of the command")
"""Stages that a cell of a sweep leaves out: it begins from a file in which all is resolved."""


def spent() -> float:
    """CPU seconds of this process so far, and of its children that ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


class Clock:
    """CPU seconds by stage; a stage stops the clock of the one that it stands in."""

    def __init__(self, stages: dict[str, str]) -> None:
        self.stages = stages
        self.seconds: Counter[str] = Counter()
        self.open = ["the rest"]
        self.last = 0.0  # from the start of the interpreter on

    def turn(self) -> None:
        """Give what was spent since the last turn to the stage that is open."""
        now = spent()
        self.seconds[self.open[-1]] += now - self.last
        self.last = now

    def of(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function with the clock at its doors."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.turn()
            self.open.append(stage)
            try:
                return function(*args, **kwargs)
            finally:
                self.turn()
                self.open.pop()

        return timed

    def watch(self) -> None:
        """Put the doors of a module's stages up as soon as it is imported."""
        run = importlib.machinery.SourceFileLoader.exec_module

        def exec_module(loader: Any, module: Any) -> None:
            run(loader, module)
            self.put_doors(module)

        importlib.machinery.SourceFileLoader.exec_module = exec_module  # type: ignore[method-assign]

    def watch_imports(self) -> None:
        """Make a stage of each package that is imported."""

        def stage(name: str) -> str:
            return f"import {name.partition('.')[0]}"

        def of_module(function: Callable[..., Any]) -> Callable[..., Any]:
            return lambda own, module: self.of(stage(module.__name__), function)(own, module)

        def of_spec(function: Callable[..., Any]) -> Callable[..., Any]:
            return lambda own, spec: self.of(stage(spec.name), function)(own, spec)

        source: Any = importlib.machinery.SourceFileLoader
        library: Any = importlib.machinery.ExtensionFileLoader
        source.exec_module = of_module(source.exec_module)
        library.exec_module = of_module(library.exec_module)
        library.create_module = of_spec(library.create_module)

    def put_doors(self, module: Any) -> None:
        """Put the clock at the doors of a module's stages."""
        for place, stage in self.stages.items():
            where, _, name = place.partition(":")
            if where == module.__name__:
                holder, _, last = name.rpartition(".")
                owner = getattr(module, holder) if holder else module
                setattr(owner, last, self.of(stage, vars(owner)[last]))


def child(told: Path, doors: str, overrides: list[str]) -> None:
    """Be the cell, and tell what each stage took."""
    work = {place: stage for place, stage in STAGES.items() if stage in WORK}
    clock = Clock(STAGES if doors == "all" else work)
    if doors == "all":
        clock.watch_imports()
    clock.watch()
    sys.argv = [str(ROOT / "train.py"), *overrides]
    sys.path[0] = str(ROOT)
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        clock.turn()
        told.write_text(json.dumps(clock.seconds))


def cpu_seconds(line: list[str]) -> float:
    """CPU seconds of a process and all its children.

    Raises:
        SystemExit: it failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *line], cwd=ROOT, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{' '.join(line)} failed:\n{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measured(doors: str, line: list[str], told: Path) -> tuple[float, Counter[str]]:
    """CPU seconds of a cell, and of its stages."""
    whole = cpu_seconds([__file__, "--child", str(told), doors, *line])
    stages = Counter(json.loads(told.read_text(encoding="utf-8")))
    stages["end of the interpreter"] = whole - sum(stages.values())
    return whole, stages


def main(overrides: list[str]) -> None:
    """Make what cells share, measure two cells, and print the table."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    given = overrides or list(SECOND)
    with tempfile.TemporaryDirectory(prefix="heed-cell-") as made:
        told = Path(made) / "stages.json"
        line = [*given, f"outputs={made}/outputs"]
        cpu_seconds(["train.py", *line, FIRST, "seed=101"])
        whole, work = measured("work", [*line, "seed=102"], told)
        slower, stages = measured("all", [*line, "seed=103"], told)
    show(stages, slower)
    overhead = whole - sum(work[stage] for stage in WORK)
    hydra = sum(stages[stage] for stage in HYDRA)
    print(f"\nwithout these clocks: {whole:.2f} CPU s, of them")
    for stage in WORK:
        print(f"{stage:34} {work[stage]:6.2f}")
    print(f"{'overhead':34} {overhead:6.2f}")
    print(
        f"{'the same in a sweep, about':34} {overhead - hydra:6.2f}  (less {' and '.join(HYDRA)})"
    )


def show(stages: Counter[str], whole: float) -> None:
    """A line for each stage that takes a twentieth of a second."""
    print(f"{'stage':34} {'CPU s':>6} {'share':>6}")
    for stage, seconds in stages.most_common():
        if seconds >= SMALL:
            print(f"{stage:34} {seconds:6.2f} {seconds / whole:6.1%}")
    small = [seconds for seconds in stages.values() if seconds < SMALL]
    print(f"{f'{len(small)} smaller ones':34} {sum(small):6.2f} {sum(small) / whole:6.1%}")
    print(f"{'all of it':34} {whole:6.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
    else:
        main(sys.argv[1:])

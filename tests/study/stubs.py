"""Cells whose process is a few lines, so that their end can be chosen; and ways to run them."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from heed.core.compose import compose_component
from heed.study.also import settings_beside
from heed.study.apart import Apart, see_through
from heed.study.cell import Cell
from heed.study.ledger import record
from heed.study.plan import PlannedCell
from heed.study.several import Launch

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"

HEAD = """
import json, os, pathlib, signal, subprocess, sys, time, yaml
file = pathlib.Path(sys.argv[1])
asked = yaml.safe_load(file.read_text())
root = pathlib.Path(asked["cell"]["outputs"])
with (root / "children").open("a") as begun:
    begun.write(f"{asked['part']} {file.name}\\n")
def tell(event, **more):
    names = {"run": asked["key"][0], "suite": asked["key"][1]}
    row = {"event": event, "time": str(time.time()), **names, **more}
    with (root / "ledger.jsonl").open("a") as ledger:
        ledger.write(json.dumps(row) + "\\n")
def done():
    delta = {"metric": "m", "delta": 0.25}
    tell("done", deltas=[delta], primary="m", code="here", also={"settings": {"name": "plain"}})
"""


def stub(folder: Path, code: str) -> tuple[str]:
    """What `heed.study.supervisor.CHILD` is to be, so that cells run this code."""
    path = folder / "stub.py"
    path.write_text(HEAD + code)
    return (str(path),)


@cache
def _cell(seed: int) -> Cell:
    return compose_component(CONF, "train", (f"seed={seed}", "also=none"))


def a_cell(root: Path, seed: int = 1) -> Cell:
    """A cell of its own for each seed."""
    return replace(_cell(seed), outputs=str(root))  # type: ignore[type-var]


def planned(root: Path, seed: int = 1, baseline: str = "base") -> PlannedCell:
    """The same as a plan has it."""
    cell = a_cell(root, seed)
    key = (cell.run.id, cell.names["suite"])
    return PlannedCell((f"seed={seed}",), cell, key, root / "baselines" / baseline, None)


def finished(root: Path, seed: int = 1, *more: str) -> PlannedCell:
    """A planned cell with a result, of which more is wanted: `also=plain`, `export.merge=true`."""
    cell = compose_component(CONF, "train", (f"seed={seed}", "also=none", *more))
    cell = replace(cell, outputs=str(root))
    (cell.directory / "model").mkdir(parents=True)
    (cell.directory / "model" / "adapter_config.json").write_text("{}")
    record(root, "done", cell.names | {"deltas": [], "primary": "m", "code": "here", "also": None})
    one = planned(root, seed)
    return replace(one, cell=cell, beside=settings_beside(cell.suite))


def one_by_one(root: Path, *cells: PlannedCell) -> Launch:
    """A launcher that runs cells here: given ones, else by the seed of their line."""
    given = {one.overrides: one.cell for one in cells}

    def begin(lines: Sequence[Sequence[str]], how: Apart) -> None:
        for line in lines:
            (seed,) = (text.removeprefix("seed=") for text in line if text.startswith("seed="))
            see_through(given.get(tuple(line)) or a_cell(root, int(seed)), how, line)

    return Launch(begin)


def begun(root: Path) -> list[str]:
    """What was begun, in order: the part and the file of each."""
    path = root / "children"
    return path.read_text().splitlines() if path.is_file() else []

"""Tokens on disk are those made in memory, made once, never half there, never another's."""

import importlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from forked import run_ranks

from heed.core import ranks
from heed.core.errors import DataError
from heed.core.files import read_json, write_jsonl
from heed.data import cache
from heed.data.cache import FILES, cached, code_digest, shelf_of, tokenizer_digest
from heed.data.encode import Encoder, encode_all
from heed.data.mix import Mix
from heed.data.source import LocalFile
from heed.data.teacher import Responses
from heed.data.treatment import Treatment

TREATMENT = Treatment(
    max_tokens=64, over_long="drop", limit=None, on_bad_row="error", duplicates="keep",
    loss_on="every_turn", validation_share=0.2, drop_contaminated=False, packing="best_fit",
    examples_per_step=4, epochs=1, steps=None, micro_tokens=64,
)  # fmt: skip


def shelf(root: Path) -> Path:
    """The only directory of tokens."""
    (found,) = (root / "cache" / "tokens").glob("[!.]*")
    return found


def never(*_) -> None:
    raise AssertionError("somebody encodes")


def test_tokens_from_disk_are_those_made_in_memory(toy, template, tokenizer, tmp_path, monkeypatch):
    made = encode_all(toy, template, tokenizer, TREATMENT)
    first = cached(toy, template, tokenizer, TREATMENT, tmp_path)
    monkeypatch.setattr(cache, "_make", never)
    again = cached(toy, template, tokenizer, TREATMENT, tmp_path)
    assert made == first == again
    assert min(len(made.validation), len(made.examples), len(made.sample)) > 0
    assert isinstance(again.examples.tokens.ids, np.ndarray)
    assert not again.examples.tokens.ids.flags.owndata, "mapped, not read"


OTHERS = {
    "max_tokens": 63, "over_long": "window", "on_bad_row": "drop", "duplicates": "drop",
    "loss_on": "last_turn", "validation_share": 0.3, "limit": 5,
}  # fmt: skip
SAME = {
    "drop_contaminated": True, "packing": "none", "examples_per_step": 5, "epochs": 2,
    "micro_tokens": 99,
}  # fmt: skip


@pytest.mark.parametrize("field", Treatment.__dataclass_fields__)
def test_what_decides_the_tokens_decides_where_they_lie(
    toy, template, tokenizer, tmp_path, field: str
):
    changes = {field: (OTHERS | SAME).get(field, 7)}
    if field == "steps":
        changes["epochs"] = None
    here, there = (
        shelf_of(toy, Encoder(template, tokenizer, treatment), tmp_path).name
        for treatment in (TREATMENT, replace(TREATMENT, **changes))
    )
    assert (here == there) == (field not in OTHERS)


def test_another_source_template_or_tokenizer_lies_elsewhere(
    toy, teacher_of, template, tokenizer, tmp_path
):
    import copy

    other = copy.deepcopy(tokenizer)
    other.add_tokens(["Thing"])
    encoders = [
        (toy, template, tokenizer),
        (teacher_of([("Hi", "there")]), template, tokenizer),
        (toy, replace(template, assistant="A: "), tokenizer),
        (toy, template, other),
    ]
    names = [shelf_of(s, Encoder(t, k, TREATMENT), tmp_path).name for s, t, k in encoders]
    assert len(set(names)) == 4


def test_use_of_a_tokenizer_does_not_change_its_digest(tokenizer):
    before = tokenizer_digest(tokenizer)
    tokenizer(["cut me", "short"], truncation=True, max_length=2, padding=True)
    assert tokenizer_digest(tokenizer) == before


def test_changed_code_makes_tokens_anew(toy, template, tmp_path, monkeypatch):
    before = code_digest(toy, template)
    elsewhere = tmp_path / "heed" / "data"
    elsewhere.mkdir(parents=True)
    real = Path(cache.__file__).parent
    for file in [*real.glob("*.py"), real.parent / "core" / "types.py"]:
        to = tmp_path / "heed" / file.relative_to(real.parent)
        to.parent.mkdir(exist_ok=True)
        to.write_bytes(file.read_bytes())
    monkeypatch.setattr(cache, "__file__", str(elsewhere / "cache.py"))
    monkeypatch.setattr(cache.inspect, "getfile", lambda _: str(elsewhere / "teacher.py"))
    changed = code_digest(toy, template)
    (elsewhere / "spelling.py").write_text("# other code\n")
    assert code_digest(toy, template) != changed
    assert before != changed, "the file of the source is part of it"


@pytest.mark.parametrize("name", [*FILES, "about.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damaged_tokens_are_refused_and_the_directory_is_named(
    toy, template, tokenizer, tmp_path, name: str, damage: str
):
    cached(toy, template, tokenizer, TREATMENT, tmp_path)
    file = shelf(tmp_path) / name
    whole = file.read_bytes()
    file.unlink() if damage == "gone" else file.write_bytes(whole[:-1] if whole else b"x")
    if name == "about.json" and damage == "cut":
        file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"tokens kept in .* are damaged .* Remove that directory"):
        cached(toy, template, tokenizer, TREATMENT, tmp_path)


def test_a_source_with_nothing_to_learn_leaves_nothing(teacher_of, template, tokenizer, tmp_path):
    with pytest.raises(DataError, match="no example is left"):
        cached(teacher_of([("Hi", "")]), template, tokenizer, TREATMENT, tmp_path)
    assert list((tmp_path / "cache" / "tokens").iterdir()) == []


SCRIPT = """
import os, sys, time
from pathlib import Path
from typing import Annotated
from heed.core.component import component
from heed.core.identity import Incidental
from heed.core.types import Example, Message
from heed.data.cache import cached
from heed.data.teacher import Teacher
from heed.data.template import Template
from heed.data.treatment import Treatment

ROOT, HANG, STARTED = Path(sys.argv[1]), sys.argv[2] == "hang", int(sys.argv[3])

@component
class Slow(Teacher):
    name: Annotated[str, Incidental]
    def digest(self): return "slow"
    def rows(self, on_bad=None):
        with (ROOT / "reads").open("a") as file: file.write("read\\n")
        while len(list(ROOT.glob("pid*"))) < STARTED: time.sleep(0.01)
        for i in range(4000):
            if HANG and i == 3500:
                (ROOT / "half").touch()
                time.sleep(600)
            said = (Message("user", f"Name {i}"), Message("assistant", f"It is {i}"))
            yield Example(str(i), said, "slow")

class Letters:
    init_kwargs = {}
    def __len__(self): return 70000
    def get_vocab(self): return {}
    def encode(self, text, add_special_tokens): return [ord(c) for c in text]
    def decode(self, ids, **_): return "".join(map(chr, ids))

(ROOT / f"pid{os.getpid()}").touch()
template = Template(name="toy", begin="", system="{content}", system_in_user=False,
    default_system=None, user="{content}", assistant="", end_of_turn="|", between="",
    special_tokens=())
treatment = Treatment(max_tokens=64, over_long="drop", limit=None, on_bad_row="error",
    duplicates="keep", loss_on="every_turn", validation_share=0.0, drop_contaminated=False,
    packing="best_fit", examples_per_step=4, epochs=1, steps=None, micro_tokens=64)
found = cached(Slow(name="slow"), template, Letters(), treatment, ROOT, workers=2)
print(len(found.examples), sum(sum(e.ids) for e in found.examples))
"""


def begin(root: Path, how: str, started: int = 1) -> subprocess.Popen:
    script = root / "script.py"
    script.write_text(SCRIPT)
    line = [sys.executable, str(script), str(root), how, str(started)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_that_start_together_encode_once(tmp_path: Path):
    both = [begin(tmp_path, "go", started=2) for _ in range(2)]
    printed = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    (said,) = {out for out, _ in printed}
    assert said.startswith("4000 ")
    assert (tmp_path / "reads").read_text() == "read\n"


def test_of_several_ranks_the_leader_encodes_and_no_other_process_is_said_to(
    toy, template, tokenizer, tmp_path
):
    make, said = cache._make, []

    def made(*what) -> None:
        said.append("made")
        make(*what)

    def take_part() -> list[str]:
        cache._make, cache.SAY.print = made, said.append
        time.sleep(0.5 * ranks.leads())  # the others would be first
        cached(toy, template, tokenizer, TREATMENT, tmp_path)
        return said

    assert run_ranks(2, take_part) == [["made"], []]


def test_a_killed_build_leaves_nothing_that_loads(tmp_path: Path):
    process = begin(tmp_path, "hang")
    until = time.monotonic() + 120
    while not (tmp_path / "half").exists() and process.poll() is None:
        assert time.monotonic() < until, "the build never came half way"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    tokens = tmp_path / "cache" / "tokens"
    assert list(tokens.glob(".*")), "it was killed while it wrote"
    assert not list(tokens.glob("[!.]*"))
    out, err = begin(tmp_path, "go").communicate(timeout=120)
    assert out.startswith("4000 "), err
    assert not list(tokens.glob(".*")), "what the killed build left is swept away"
    assert read_json(shelf(tmp_path) / "about.json")["events"] == {"rows read": 4000}


LAYOUT = """
from heed.core.component import component
from heed.core.types import Message
from heed.data.layout import Layout, Reading
from notes_of_mine import SAYS, Base

@component
class Mine(Base):
    asked: str

    @property
    def columns(self):
        return (self.asked,)

    def read(self, row):
        said = (Message("user", row[self.asked]), Message("assistant", SAYS))
        return Reading(said, None)
"""
BASE = """
from heed.data.layout import Layout

SAYS = "one"

class Base(Layout):
    pass
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch):
    """A layout of somebody's own, with a base class in another file."""
    for name, text in (("notes_of_mine", BASE), ("layout_of_mine", LAYOUT)):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield importlib.import_module("layout_of_mine").Mine(asked="asked")
    for name in ("notes_of_mine", "layout_of_mine"):
        sys.modules.pop(name)


@pytest.mark.parametrize("file", ["notes_of_mine", "layout_of_mine"])
@pytest.mark.parametrize("mixed", [False, True])
def test_changed_code_of_any_part_of_a_source_makes_tokens_anew(
    mine, toy, template, tmp_path: Path, file: str, mixed: bool
):
    write_jsonl(tmp_path / "rows.jsonl", [{"asked": "Hi"}])
    rows = LocalFile(path=str(tmp_path / "rows.jsonl"))
    source = Responses(name="x", source=rows, layout=mine)
    if mixed:
        source = Mix(
            name="m", teachers={"x": source, "toy": toy}, weights={"x": 1.0, "toy": 1.0},
            total=None, seed=1,
        )  # fmt: skip
    before = code_digest(source, template, TREATMENT)
    assert code_digest(source, template, TREATMENT) == before
    plain = code_digest(toy, template, TREATMENT)
    path = tmp_path / f"{file}.py"
    path.write_text(path.read_text() + "# changed\n")
    assert code_digest(source, template, TREATMENT) != before
    assert code_digest(toy, template, TREATMENT) == plain

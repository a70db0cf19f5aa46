"""What tests share: one thread, no network, a tiny student made from scratch, the data folder."""

import gc
import os
import signal

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach the hub

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import settings

from heed.core.component import component
from heed.core.identity import Incidental
from heed.core.types import Example, Message
from heed.data.teacher import Teacher
from heed.data.template import Template
from heed.models.architectures import Llama
from heed.models.student import Loaded, Scratch
from heed.models.tokenizer import TrainedBPE

gc.disable()  # until all tests are collected

# a script that begins the tests in the background has them, and what they begin, ignore Ctrl-C
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("heed", deadline=None, derandomize=True, database=None, max_examples=40)
settings.load_profile("heed")

PROJECT = Path(__file__).resolve().parents[1]
SHARED = PROJECT.parent / "shared" / "data"
END = "<|end|>"
WORDS = "Name three colours of the sea, and say why a lamp is not a fish. red green blue"
PAIRS = [(f"Name thing {i}.", f"Thing {i} is " + "very " * (i % 5) + "red.") for i in range(24)]


def pytest_collection_finish() -> None:
    """What the imports have made stays: to look through it for garbage again and again takes time.

    What a test makes is collected as ever.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Results and times of a test do not depend on the machine's cores."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, readers) -> None:
    """A quick training is not read back by a process of its own: three seconds each.

    `training/test_reload.py` tests that, and every slow test trains with it: in processes that are
    forked from one that has made the imports.
    """
    trains = request.path.parent.name in {"training", "methods", "invariants"}
    if trains and "slow" not in request.keywords:
        monkeypatch.setattr("heed.training.fit.check_fresh", lambda *_: 0.0)
    elif request.path.name != "test_reload.py":
        monkeypatch.setattr("heed.training.reload.subprocess", readers)


@pytest.fixture(scope="session")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """What reads students back."""
    from readers import Readers

    made = Readers(tmp_path_factory.mktemp("readers"))
    yield made
    made.end()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the project; tests that ask for it skip without it."""
    if not SHARED.is_dir():
        pytest.skip(f"there is no data folder {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def papers() -> Path:
    """The folder of figures that others have published, beside that of the data."""
    folder = SHARED.parent / "papers"
    if not folder.is_dir():
        pytest.skip(f"there is no folder {folder} of published figures")
    return folder


@component
class Listed(Teacher):
    """A teacher whose examples stand in memory."""

    name: Annotated[str, Incidental]
    examples: Annotated[tuple[Any, ...], Incidental]

    def rows(self, on_bad=None):
        return iter(self.examples)

    def digest(self) -> str:
        return repr(self.examples)


@pytest.fixture(scope="session")
def teacher_of() -> Callable[..., Listed]:
    """Make a teacher of (instruction, response) pairs, or of plain texts."""

    def make(said: Sequence[tuple[str, str] | str], name: str = "toy") -> Listed:
        turns = [
            (Message("text", s),)
            if isinstance(s, str)
            else (Message("user", s[0]), Message("assistant", s[1]))
            for s in said
        ]
        rows = tuple(Example(str(i), messages, name) for i, messages in enumerate(turns))
        return Listed(name=name, examples=rows)

    return make


@pytest.fixture(scope="session")
def toy(teacher_of) -> Listed:
    """24 short responses of different lengths."""
    return teacher_of(PAIRS)


@pytest.fixture(scope="session")
def template() -> Template:
    """Headings as plain text; a turn ends with the end of text."""
    return Template(
        name="toy",
        begin="",
        system="{content}\n\n",
        system_in_user=False,
        default_system=None,
        user="User: {content}\n",
        assistant="Assistant: ",
        end_of_turn=END,
        between="\n",
        special_tokens=(),
    )


@pytest.fixture(scope="session")
def student(template, teacher_of) -> Scratch:
    """A Llama of two layers with grouped-query attention, over a byte-level BPE of 300 tokens."""
    return Scratch(
        name="tiny",
        precision="32-true",
        architecture=Llama(
            hidden=32, layers=2, heads=4, kv_heads=2, ffn=64, context=256,
            rope_theta=10000.0, tied=True, init_std=0.1,
        ),
        tokenizer=TrainedBPE(
            corpus=teacher_of([WORDS]), vocabulary=300, end_of_text=END, pad="<|pad|>"
        ),
        template=template,
        new_tokens="refuse",
        seed=0,
        pretraining=None,
    )  # fmt: skip


@pytest.fixture
def loaded(student) -> Loaded:
    """The tiny student in memory, fresh for each test, so that a test may train it."""
    return student.fresh()


@pytest.fixture(scope="session")
def tokenizer(student) -> Any:
    """The tiny student's tokenizer; spells every text."""
    return student.fresh().tokenizer


@pytest.fixture(scope="session")
def recipe_of(toy) -> Callable[..., Any]:
    """Make a recipe for the tiny student; any part of it can be given otherwise."""

    def make(**changes: Any) -> Any:
        from heed.data.treatment import Treatment
        from heed.methods.adapters import Full
        from heed.methods.method import Method
        from heed.methods.weights import Plain
        from heed.training.optim import AdamW, LearningRate
        from heed.training.rule import Last
        from heed.training.run import Recipe

        data = {
            "max_tokens": 64, "over_long": "drop", "limit": None, "examples_per_step": 8,
            "epochs": 1, "steps": None, "micro_tokens": 128, "on_bad_row": "error",
            "duplicates": "keep", "loss_on": "every_turn", "validation_share": 0.0,
            "drop_contaminated": False, "packing": "best_fit",
        }  # fmt: skip
        lr = {"peak": 1e-3, "schedule": "constant", "warmup_steps": 0, "final": 0.0}
        optim = {"beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.0, "clip_norm": 1.0}
        optim["on_non_finite"] = "stop"
        for part in (data, lr, optim):
            part |= {key: changes.pop(key) for key in list(changes) if key in part}
        rest = {
            "teacher": toy, "precision": "32-true", "seed": 1, "checkpoint": Last(),
            "method": Method(name="full", weights=Plain(), adapter=Full(), noise=None),
        }  # fmt: skip
        return Recipe(
            data=Treatment(**data), lr=LearningRate(name="toy", **lr), optim=AdamW(**optim),
            **(rest | changes),
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def run_of(recipe_of) -> Callable[..., Any]:
    """Make the run of a student with the toy recipe."""

    def make(student: Scratch) -> Any:
        from heed.training.run import Run

        return Run(student=student, recipe=recipe_of())

    return make


@pytest.fixture(scope="session")
def around() -> Any:
    """Surroundings of a quick training on the CPU; every step is written."""
    from heed.tracking.tracker import LocalOnly
    from heed.training.callbacks import Metrics
    from heed.training.fit import Surroundings
    from heed.training.trainer import TrainerSettings

    settings = TrainerSettings(
        accelerator="cpu", devices=1, nodes=1, strategy="ddp", threads=1, deterministic=True,
        activation_checkpointing=False, compile=False, arguments={},
    )  # fmt: skip
    return Surroundings(settings, {"metrics": Metrics(every_steps=1)}, LocalOnly())


@pytest.fixture(scope="session")
def saved_base(student, tmp_path_factory) -> Path:
    """The tiny student's random weights in a directory, as a base that adapters can name."""
    path = tmp_path_factory.mktemp("base")
    loaded = student.fresh()
    loaded.model.save_pretrained(path)
    loaded.tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def wide_base(student, tmp_path_factory) -> Path:
    """A base whose rows are whole blocks of four-bit numbers."""
    path = tmp_path_factory.mktemp("wide")
    wide = replace(student, architecture=replace(student.architecture, hidden=64)).fresh()
    wide.model.save_pretrained(path)
    wide.tokenizer.save_pretrained(path)
    return path

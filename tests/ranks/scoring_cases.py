"""What the ranks of `test_scoring.py` do."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

from heed.core import ranks
from heed.core.component import component
from heed.core.errors import HeedError
from heed.core.files import read_jsonl
from heed.core.identity import Incidental
from heed.core.types import Answer, Item, ItemScore, Ratio, Request
from heed.data.template import Template
from heed.evaluation.prompting import Declared
from heed.evaluation.suite import Suite
from heed.evaluation.task import Measured, Task
from heed.models.backend import HeedBackend, VLLMBackend
from heed.models.student import Published
from heed.study import crew
from heed.study.bases import Untuned
from heed.study.scores import scores_of

TOLD = "prompts that the backend was given"


class StopError(Exception):
    """A rank ends in the middle of its answers."""


TEMPLATE = Template(
    name="toy", begin="", system="{content}\n\n", system_in_user=False, default_system=None,
    user="User: {content}\n", assistant="Assistant: ", end_of_turn="<|end|>", between="\n",
    special_tokens=(),
)  # fmt: skip


@component
class Asks(Task):
    """Prompts of a file, answered in text or weighed."""

    file: str
    weighed: bool
    count: int
    metrics = ("amount",)

    def items(self) -> list[Item]:
        rows = read_jsonl(Path(self.file))[: self.count]
        assert len(rows) == self.count
        return [Item(str(row["key"]), row["prompt"], self._requests(row["prompt"])) for row in rows]

    def _requests(self, prompt: str) -> tuple[Request, ...]:
        half = len(prompt) // 2
        asks = (Request(prompt[:half], prompt[half:]), Request("", prompt[:half]))
        return asks if self.weighed else ()

    def score(self, name: str, item: Item, answer: Answer) -> ItemScore:
        amount = len(answer.text or "") + sum(found.nats for found in answer.likelihoods)
        metrics = {"amount": Ratio(amount, 1)}
        return ItemScore(name, item.key, item.prompt, answer.text, answer.stop, 1, metrics)

    def digest(self) -> str:
        return f"{self.count} {self.weighed}"


@component
class Questions(Measured):
    """Questions the model in its own way; only one process may."""

    metrics = ("size",)

    def measure(self, name: str, loaded: Any, events: Counter[str]) -> list[ItemScore]:
        assert ranks.leads()
        events["questioned"] += 1
        size = {"size": Ratio(loaded.model.config.hidden_size, 1)}
        return [ItemScore(name, key, "", None, None, 0, size) for key in "ab"]

    def items(self) -> Sequence[Item]:
        return []

    def digest(self) -> str:
        return "questions"


@component
class Telling(HeedBackend):
    """Tells how many prompts it was given, and may stop after some answers."""

    stops_after: Annotated[int | None, Incidental] = None

    def answers(
        self, loaded: Any, prompts: Any, *, events: Counter[str], **how: Any
    ) -> Iterator[tuple[int, Answer]]:
        events[TOLD] += len(prompts)
        for count, answer in enumerate(super().answers(loaded, prompts, events=events, **how)):
            if self.stops_after is not None and count == self.stops_after + 10 * ranks.rank():
                raise StopError
            yield answer


def subject(folder: Path, outputs: str, model: str = "model") -> Untuned:
    """A published student, in surroundings that no pickle takes."""
    from heed.tracking.tracker import LocalOnly
    from heed.training.fit import Surroundings
    from heed.training.trainer import TrainerSettings

    trainer = TrainerSettings(
        accelerator="cpu", devices=1, nodes=1, strategy="ddp", threads=1, deterministic=False,
        activation_checkpointing=False, compile=False, arguments={},
    )  # fmt: skip
    student = Published(
        name="toy", precision="32-true", path=str(folder / model), revision=None, dtype="float32",
        trust_remote_code=False, template=TEMPLATE, new_tokens="refuse", pretraining=None,
    )  # fmt: skip
    around = Surroundings(trainer, {}, LocalOnly(), folder, score=lambda *_: {}, ask=lambda _: [])
    return Untuned(student, around, folder / outputs)


def suite(folder: Path, **changes: Any) -> Suite:
    """541 prompts to be answered, some to be weighed, and a task of its own way."""
    prompts = str(folder / "prompts.jsonl")
    tasks = {
        "said": Asks(file=prompts, weighed=False, count=541),
        "questions": Questions(),
        "weighed": Asks(file=prompts, weighed=True, count=150),
    }
    settings = {
        "name": "toy", "tasks": tasks, "primary": "said/amount", "max_new_tokens": 6,
        "prompting": Declared(), "level": 0.95, "resamples": 100, "seed": 0,
        "backend": Telling(batch_tokens=60000, rows=64), "margin": dict.fromkeys(tasks, 0.1),
    }  # fmt: skip
    return Suite(**settings | changes)


def stopping(folder: Path, after: int) -> Suite:
    """The same, stopped in the middle; that it is stopped decides no answer."""
    return suite(folder, backend=Telling(batch_tokens=60000, rows=64, stops_after=after))


def said_of(call: Callable[[], Any]) -> str:
    """What a command that is refused says."""
    try:
        call()
    except HeedError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def take_part(folder: Path) -> tuple[Any, str]:
    """All cases, one after the other, on one rank; the last one is stopped in the middle.

    Returns:
        Of the leader what it was refused and what it found alone, of the others what they were
        refused; and what each printed.
    """
    printed = StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        found = lead(folder) if ranks.leads() else follow()
    return found, printed.getvalue()


def follow() -> list[str]:
    """What another rank does: a job that is refused is refused on all, and the next one comes."""
    refused: list[str] = []
    with suppress(StopError):
        while said := said_of(crew.follow):
            refused.append(said)
        raise AssertionError("it was dismissed, and not stopped")
    return refused


def lead(folder: Path) -> dict[str, Any]:
    """What the leader does."""
    size = ranks.world()
    own, vllm = subject(folder, f"world{size}"), VLLMBackend(gpu_share=0.5, compared=1)
    found: dict[str, Any] = {
        "long": said_of(lambda: scores_of(own, suite(folder, max_new_tokens=4000))),
        "vllm": said_of(lambda: scores_of(own, suite(folder, backend=vllm))),
    }
    scores_of(own, suite(folder))
    found["alone"] = suite(folder).score(own.load())  # the others know nothing of it
    if size > 2:  # what a smaller group has left
        scores_of(subject(folder, f"stopped{size - 1}"), suite(folder))
    with suppress(StopError):
        scores_of(subject(folder, f"stopped{size}"), stopping(folder, 20))
    return found

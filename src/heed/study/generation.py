"""A teacher's responses to a file of instructions: greedy, drawn, or the best of several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import PositiveInt

from heed.analysis.rewards import Column, Preference, Reward, RewardAround, rewarding
from heed.core.component import component
from heed.core.console import result_console, visible
from heed.core.errors import ConfigError, DataError, Mistake, RunError
from heed.core.files import (
    digest_file,
    read_json,
    whole_directory,
    write_json,
    write_jsonl,
)
from heed.core.identity import Incidental, canonical, short_hash, slug
from heed.core.locks import lock
from heed.core.manifest import manifest
from heed.core.types import Answer, Example, Message
from heed.data.tables import READERS, kind_of
from heed.data.teacher import id_of
from heed.models.sampling import Sampling
from heed.study.answering import Answering, EndpointAnswering, ModelAnswering
from heed.study.drawn import Draws, answers_of
from heed.study.instructions import read_instructions
from heed.study.runs import run_lock
from heed.study.scores import ModelSubject, Subject, say_waiting

if TYPE_CHECKING:
    from heed.study.evaluation import Evaluation

Pick = Literal["only", "best", "worst"]

RESPONSES = "responses.jsonl"
"""What a generation writes: a row for each instruction."""

TRAIN = "python train.py teacher=file layout@teacher.layout=prompt_completion teacher.source.path="
"""How a file of responses is trained on."""

EMPTY = "empty response"
FAILED = "instruction without a response"
AT_CAP = "response cut at max_new_tokens"
AGAIN = "instruction that stands in the file before, answered once"
EMPTY_DRAW = "drawn answer that is empty, and cannot be chosen"
FAILED_DRAW = "drawn answer that failed, and cannot be chosen"
FEWER = "instruction with fewer answers to choose from than generation.answers"
UNSCORED = "instruction of which no answer has a reward, the first taken"


@component
class Generation:
    """How a teacher's responses are made; an option of `conf/generation/`."""

    name: Annotated[str, Incidental]
    """How this way is called."""

    column: str
    """Column of the file that holds the instructions."""

    input: str | None
    """Column of further input to the instruction, joined to it by a blank line; null if none."""

    max_new_tokens: PositiveInt
    """Cap on the tokens of a response, its end included."""

    sampling: Sampling | None
    """How answers are drawn; null: greedy, the likeliest token each time."""

    answers: PositiveInt
    """Answers to each instruction."""

    pick: Pick
    """Which of them is the response: the only one, the best or the worst by the reward."""

    reward: Reward | None
    """What says which is best."""

    def __post_init__(self) -> None:
        found = []
        several = self.pick != "only"
        if several == (self.answers == 1):
            why = f"with pick={self.pick} an instruction has {'several' if several else 'one'}."
            action = "Give generation.answers=5, say." if several else "Give generation.answers=1."
            found.append(Mistake("answers", str(self.answers), why, action))
        if several and self.sampling is None:
            why = "greedy answers to one instruction are all the same."
            found.append(Mistake("sampling", "null", why, "Choose temperature, top_p and seed."))
        if several == (self.reward is None):
            why = f"pick={self.pick} {'needs one' if several else 'has no use for one'}."
            action = "Choose reward@generation.reward=<name>." if several else "Give it null."
            found.append(Mistake("reward", "null" if several else "one", why, action))
        if isinstance(self.reward, Column | Preference):
            why = "no row and no judge's record holds the score of a response that is made now."
            action = "Choose reward@generation.reward=model, or a programmatic one."
            found.append(Mistake("reward", self.reward.name, why, action))
        if found:
            raise ConfigError(found)


@dataclass(frozen=True)
class Job:
    """One generation.

    Attributes:
        way: How.
        who: Who answers.
        path: The file of instructions.
        around: Devices, folders and events.
    """

    way: Generation
    who: Answering
    path: Path
    around: RewardAround

    def directory(self) -> Path:
        """Where it is kept: named after all that decides the responses."""
        return self._place([self.who.about, canonical(self.way), digest_file(self.path)])

    def journal(self) -> Path:
        """Where its answers are kept: whatever is chosen of them, they are drawn once."""
        way = self.way
        drawn = [way.column, way.input, way.max_new_tokens, canonical(way.sampling)]
        place = self._place([self.who.about, drawn, digest_file(self.path)])
        return place.with_name(f"{place.name}.answers.jsonl")

    def _place(self, about: list[Any]) -> Path:
        return self.around.root / "teachers" / f"{slug(self.who.name)}--{short_hash(about)}"


def generate(job: Job, asked: Sequence[str]) -> Path:
    """The responses of a teacher, made if this is the first time.

    Every finished answer is kept in a journal, so that a generation that was killed goes on.

    Args:
        job: Who answers, and how.
        asked: The instructions of the job's file.

    Returns:
        The directory: responses.jsonl with a row for each instruction, in their order (`prompt`,
        `completion`), and manifest.json.

    Raises:
        HeedError: the model cannot be loaded or asked, or not one instruction has a response.
    """
    directory = job.directory()
    done = directory / RESPONSES
    if not done.is_file():
        with lock(run_lock(job.journal().with_suffix("")), say_waiting):
            if not done.is_file():
                _make(job, asked, directory)
    return directory


def _make(job: Job, asked: Sequence[str], directory: Path) -> None:
    events: Counter[str] = Counter()
    once = list(dict.fromkeys(asked))
    events[AGAIN] = len(asked) - len(once)
    draws = Draws(job.way.sampling, job.way.answers, job.way.max_new_tokens)
    said = answers_of(job.who, draws, once, job.journal(), events)
    job.who.release()  # a reward model may want the room
    rows = dict(zip(once, _chosen(job, once, said, events), strict=True))
    events.update(job.around.events)
    if all(row["missing"] for row in rows.values()):
        raise RunError(
            f"{job.who.name} gave no response to any of {len(once)} instructions "
            f"({', '.join(f'{n} x {what}' for what, n in (+events).items())}), so there is no "
            f"teacher. Look at generation.max_new_tokens and at what the model is given."
        )
    for row in (rows[text] for text in asked):
        events[EMPTY] += row["missing"] == EMPTY
        events[FAILED] += row["missing"] == FAILED
        events[AT_CAP] += row["stop"] == "cap"
    about = {
        "teacher": job.who.name,
        "made by": job.who.about,
        "generation": canonical(job.way),
        "instructions": {"path": str(job.path), "content": digest_file(job.path)},
        "rows": len(asked),
        "events": dict(+events),
    }
    with whole_directory(directory) as beside:
        write_jsonl(beside / RESPONSES, [rows[text] for text in asked])
        write_json(beside / "manifest.json", manifest() | about)


def _chosen(
    job: Job,
    asked: Sequence[str],
    said: Mapping[tuple[str, int], Answer],
    events: Counter[str],
) -> Iterator[dict[str, Any]]:
    """The row of each instruction: one of its answers."""
    numbers = range(job.way.answers)
    _count_draws(asked, said, job.way.answers, events)
    keys = [(text, n) for text in asked for n in numbers if (said[text, n].text or "").strip()]
    scores = dict(zip(keys, _rewards(job, keys, said), strict=True))
    if job.way.reward is not None and keys and all(s is None for s in scores.values()):
        raise DataError(
            f"reward {job.way.reward.name} scores none of {len(keys)} answers, so none is the "
            f"{job.way.pick}. Choose another: reward@generation.reward=<name>."
        )
    sign = -1 if job.way.pick == "worst" else 1
    for text in asked:
        own = [(text, number) for number in numbers if (text, number) in scores]
        scored = [(sign * score, -key[1]) for key in own if (score := scores[key]) is not None]
        number = -max(scored)[1] if scored else (own[0][1] if own else 0)
        events[UNSCORED] += bool(own) and job.way.reward is not None and not scored
        yield _row(text, number, said[text, number], scores.get((text, number)))


def _count_draws(
    asked: Sequence[str],
    said: Mapping[tuple[str, int], Answer],
    answers: int,
    events: Counter[str],
) -> None:
    """Count the answers that nothing can be chosen of, where something is chosen."""
    if answers == 1:
        return
    for text in asked:
        drawn = [said[text, number].text for number in range(answers)]
        failed = drawn.count(None)
        empty = sum(one is not None and not one.strip() for one in drawn)
        events[FAILED_DRAW] += failed
        events[EMPTY_DRAW] += empty
        events[FEWER] += failed + empty > 0


def _rewards(
    job: Job, keys: Sequence[tuple[str, int]], said: Mapping[tuple[str, int], Answer]
) -> list[float | None]:
    """What each answer is worth, where that decides anything."""
    if job.way.reward is None or not keys:
        return [None] * len(keys)
    examples = []
    for key in keys:
        turns = (Message("user", key[0]), Message("assistant", said[key].text or ""))
        examples.append(Example(id_of(turns), turns, job.who.name))
    return job.way.reward.of(examples, job.around)


def _row(text: str, number: int, answer: Answer, reward: float | None) -> dict[str, Any]:
    """A row of the teacher's file; `missing` says why a completion is empty."""
    missing = FAILED if answer.text is None else (None if answer.text.strip() else EMPTY)
    return {
        "prompt": text,
        "completion": answer.text or "",
        "missing": missing,
        "reward": reward,
        "answer": number,
        "tokens": answer.tokens,
        "stop": answer.stop,
    }


def generation_mistakes(command: Evaluation) -> Iterator[Mistake]:
    """Of a command that generates, or that asks for half of it."""
    if command.generate is None:
        for name in ("generation", "endpoint"):
            if getattr(command, name) is not None:
                why = "it says how instructions are answered, and none are given."
                yield Mistake(name, "given", why, "Add generate=<instructions.jsonl>.")
        return
    if command.generation is None:
        why = "how a teacher answers decides what it teaches, and is a choice."
        ways = "generation=greedy, sampled, best_of or worst_of"
        yield Mistake("generation", "nothing", why, f"Choose {ways}.")
    if kind_of(command.generate) is None:
        why = f"its ending is none of {', '.join(READERS)}, so its rows cannot be told apart."
        yield Mistake("generate", command.generate, why, "Convert it to .jsonl.")
    others = ("responses", "control", "chat", "compare", "analysis", "prompts")
    for name in (name for name in others if getattr(command, name) is not None):
        why = "responses are generated by a model, a run or an endpoint, and nothing else is done."
        yield Mistake(name, "given as well", why, "Leave it out.")
    if command.trainer.several:
        given = f"devices {command.trainer.devices}, nodes {command.trainer.nodes}"
        why = "responses are generated by one process."
        yield Mistake("trainer.devices", given, why, "Give trainer.devices=1 trainer.nodes=1.")


def run_generation(command: Evaluation, subject: Callable[[], Subject]) -> None:
    """Make a teacher's responses to the command's instructions, and say where they are.

    Args:
        command: One that generates.
        subject: Makes the model or the run that answers, where no endpoint does.

    Raises:
        HeedError: as in `read_instructions` and `generate`.
    """
    path, way = command.generate, command.generation
    assert path is not None
    assert way is not None, "checked before"
    asked = read_instructions(path, way.column, way.input)
    who: Answering
    if command.endpoint is not None:
        who = EndpointAnswering(command.endpoint, command.root / "teachers")
    else:
        model = subject()
        assert isinstance(model, ModelSubject), "a model or a run"
        who = ModelAnswering(model, command.suite)
    with rewarding(command.root, command.trainer.device) as around:
        job = Job(way, who, Path(path), around)
        directory = generate(job, asked)
    console = result_console()
    about = read_json(directory / "manifest.json")
    said = [f"{about['rows']} responses of {about['teacher']} ({way.name})"]
    said += [f"  {times} x {what}" for what, times in about["events"].items()]
    said += [str(directory / RESPONSES), "Train on them:", f"  {TRAIN}{directory / RESPONSES}"]
    if about["events"].get(FAILED):
        said += ["To ask those without a response again, remove this folder and give the same",
                 f"command; the others are kept in {job.journal()}", f"  {directory}"]  # fmt: skip
    for line in said:
        console.print(visible(line), soft_wrap=True, markup=False)

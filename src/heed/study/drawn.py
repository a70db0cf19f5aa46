"""Every answer of a teacher to its instructions, kept in a journal as it comes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from heed.core.console import Answered
from heed.core.errors import RunError
from heed.core.files import append_jsonl
from heed.core.types import Answer
from heed.models.sampling import Sampling
from heed.study.answering import Answering
from heed.study.scores import SAY

KEPT = "answer kept from an interrupted or another generation"

Answers = dict[tuple[str, int], Answer]
"""(instruction, number of the draw) -> answer."""


class Draws(NamedTuple):
    """What is drawn.

    Attributes:
        sampling: How; None: the likeliest.
        number: Answers to each instruction.
        most: Cap on tokens of an answer.
    """

    sampling: Sampling | None
    number: int
    most: int


def answers_of(
    who: Answering, draws: Draws, asked: Sequence[str], journal: Path, events: Counter[str]
) -> Answers:
    """Every answer by instruction and number, those that are kept first; failures are not kept.

    All are asked for at once, so that what has to be begun to answer is begun once.

    Args:
        who: Answers.
        draws: What is drawn.
        asked: The instructions, each once.
        journal: Where answers are kept, each with the events that came with it.
        events: Told of all events, also those of answers that were kept.

    Raises:
        HeedError: nobody can be asked, or the first answers are all refused.
    """
    found: Answers = {}
    wanted = set(asked)
    for key, answer, told in kept_answers(journal):
        if key[0] in wanted and key[1] < draws.number and key not in found:
            found[key] = answer
            events.update(told)
    events[KEPT] = len(found)
    tell, here, total = Answered(SAY), Counter[str](), draws.number * len(asked)
    every = [(text, number) for number in range(draws.number) for text in asked]
    left = [key for key in every if key not in found]
    how = draws.sampling
    ways = None if how is None else [how.numbered(number) for _, number in left]
    texts, said = [text for text, _ in left], bool(found)
    tell("answers", len(found), total)
    for place, answer in who.answers(texts, draws.most, ways, here) if left else ():
        found[left[place]] = answer
        said |= answer.text is not None
        _keep(journal, left[place], answer, here)
        events.update(here)
        here.clear()
        tell("answers", len(found), total)
        _refuse_all_refused(who, len(found), said, events)
    events.update(here)
    events.update(who.told(sum(answer.text is not None for answer in found.values())))
    return found


def _keep(journal: Path, key: tuple[str, int], answer: Answer, told: Mapping[str, int]) -> None:
    if answer.text is not None:
        row = {"asked": key[0], "number": key[1], **answer._asdict(), "events": dict(told)}
        append_jsonl(journal, row)


def _refuse_all_refused(who: Answering, done: int, said: bool, events: Mapping[str, int]) -> None:
    if said or who.patience is None or done < who.patience:
        return
    told = "; ".join(what for what, times in events.items() if times)
    raise RunError(
        f"{who.name} refused each of the first {done} requests, so the others are not sent: "
        f"{told}. Put the request right: endpoint.cap, endpoint.arguments, endpoint.model, "
        f"generation.max_new_tokens."
    )


def kept_answers(journal: Path) -> Iterator[tuple[tuple[str, int], Answer, dict[str, int]]]:
    """What was answered before, with its events; a torn line is answered again."""
    for line in journal.read_bytes().split(b"\n") if journal.is_file() else ():
        try:
            row: Any = json.loads(line)
            answer = Answer(row["text"], row["tokens"], row["stop"])
            told = {str(what): int(times) for what, times in row["events"].items()}
            yield (row["asked"], row["number"]), answer, told
        except (ValueError, KeyError, TypeError, AttributeError):  # empty, or torn
            continue

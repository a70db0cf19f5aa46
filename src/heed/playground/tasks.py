"""The playground's two tasks: do as you are told, and still know what you knew."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from heed.core.component import component
from heed.core.identity import short_hash
from heed.core.types import Answer, Item, ItemScore, Ratio, Request
from heed.evaluation.ifeval import METRICS, InstructionFollowing
from heed.evaluation.task import Task, weighed
from heed.playground.world import Fact, make_world

_NOT_ASKED = Ratio(0, 0)


@component
class PlayFollow(InstructionFollowing):
    """The world's held-out instructions, scored by IFEval's own code, and by the fact they ask for.

    They ask for taught and untaught facts alike, and for no fact under constraints with which any
    training instruction asks for it.

    Beside IFEval's four metrics: `answer_acc`, the response names the right value and no wrong
    one; `right`, it does so and meets every constraint strictly.
    """

    metrics = (*METRICS, "answer_acc", "right")

    world: int
    """Seed of the world."""

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """Held-out instructions in IFEval's row format, with `answer` and `wrong` values."""
        return [made.row(key) for key, made in enumerate(make_world(self.world).test)]

    def score(self, name: str, item: Item, answer: Answer) -> ItemScore:
        """IFEval's metrics and the two of this task."""
        found = super().score(name, item, answer)
        told = tells(answer.text or "", item.row["answer"], item.row["wrong"])
        both = told and found.metrics["prompt_level_strict_acc"].num == 1
        more = {"answer_acc": Ratio(int(told), 1), "right": Ratio(int(both), 1)}
        return replace(found, metrics={**found.metrics, **more})


def tells(response: str, answer: str, wrong: Sequence[str]) -> bool:
    """Whether a response names the answer and none of the wrong values.

    Example:
        >>> tells("Ada wears red.", "red", ["blue"]), tells("red or blue", "red", ["blue"])
        (True, False)
    """
    said = set(re.findall(r"\w+", response))
    return answer in said and not said.intersection(wrong)


@component
class PlayFacts(Task):
    """What the student knows of the world, without being asked in a conversation.

    Every fact is given as a plain sentence of the pre-training text; the student is right if the
    true value is likelier than every other value. `acc` is the share of right ones among the
    untaught facts, which no training instruction asks for: what it loses is forgotten. `taught_acc`
    is the same among the facts that tuning asks for, so it also shows what the teacher said of
    them, right or wrong. A fact counts in one of the two, with denominator 0 in the other.
    """

    metrics = ("acc", "taught_acc")

    world: int
    """Seed of the world."""

    def items(self) -> Sequence[Item]:
        """One item a fact, with one request for every value of its attribute."""
        return [_probe(fact) for fact in make_world(self.world).facts]

    def score(self, name: str, item: Item, answer: Answer) -> ItemScore:
        """Right or wrong, with the value that was found likeliest."""
        nats = [likelihood.nats for likelihood in answer.likelihoods]
        best = item.row["values"][nats.index(min(nats))]
        taught = item.row["taught"]
        right = Ratio(int(best == item.row["answer"]), 1)
        metrics = {
            "acc": _NOT_ASKED if taught else right,
            "taught_acc": right if taught else _NOT_ASKED,
        }
        details = {"answer": item.row["answer"], "likeliest": best, "taught": taught}
        return weighed(name, item, metrics, details)

    def digest(self) -> str:
        """Changes with the facts and their wording."""
        return _facts_digest(self.world)


@cache
def _facts_digest(world: int) -> str:
    items = map(_probe, make_world(world).facts)
    return short_hash([[i.key, i.row, *map(list, i.requests)] for i in items])


def _probe(fact: Fact) -> Item:
    values = fact.attribute.values
    context = fact.attribute.verb.removesuffix(" {v}.").format(e=fact.entity)
    return Item(
        key=f"{fact.entity} {fact.attribute.noun}",
        prompt=context,
        requests=tuple(Request(context, f" {value}.") for value in values),
        row={"answer": fact.value, "values": list(values), "taught": fact.taught},
    )

"""The playground's reward: what a response does right, by the world itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated

from heed.analysis.rewards import Reward, RewardAround
from heed.core.component import component
from heed.core.identity import Incidental
from heed.core.types import Example
from heed.evaluation.verifiers import verify
from heed.playground.tasks import tells
from heed.playground.world import Instruction, make_world

NOT_OF_THE_WORLD = "instruction that is none of this world, no reward"


@component
class PlayReward(Reward):
    """Of an instruction's demands, the share that a response meets: its constraints and the fact.

    Each constraint counts one, and so does naming the right value and no wrong one.
    """

    name: Annotated[str, Incidental]
    """How the reward is called in tables."""

    world: int
    """Seed of the world, as in the teachers."""

    def of(self, examples: Sequence[Example], around: RewardAround) -> list[float | None]:
        """Shares from 0 to 1; none for an instruction of another world."""
        asked = _instructions(self.world)
        found: list[float | None] = []
        for example in examples:
            instruction = asked.get(example.messages[0].content)
            around.events[NOT_OF_THE_WORLD] += instruction is None
            said = example.messages[-1].content
            found.append(None if instruction is None else share_met(instruction, said))
        return found


@cache
def _instructions(world: int) -> Mapping[str, Instruction]:
    """All instructions of a world, by their prompts."""
    return {made.prompt: made for made in make_world(world).instructions}


def share_met(instruction: Instruction, response: str) -> float:
    """Constraints that a response follows to the letter, and the fact, over all that was asked.

    Example:
        >>> from heed.playground.world import make_world
        >>> share_met(make_world(7).train[0], "")
        0.0
    """
    row = instruction.row(0)
    met = [verdict.strict for verdict in verify(row, response, "ifeval")]
    right = tells(response, row["answer"], row["wrong"])
    return (sum(met) + right) / (len(met) + 1)

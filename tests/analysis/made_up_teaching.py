"""Students that were tuned on made-up teachers, of which it is known what predicts the delta."""

from collections.abc import Sequence

import numpy as np

from heed.analysis.agreement import Sample
from heed.analysis.car import REFERENCE, SELF, Formula, Measured, Read
from heed.analysis.teaching import Tried, teaching_numbers

BOOTSTRAP = {"level": 0.95, "resamples": 200, "seed": 1}
FORMULA = Formula(beta=1.0, per="token", conditioned=True)
TEACHERS, INSTRUCTIONS = 10, 40
BETAS = (0.0, 1.0, float("inf"))
ABOUT = {
    "outcome": "play/follow",
    "formula": "beta 1",
    "reward": "judge",
    "counts": {
        "nano": {"shared": 90, "asked": 50, "kept": 40, "rewarded": 21, "weighed": 19},
        "micro": {"shared": 90, "asked": 50, "kept": 38, "rewarded": 20, "weighed": 18},
    },
    "choices": ["mean rewards of first_half"],
    "items": 520,
    "level": 0.95,
    "about": {"teacher 0": {"family": "A <b>", "size_b": 7.0}},
    "events": {
        "nano": {"teacher 1": {"cut": 2, "empty": 4}, "teacher 2": {"cut": 1, "empty": 1}},
        "micro": {"teacher 1": {"cut": 1, "empty": 4}, "teacher 2": {"cut": 1, "empty": 1}},
    },
    "notes": ["Not finished: <i>x</i>."],
}


def tried(
    student: str,
    quality: Sequence[float],
    fit: Sequence[float],
    deltas: Sequence[float],
    seed: int = 0,
    reference: bool = False,
) -> Tried:
    """A student that finds teachers of some mean reward and loss, and gains some delta."""
    random = np.random.default_rng(seed)
    shape = (len(quality), INSTRUCTIONS)
    tokens = random.integers(5, 30, shape).astype(float)
    rewards = np.array(quality)[:, None] + 0.05 * random.normal(size=shape)
    nats = (np.array(fit)[:, None] + 0.05 * random.normal(size=shape)) * tokens
    read = {SELF: Read(nats, nats * 1.5 + random.uniform(size=shape), tokens)}
    if reference:
        read[REFERENCE] = Read(nats * 0.8, nats * 1.1, tokens + 1)
    every = np.ones(INSTRUCTIONS, dtype=bool)
    measured = Measured(
        tuple(f"teacher {i}" for i in range(len(quality))),
        tuple(map(str, range(INSTRUCTIONS))),
        {"judge": rewards},
        read,
        every,
        every,
    )
    drawn = np.array(deltas) + 0.02 * random.normal(size=(BOOTSTRAP["resamples"], len(deltas)))
    return Tried(student, measured, Sample(np.array(deltas, dtype=float), drawn))


def two_students(**more: bool) -> list[Tried]:
    """Reward predicts a little, loss a little, and CAR well."""
    random = np.random.default_rng(3)
    found = []
    for number, name in enumerate(("nano", "micro")):
        quality = random.uniform(0.4, 1.0, TEACHERS)
        fit = random.uniform(0.5, 3.0, TEACHERS)
        deltas = quality / (1 + fit) + 0.01 * random.normal(size=TEACHERS)
        found.append(tried(name, quality, fit, deltas, number, **more))
    return found


def teaching(students: Sequence[Tried] = ()) -> dict:
    """All that a page is told of teachers."""
    return teaching_numbers(students or two_students(), FORMULA, BETAS, BOOTSTRAP) | ABOUT

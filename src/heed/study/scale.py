"""A scale: what stands for the students, data and suite of a study where it is run smaller."""

from __future__ import annotations

from pydantic import PositiveFloat

from heed.core.component import component
from heed.core.errors import ConfigError, Mistake
from heed.core.identity import FileName
from heed.study.values import Keyed, Value

RATE = "lr.peak"
"""The key of a learning rate."""

KEPT = {
    "seed": "A study keeps its seeds at every scale.",
    "lr": "The names of rates stay; rate_factor moves their peaks.",
    RATE: "rate_factor says it for every rate.",
}
"""What a scale cannot replace, and what to do instead."""

FIELDS = ("suite", "suite.primary", "checkpoint")
"""Keys that a study has fields for: values of theirs have stand-ins, one by one."""


@component
class Scale:
    """One YAML in `conf/scale/`: a study's questions asked of other students.

    Each value that a study gives to a key named in `options` is replaced by what stands for it
    here; every learning rate is multiplied by one factor; `fixed` is added. What `options` does not
    name stays as the study says it.
    """

    name: FileName
    """Added to the study's name, so that its cells, table and page have a folder of their own."""

    why: str
    """What can and what cannot be learned at this scale, in a sentence for the page."""

    rate_factor: PositiveFloat
    """Every peak learning rate of the study is multiplied by it."""

    options: dict[str, dict[str, Value]]
    """Config group or key -> what a study says, as a text -> what stands for it here."""

    fixed: Keyed
    """Config group or key -> the one value of all cells, whatever the study fixes there. A key that
    the study varies has its stand-ins in `options` instead."""

    def __post_init__(self) -> None:
        found = [
            Mistake(f"{at}.{key}", "given", "a scale leaves it to the study.", KEPT[key])
            for at, keys in (("options", self.options), ("fixed", self.fixed))
            for key in keys
            if key in KEPT
        ]
        found += [
            Mistake(f"fixed.{key}", "given", "it would hide what the study says.",
                    f"Write options: {{{key}: {{<of the study>: <here>}}}} instead.")
            for key in self.fixed if key in FIELDS
        ]  # fmt: skip
        if found:
            raise ConfigError(found)

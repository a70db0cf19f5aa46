"""Token shift: at which tokens of its own responses the tuned student leaves its base."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, PositiveInt

from heed.analysis.analysis import Analysis, Studied
from heed.analysis.number import Number, measured
from heed.analysis.shift_numbers import CATEGORIES, SHIFTED_FROM, ItemShift, events_of, summary_of
from heed.core.component import component, plain
from heed.core.console import Answered, progress_console
from heed.core.errors import ConfigError, Mistake, RunError
from heed.core.files import write_bytes, write_json, write_jsonl
from heed.core.identity import Incidental
from heed.core.types import Item

T = TypeVar("T")
SUMS = ("kl_base_tuned", "kl_tuned_base", "probability", "nats_base", "nats_tuned")

QUERY = "# Query: \n ```{prompt}``` \n\n \n# Answer: \n ```"
"""How published code asks the base. Source: Re-Align/AlignTDS, `--enable_template`."""


@component
class TokenShift(Analysis):
    """Compare base and tuned student at every position of the tuned student's own responses.

    The tuned student answers greedily under its own template; both then read the answer. At each
    position, the stop token of a finished response included: KL in both directions, and the base
    probability and base rank of the tuned student's choice. Rank counts the tokens to which the
    base gives strictly more, so its first is 0; a position is unshifted at rank 0, marginal at 1
    and 2, shifted from 3 on.

    Source: Lin et al. 2024, https://arxiv.org/abs/2312.01552, section 2.1; Ghosh et al. 2024,
    https://arxiv.org/abs/2402.05119, section 3.
    """

    name = "shift"

    limit: PositiveInt | None
    """Most items, taken evenly from the task; null for all."""

    base_context: Literal["same", "query"]
    """What the base reads before the response: the very tokens that the tuned student was given, or
    the instruction under "# Query", as published code has it."""

    choice: Literal["argmax", "emitted"]
    """What is looked up in the base: the tuned student's most likely token, or the one it said."""

    top_k: PositiveInt | None
    """Null compares whole vocabularies. A number compares the lists of the k most likely tokens of
    each, normalised anew, as published code does: KL over what both hold, rank at most k. At least
    3: in shorter lists no rank could be that of a shifted position."""

    match: Literal["id", "text"]
    """Whether tokens of two lists are the same by id, or by what they decode to."""

    unit: Literal["response", "sentence"]
    """Of what the first positions are told apart from the rest."""

    first_share: Annotated[float, Field(gt=0, lt=1)]
    """Share of a unit's tokens that is its first part, rounded up, so at least one token."""

    batch_tokens: Annotated[PositiveInt, Incidental]
    """Most keys and values held at a time, in tokens: memory and speed."""

    rows: Annotated[PositiveInt, Incidental]
    """Most responses generated together: memory and speed."""

    shown: PositiveInt
    """Responses that the page shows, taken evenly."""

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < SHIFTED_FROM:
            why = (
                f"a choice that is not in a list of {self.top_k} has rank {self.top_k}, and a "
                f"position is shifted from rank {SHIFTED_FROM} on, so none ever would be."
            )
            action = "Give analysis.top_k=30, or null for whole vocabularies."
            raise ConfigError([Mistake("top_k", str(self.top_k), why, action)])
        if self.match == "text" and self.top_k is None:
            why = "whole vocabularies are compared token by token."
            action = "Give analysis.match=id, or analysis.top_k=30."
            raise ConfigError([Mistake("match", self.match, why, action)])

    def make(self, studied: Studied, directory: Path) -> list[str]:
        """Write the numbers, every position, the figures and the page.

        Raises:
            RunError: fewer than two items, students that share no vocabulary, or a text that does
                not fit into a context.
        """
        from heed.analysis.shift_page import lines_of, write_shift_page

        asked = evenly(studied.items, self.limit)
        if len(asked) < 2:
            raise RunError(
                f"The suite has {len(asked)} items that are answered in text, and an interval "
                f"needs at least two. Give the task more items, or raise analysis.limit."
            )
        found = self._read(studied, asked)
        summary = {
            "run": studied.run,
            "name": studied.name,
            "settings": plain(self),
            "items_of_task": len(studied.items),
            "events": events_of(found),
            **summary_of(found, self.unit, self.first_share, studied.bootstrap),
        }
        write_json(directory / "summary.json", summary)
        write_jsonl(directory / "items.jsonl", map(_item, found))
        rows = "".join(json.dumps(_positions(item)) + "\n" for item in found)
        write_bytes(directory / "positions.jsonl.gz", gzip.compress(rows.encode(), mtime=0))
        facts = {**studied.facts, "cap on a response": f"{studied.max_new_tokens} tokens"}
        level = float(studied.bootstrap["level"])
        write_shift_page(directory, summary, evenly(found, self.shown), facts, level)
        return lines_of(summary, level)

    def numbers(self, summary: Mapping[str, Any], primary: str) -> dict[str, Number]:
        """Shares of all positions; those shifted of the first part and the rest; KL."""
        parts = summary["parts"]
        every = parts["all"]
        shares = {kind: measured("share", every[kind]) for kind in CATEGORIES}
        shifted = measured("share", every["shifted"], more="shifts more tokens")
        return {
            **shares,
            "shifted": shifted,
            "shifted, first part": measured("share", parts["first"]["shifted"]),
            "shifted, the rest": measured("share", parts["last"]["shifted"]),
            "KL(tuned || base)": measured("nats", every["kl_tuned_base"]),
        }

    @property
    def about(self) -> str:
        """What these numbers are."""
        return (
            "Shares of the positions of the tuned student's own responses at which the base puts "
            "the tuned student's choice first (unshifted), second or third (marginal), or further "
            f"down (shifted; also of the first {100 * self.first_share:g} % of each {self.unit} "
            "and of the rest of it), and the mean of KL(tuned || base) in nats. Intervals resample "
            "responses as wholes."
        )

    def _read(self, studied: Studied, asked: Sequence[Item]) -> list[ItemShift]:
        """The tuned student answers, then both read; one model at a time is needed to answer."""
        from heed.analysis.shift_positions import Reader, answers

        told = Answered(progress_console())
        tuned = studied.tuned()
        told("responses", 0, len(asked))
        said = answers(
            tuned,
            asked,
            lambda done, of: told("responses", done, of),
            max_new_tokens=studied.max_new_tokens,
            batch_tokens=self.batch_tokens,
            max_rows=self.rows,
        )
        reader = Reader(
            studied.base(),
            tuned,
            choice=self.choice,
            shortlist=None if self.top_k is None else (self.top_k, self.match == "text"),
            framed=QUERY if self.base_context == "query" else None,
        )
        told("read by both", 0, len(said))
        found = []
        for one in said:
            found.append(reader.read(one))
            told("read by both", len(found), len(said))
        return found


def evenly(rows: Sequence[T], most: int | None) -> list[T]:
    """At most so many rows, taken evenly from all.

    Example:
        >>> evenly(range(10), 4), evenly(range(3), None)
        ([0, 2, 5, 7], [0, 1, 2])
    """
    if most is None or most >= len(rows):
        return list(rows)
    return [rows[i * len(rows) // most] for i in range(most)]


def _item(item: ItemShift) -> dict[str, Any]:
    """A line about a response as a whole."""
    kinds = Counter(CATEGORIES[i] for i in item.category)
    return {
        "key": item.key,
        "prompt": item.prompt,
        "response": "".join(item.texts),
        "stop": item.stop,
        "positions": len(item.said),
        **{kind: kinds[kind] for kind in CATEGORIES},
        **{name: float(getattr(item, name).sum()) for name in SUMS},
    }


def _positions(item: ItemShift) -> dict[str, Any]:
    """Every position of a response, one list for each number."""
    ids = {name: list(getattr(item, name)) for name in ("said", "choice", "argmax")}
    numbers = {name: getattr(item, name).tolist() for name in SUMS}
    return {"key": item.key, **ids, "rank": item.rank.astype(int).tolist(), **numbers}

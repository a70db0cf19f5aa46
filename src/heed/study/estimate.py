"""What a cell is likely to take, from what cells like it took here before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from heed.study.plan import PlannedCell

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Estimate:
    """What one cell is likely to take; None where nothing like it has been run here.

    Attributes:
        tokens: Supervised tokens that it trains on, all epochs counted.
        seconds: Of the whole cell: training, scoring and what is between.
    """

    tokens: float | None
    seconds: float | None


def estimates(cells: Sequence[PlannedCell], entries: Iterable[Entry]) -> list[Estimate]:
    """What each cell is likely to take.

    Tokens are the median over finished cells of the same student and teacher, else of the teacher.
    Seconds are the median over finished cells of the same student, teacher and method on the same
    suite; else the tokens at the measured rate of that student and method, and the median of what
    cells of the student took beside training on that suite. A cell that was broken off and went on
    counts for the rate only. Cells made to look for mistakes (`debug=`) are a world of their own.

    Args:
        cells: Which.
        entries: The ledger's.
    """
    done = [entry for entry in entries if entry["event"] == "done" and entry.get("cost")]
    debug = [_is_debug(entry) for entry in done]
    past = {
        kind: Past(entry for entry, is_debug in zip(done, debug, strict=True) if is_debug == kind)
        for kind in (False, True)
    }
    return [past[planned.cell.debugging is not None].estimate(planned.names) for planned in cells]


def _is_debug(entry: Entry) -> bool:
    flags = entry.get("flags") or ()
    return "debug" in (flag["kind"] if isinstance(flag, Mapping) else flag for flag in flags)


class Past:
    """What finished cells took, by what they have in common.

    Args:
        done: Their entries in the ledger.
    """

    def __init__(self, done: Iterable[Entry]):
        self.done = list(done)
        self.groups: dict[tuple[str, ...], dict[tuple[Any, ...], list[Entry]]] = {}
        self.medians: dict[tuple[Any, ...], float | None] = {}

    def estimate(self, names: Mapping[str, Any]) -> Estimate:
        """What a cell of these names is likely to take."""
        tokens = self._median(_tokens, names, "student", "teacher")
        tokens = tokens or self._median(_tokens, names, "teacher")
        same = self._median(_seconds, names, "student", "teacher", "method", "suite")
        if same is not None or tokens is None:
            return Estimate(tokens, same)
        rate = self._median(_rate, names, "student", "method")
        beside = self._median(_beside, names, "student", "suite")
        if rate is None or beside is None:
            return Estimate(tokens, None)
        return Estimate(tokens, tokens / rate + beside)

    def _median(
        self, of: Callable[[Entry], float | None], names: Mapping[str, Any], *keys: str
    ) -> float | None:
        """The median over cells that have these names in common; worked out once."""
        wanted = tuple(names[key] for key in keys)
        if (of, keys, wanted) not in self.medians:
            found = [of(entry) for entry in self._group(keys).get(wanted, ())]
            values = [value for value in found if value is not None]
            self.medians[of, keys, wanted] = median(values) if values else None
        return self.medians[of, keys, wanted]

    def _group(self, keys: tuple[str, ...]) -> dict[tuple[Any, ...], list[Entry]]:
        if keys not in self.groups:
            groups = self.groups[keys] = {}
            for entry in self.done:
                groups.setdefault(tuple(entry.get(key) for key in keys), []).append(entry)
        return self.groups[keys]


def _tokens(entry: Entry) -> float | None:
    return float(entry["cost"]["supervised_tokens"])


def _seconds(entry: Entry) -> float | None:
    return entry["cost"]["seconds"]


def _rate(entry: Entry) -> float | None:
    cost = entry["cost"]
    return cost["supervised_tokens"] / cost["fit_seconds"] if cost["fit_seconds"] else None


def _beside(entry: Entry) -> float | None:
    cost = entry["cost"]
    return None if cost["seconds"] is None else max(0.0, cost["seconds"] - cost["fit_seconds"])

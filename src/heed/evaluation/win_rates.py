"""Win rates from a judge's preferences: plain, discrete, length-controlled, and their averages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from heed.evaluation.judge import Scale, read_preferences

INSTRUCTIONS = 805
"""Of AlpacaEval, whose difficulties the length-controlled win rate knows by their place."""

BASELINE = "gpt4_1106_preview"
"""The reference of AlpacaEval 2."""

FAILURES = (ImportError, OSError, ValueError, LookupError, TypeError, AttributeError)
"""What alpaca_eval may end with: a package or the file of difficulties missing, other versions."""


class WinRates(NamedTuple):
    """Of one model, in percent.

    Attributes:
        win_rate: Mean preference.
        discrete: Share of wins, ties counted half.
        judged: Number of judgements.
        missing: Instructions without one, in neither rate.
    """

    win_rate: float
    discrete: float
    judged: int
    missing: int


@dataclass(frozen=True)
class Judged:
    """One judged response, as far as its win rates need it.

    Attributes:
        place: Of the instruction among AlpacaEval's 805, from 0.
        preference: From 0 (the reference is better) to 1.
        reference: The reference's response.
        response: The judged one.
    """

    place: int
    preference: float
    reference: str
    response: str


def discrete(preference: float) -> float:
    """A win, a loss or a tie.

    Example:
        >>> [discrete(preference) for preference in (0.2, 0.5, 0.51)]
        [0.0, 0.5, 1.0]
    """
    return 0.5 if preference == 0.5 else float(preference > 0.5)


def win_rates(preferences: Sequence[float | None]) -> WinRates | None:
    """Win rates of one model; None if nothing was judged.

    Args:
        preferences: From 0 to 1, one per instruction; None where there is no judgement.

    Example:
        >>> win_rates([1.0, 0.25, None, 0.5])
        WinRates(win_rate=58.333333333333336, discrete=50.0, judged=3, missing=1)
    """
    known = [preference for preference in preferences if preference is not None]
    if not known:
        return None
    plain, wins = (100 * sum(v) / len(known) for v in (known, map(discrete, known)))
    return WinRates(plain, wins, len(known), len(preferences) - len(known))


def recorded_win_rates(path: Path, scale: Scale) -> dict[str, WinRates]:
    """Win rates of every model of a table of preferences that has any: model -> rates.

    Raises:
        DataError: the table is missing or damaged.
    """
    columns = read_preferences(path, scale)
    found = {model: win_rates(list(column.values())) for model, column in columns.items()}
    return {model: rates for model, rates in found.items() if rates is not None}


def average_performance(length_controlled: float, arena_hard: float) -> float:
    """AP: the mean of AlpacaEval 2's length-controlled and Arena-Hard's win rate, in percent.

    Source: Xu et al. 2024, https://arxiv.org/abs/2411.07133, section 3.

    Example:
        >>> average_performance(20.0, 10.0)
        15.0
    """
    return (length_controlled + arena_hard) / 2


def length_controlled(judged: Sequence[Judged], baseline: str, items: int) -> str:
    """The length-controlled win rate by alpaca_eval's own model, in one line; or why there is none.

    What a judge prefers is fitted by the difference in length, the difficulty of the instruction
    and the model; the win rate is what that fit predicts at no difference in length. Difficulties
    are known for AlpacaEval's 805 instructions only.

    Args:
        judged: What was judged, unreadable judgements left out.
        baseline: Name of the reference.
        items: Number of instructions asked.

    Source: Dubois et al. 2024, https://arxiv.org/abs/2404.04475, section 3.
    """
    name = "length-controlled win rate"
    if items != INSTRUCTIONS or baseline != BASELINE:
        known = f"AlpacaEval's {INSTRUCTIONS} instructions against {BASELINE}"
        return f"{name} skipped: it is defined for {known}, and this is {items} against {baseline}."
    if find_spec("alpaca_eval") is None:
        return f"{name} skipped: alpaca_eval is not installed (pip install -e '.[judge]')."
    try:
        found = _fitted(judged, baseline)
    except FAILURES as error:
        why = " ".join(str(error).split())
        return f"{name} skipped: alpaca_eval failed ({type(error).__name__}: {why:.200})."
    return (
        f"{name} {found['length_controlled_winrate']:.2f} % (standard error "
        f"{found['lc_standard_error']:.2f}), by alpaca_eval from {len(judged)} judgements. AP is "
        f"the mean of it and the win rate on Arena-Hard, which is measured elsewhere."
    )


def _fitted(judged: Sequence[Judged], baseline: str) -> Mapping[str, Any]:
    """alpaca_eval's numbers; it fetches the difficulties from the hub on first use."""
    from alpaca_eval.metrics import get_length_controlled_winrate

    rows = [
        {
            "index": row.place,
            "preference": 1 + row.preference,
            "output_1": row.reference,
            "output_2": row.response,
            "generator_1": baseline,
            "generator_2": "model",
        }
        for row in judged
    ]
    found: Mapping[str, Any] = get_length_controlled_winrate(rows, save_weights_dir=None)
    return found

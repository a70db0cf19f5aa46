"""The answer of a study in a few lines, how far it stands, and how its words are meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heed.analysis.analyses_page import analyses_line
from heed.analysis.contrast_tables import contrasts_line
from heed.analysis.deltas import (
    Row,
    beside_line,
    counts_of,
    forgetting_of,
    holm_line,
    less_is_better,
    metrics_of,
    shared,
)
from heed.analysis.heat_map import parts_line
from heed.analysis.markup import Markup, join, line, table, tag
from heed.analysis.words import interval, pill, rate
from heed.core.types import Verdict

CONTROLS = (
    "After - best control: the tuned student minus the best of the rules that answer without "
    "reading the prompt, over the same items. What each of them answers stands with the students "
    "before tuning."
)


def answer(
    study: Mapping[str, Any], rows: Sequence[Row], failed: Sequence[Mapping[str, Any]]
) -> Markup:
    """What came out: the verdicts, and what else is to be known, a line each.

    Args:
        study: As `heed.analysis.report.write_report` has it.
        rows: The finished cells.
        failed: Those that failed.
    """
    missing = int(study["cells"]) - len(rows)
    if not rows:
        text = f"None of {missing} cells has a result yet, so there is no answer."
        return tag("p", text, class_="answer")
    counts = counts_of(rows)
    first: list[Any] = [f"Of {len(rows)} cells: "]
    for i, (verdict, count) in enumerate(counts.items()):
        first += [", " if i else "", f"{count} ", pill(verdict)]  # type: ignore[arg-type]
    first.append(f" on {' and '.join(dict.fromkeys(row.primary for row in rows))}.")
    more = [
        f"Cells without a result: {missing} (failed: {len(failed)})." if missing else "",
        beside_line(rows),
        _best(rows),
        holm_line(rows),
        _forgotten(rows),
        contrasts_line(study.get("contrasts", ())),
        analyses_line(study.get("analyses", ()), rows),
        parts_line(rows, study.get("types") or {}),
    ]
    said = tag("ul", *(tag("li", text) for text in more if text))
    return tag("div", tag("p", *first), said, class_="answer")


def _forgotten(rows: Sequence[Row]) -> str:
    """In how many cells the metric of what was known before fell; empty where there is none."""
    metric = forgetting_of(rows)
    if not metric:
        return ""
    forgotten = sum(bool((d := r.delta(metric)) and d.verdict == "hurt") for r in rows)
    return f"{forgotten} of {len(rows)} cells lost on {metric}."


def _best(rows: Sequence[Row]) -> str:
    helped = [row for row in rows if row.decisive.verdict == "helped"]
    if not helped:
        return "No cell helped."
    best = max(helped, key=lambda row: abs(row.decisive.delta))
    cell = f"{best.student} taught by {best.teacher} at {rate(best)}"
    kinds = ", ".join(dict.fromkeys(flag["kind"] for flag in best.flags or ()))
    flagged = f" (flagged: {kinds})" if kinds else ""
    return f"The largest gain is {cell}: {interval(best.decisive)}{flagged}."


def stopping_line(study: Mapping[str, Any], rows: Sequence[Row]) -> Markup:
    """The rule by which the study ends, and whether it is met; nothing where there is no rule."""
    rule = study.get("stopping")
    if not rule:
        return join()
    planned = int(study["cells"])
    met = len(rows) >= planned
    word = (
        f"met: all {planned} planned cells are finished."
        if met
        else (f"not met yet: {len(rows)} of {planned} cells; what stands here is interim.")
    )
    kind = "note" if met else "warning"
    return tag(
        "div", tag("strong", "Stopping rule, "), tag("strong", word), tag("div", rule), class_=kind
    )


def scale_box(scale: Mapping[str, Any] | None) -> Markup:
    """What stands for what in a study that runs at another scale; nothing for one that does not.

    Args:
        scale: `name`, `why`, `rate_factor`, `stands_for` (group, what the study says, what runs
            here) and `sets` (key -> value for all cells).
    """
    if not scale:
        return join()
    said = (
        f" {scale['why']} Every learning rate of the study is multiplied by "
        f"{scale['rate_factor']:g}. What is found here is found of what runs here."
    )
    pairs = [
        line([group, tag("code", one), tag("code", two)]) for group, one, two in scale["stands_for"]
    ]
    pairs += [line([key, "", tag("code", value)]) for key, value in scale.get("sets", {}).items()]
    shown = table(["setting", "the study says", "here"], pairs, id="scale")
    summary = tag("summary", "What stands for what")
    title = tag("strong", f"Run at another scale: {scale['name']}.")
    return tag("div", title, said, tag("details", summary, shown), class_="warning")


def how_to_read(rows: Sequence[Row]) -> Markup:
    """What the words of a verdict and of a flag mean, folded away at first."""
    if not rows:
        return join()
    margin = shared(f"{row.margin:g}" for row in rows)
    level = shared(f"{row.level:.0%}" for row in rows)
    meanings: dict[Verdict, str] = {
        "helped": "the whole interval of the delta lies above zero.",
        "hurt": "the whole interval lies below zero.",
        "unchanged": f"the interval holds zero and lies within +/- {margin}: no effect of a size "
        "that matters here.",
        "cannot tell": "the interval holds zero and is too wide to rule out an effect.",
    }
    items = [tag("li", pill(word), " ", text) for word, text in meanings.items()]
    counts = shared(sorted({row.decisive.items for row in rows}))
    intro = (
        f"Delta = after - before over the same items. The {level} interval resamples "
        f"{counts} items, keeping each item's two scores together. "
        "It is about these very students: it covers the choice of items, not the luck of one "
        "training seed."
    )
    chance = (
        f"Each verdict stands alone: with {len(rows)} cells, some may come out beside zero by "
        "chance, and the best of many looks better than it is. p (Holm) allows for their number."
    )
    falling = [m for m in metrics_of(rows) if less_is_better(rows, m)]
    if falling:
        chance += f" Of {', '.join(falling)} less is better: there, read above for below."
    flags = (
        "A flag changes no verdict: controls (the tuned student does not surely beat one answer "
        "given to every prompt), degenerate (too many answers are empty, a loop, or an echo), "
        "prompting (asked in another way, the delta has another sign), short (few steps or "
        "examples), dropped (most rows of the teacher were not trained on), warm-up (the learning "
        "rate hardly reached its peak, or never), debug (made to "
        "look for mistakes), preflight (a proof before the training failed); what is marked "
        "@ a prompting is said of that one."
    )
    said = [tag("p", intro), tag("ul", *items), tag("p", chance), tag("p", CONTROLS)]
    summary = tag("summary", "How to read a verdict")
    return tag("div", tag("details", summary, *said, tag("p", flags)), class_="note")

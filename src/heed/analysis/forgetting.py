"""Forgetting: how the scores of a suite move from the untuned student to the last step."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from heed.analysis.analysis import Analysis, Studied
from heed.analysis.best_control import NO_TEXT, NOT_RECORDED, best_control, control_entries
from heed.analysis.curves import curves
from heed.analysis.forgetting_page import About, forgetting_page, unbeaten
from heed.analysis.number import Number
from heed.core.component import component
from heed.core.files import write_bytes, write_json, write_jsonl, write_text
from heed.core.stats import compare_paired, holm, interval, verdict_of
from heed.core.types import Interval, ItemScore, Ratio, Verdict
from heed.core.unscored import scored_on_all

Scores = Mapping[int, Sequence[ItemScore]]
"""Step -> the suite's scores there, the same items in the same order."""


@dataclass(frozen=True)
class Point:
    """One metric after one step.

    Attributes:
        step: Optimiser steps done; 0 is the untuned student.
        here: The value with its interval.
        change: Value minus that at step 0, with the paired interval.
        p: Two-sided p value of the change, adjusted by Holm's rule for all steps and metrics.
        verdict: By the rule of `heed.core.stats.verdict_of`, from the interval alone.
        gained: Items that are right here and were wrong at step 0; None if items are not right or
            wrong.
        lost: The other way round.
    """

    step: int
    here: Interval
    change: Interval
    p: float
    verdict: Verdict
    gained: int | None
    lost: int | None

    def stands(self, level: float) -> bool:
        """Whether the change is still sure among all that were looked at."""
        return self.p < 1 - level


@dataclass(frozen=True)
class Curve:
    """One metric from the untuned student to the last step.

    Attributes:
        metric: `<task>/<metric>`.
        less_is_better: Whether it is better when it falls.
        base: Its value at step 0.
        points: The later steps, in order.
    """

    metric: str
    less_is_better: bool
    base: Interval
    points: tuple[Point, ...]

    @property
    def last(self) -> Point:
        """After the last step."""
        return self.points[-1]

    def first_hurt(self, level: float) -> int | None:
        """The first step that is worse than the untuned student, adjusted p value included.

        Args:
            level: Of the intervals; a step counts if its p value is below 1 - level.
        """
        worse = (p.step for p in self.points if p.verdict == "hurt" and p.stands(level))
        return next(worse, None)


@component
class Forgetting(Analysis):
    """Score the base, every kept step and the last one, and compare each with the base."""

    name = "forgetting"

    def make(self, studied: Studied, directory: Path) -> list[str]:
        """Write `summary.json`, `curve.csv`, `items.jsonl`, `forgetting.png` and the page."""
        made = {step: studied.scored(step) for step, _ in studied.steps()}
        sides, left_out = scored_on_all(*made.values())
        scores = dict(zip(made, sides, strict=True))
        events = {step: {**studied.events(step), **left_out} for step in scores}
        found = curves_of(
            scores,
            less_is_better=studied.less_is_better,
            margin=studied.margin,
            bootstrap=studied.bootstrap,
        )
        level = float(studied.bootstrap["level"])
        doubt = too_coarse(found, level, int(studied.bootstrap["resamples"]))
        picture = curves(found, level)
        lost = _lost(scores)
        controls = studied.controls()
        summary = {"level": level, "curves": [*map(asdict, found)], "events": events}
        summary |= {"controls": controls}
        write_json(directory / "summary.json", summary)
        write_text(directory / "curve.csv", _csv(found, controls))
        write_jsonl(directory / "items.jsonl", _rows(scores))
        write_bytes(directory / "forgetting.png", picture)
        title = f"Forgetting: {studied.name} (run {studied.run})"
        about = About(title, level, studied.facts, events, doubt, controls)
        write_text(directory / "report.html", forgetting_page(about, found, picture, lost))
        return [*said_of(found, level), *filter(None, (doubt, unbeaten(controls)))]

    def numbers(self, summary: Mapping[str, Any], primary: str) -> dict[str, Number]:
        """Of the first metric of each other task than the primary one: its change, when hurt."""
        tasks = {primary.partition("/")[0]}
        found: dict[str, Number] = {}
        for curve in map(curve_from, summary["curves"]):
            task = curve.metric.partition("/")[0]
            if task not in tasks:
                tasks.add(task)
                found |= _numbers_of(curve, float(summary["level"]))
        return found

    @property
    def about(self) -> str:
        """What these numbers are."""
        return (
            "Of the first metric of each task but the primary one: its change from the untuned "
            "student to the last step, with a paired interval over items, and the first kept step "
            "at which it is surely worse (adjusted for all steps and metrics of that run)."
        )


def curve_from(plain: Mapping[str, Any]) -> Curve:
    """A curve as `summary.json` has it.

    Raises:
        KeyError, TypeError or ValueError: it is damaged.
    """
    points = tuple(
        Point(**{**one, "here": Interval(**one["here"]), "change": Interval(**one["change"])})
        for one in plain["points"]
    )
    if not points:
        raise ValueError(f"{plain['metric']} has no step after the first.")
    base = Interval(**plain["base"])
    return Curve(str(plain["metric"]), bool(plain["less_is_better"]), base, points)


def _numbers_of(curve: Curve, level: float) -> dict[str, Number]:
    """The change at the end, and the first step that is surely worse."""
    first, change = curve.first_hurt(level), curve.last.change
    part, hurt = curve.metric, first is not None
    less = " (less is better)" if curve.less_is_better else ""
    more = f"ends higher on {part}{less}"
    ends = (change.value, change.low, change.high)
    step = math.inf if first is None else first
    return {
        f"{part}{less}, change": Number("change", *ends, part=part, hurt=hurt, more=more),
        f"{part}, first hurt at step": Number("step", step, part=part, hurt=hurt),
    }


def curves_of(
    scores: Scores,
    *,
    less_is_better: frozenset[str],
    margin: Mapping[str, float],
    bootstrap: Mapping[str, Any],
) -> list[Curve]:
    """The curve of every metric, each step compared with step 0 over the same items.

    Args:
        scores: Step -> scores; the first step is the untuned student, and one more at least.
        less_is_better: Those `<task>/<metric>` that are better when they fall.
        margin: Task -> largest change that counts as none.
        bootstrap: `level`, `resamples` and `seed`.

    Returns:
        One curve a metric, in the order of the tasks and their metrics.
    """
    first, *later = scores
    pairs = _metrics(scores[first])
    sums = {(step, pair): _sums(scores[step], *pair) for step in scores for pair in pairs}
    compared = {
        (step, pair): compare_paired(sums[first, pair], sums[step, pair], **bootstrap)
        for pair in pairs
        for step in later
    }
    adjusted = dict(zip(compared, holm([one.p for one in compared.values()]), strict=True))
    made = []
    for task, metric in pairs:
        pair, less = (task, metric), f"{task}/{metric}" in less_is_better
        points = []
        for step in later:
            one = compared[step, pair]
            here, change = interval(*sums[step, pair], **bootstrap), one.interval
            ends = (-change.high, -change.low) if less else (change.low, change.high)
            gained, lost = one.flips or (None, None)
            verdict = verdict_of(*ends, margin[task])
            points.append(Point(step, here, change, adjusted[step, pair], verdict, gained, lost))
        base = interval(*sums[first, pair], **bootstrap)
        made.append(Curve(f"{task}/{metric}", less, base, tuple(points)))
    return made


def too_coarse(found: Sequence[Curve], level: float, resamples: int) -> str | None:
    """What to say where no p value can stand, however large the change; None where one can.

    The smallest p value of a bootstrap is two over its resamples and one. Adjusted for everything
    that a page looks at it may be too large already: then the adjusting says nothing.

    Args:
        found: All that is looked at.
        level: Of the intervals; a p value stands below 1 - level.
        resamples: Of the bootstrap.
    """
    looks = sum(len(curve.points) for curve in found)
    least = 2 * looks / (1 + resamples)
    if least < 1 - level:
        return None
    needed = math.ceil(10 * 2 * looks / (1 - level))
    return (
        f"{resamples} resamples are too few for {looks} changes (each kept step of each metric): "
        f"no adjusted p value can be below {least:.2g}, so none of them stands, however large it "
        f"is. Read the intervals, or give suite.resamples={needed} and a suite.name of its own."
    )


def said_of(found: Sequence[Curve], level: float) -> list[str]:
    """One line a metric: from the untuned student to the last step, and when it was first hurt."""
    lines = [f"step 0 -> step {found[0].last.step}, paired {level:.0%} intervals over items:"]
    for curve in found:
        end, first = curve.last, curve.first_hurt(level)
        when = f", first hurt at step {first}" if first is not None else ""
        if end.verdict in ("helped", "hurt") and not end.stands(level):
            when = f" (not after adjusting for all that was looked at: p {end.p:.2g})"
        lines.append(
            f"  {curve.metric}: {curve.base.value:.4f} -> {end.here.value:.4f}, change "
            f"{end.change.value:+.4f} ({end.change.low:+.4f} to {end.change.high:+.4f}): "
            f"{end.verdict}{when}"
        )
    return lines


def _metrics(scores: Sequence[ItemScore]) -> list[tuple[str, str]]:
    """Tasks and metrics in the order in which they come."""
    return list(dict.fromkeys((score.task, metric) for score in scores for metric in score.metrics))


def _sums(scores: Sequence[ItemScore], task: str, metric: str) -> tuple[list[float], list[float]]:
    """Numerators and denominators of one metric."""
    ratios: list[Ratio] = [score.metrics[metric] for score in scores if score.task == task]
    return [ratio.num for ratio in ratios], [ratio.den for ratio in ratios]


def _lost(scores: Scores) -> list[ItemScore]:
    """Items that were right at first and are wrong at the end, as they are at the end."""
    steps = list(scores)
    pairs = zip(scores[steps[0]], scores[steps[-1]], strict=True)
    return [
        after for before, after in pairs if any(_falls(before, after, m) for m in after.metrics)
    ]


def _falls(before: ItemScore, after: ItemScore, metric: str) -> bool:
    return (before.metrics[metric], after.metrics[metric]) == ((1, 1), (0, 1))


def _rows(scores: Scores) -> Iterator[dict[str, Any]]:
    """One line for each step, item and metric that the item has something to say about."""
    for step, found in scores.items():
        for score in found:
            for metric, ratio in score.metrics.items():
                if ratio.den:
                    where = {"step": step, "task": score.task, "key": score.key}
                    yield {**where, "metric": metric, "num": ratio.num, "den": ratio.den}


COLUMNS = (
    "metric", "step", "value", "low", "high", "items", "change", "change_low", "change_high",
    "adjusted_p", "verdict", "gained", "lost", "control", "control_value", "step_minus_control",
    "step_minus_control_low", "step_minus_control_high", "echo",
)  # fmt: skip


def _csv(found: Sequence[Curve], controls: Mapping[str, Any] | None) -> str:
    """One line a metric and step; the first step has no change.

    Each step stands beside the best control that reads nothing, and the echo. Of a metric without,
    `control` says `none` where it is not answered in text, or that older controls lack it.
    """
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(COLUMNS)
    for curve in found:
        base = curve.base
        beside = partial(_beside, controls, curve.metric)
        first = (base.value, base.low, base.high, base.items)
        table.writerow([curve.metric, 0, *first, *[""] * 7, *beside(0)])
        for p in curve.points:
            here = (p.here.value, p.here.low, p.here.high, p.here.items)
            change = (p.change.value, p.change.low, p.change.high)
            rest = (p.p, p.verdict, p.gained, p.lost)
            table.writerow([curve.metric, p.step, *here, *change, *rest, *beside(p.step)])
    return out.getvalue()


def _beside(controls: Mapping[str, Any] | None, metric: str, step: int) -> list[Any]:
    """The last six columns: one step beside the best control on a metric."""
    whole = controls is None or "metrics" in controls
    without = NO_TEXT if whole else NOT_RECORDED
    return control_entries(best_control(controls, metric), f"step {step}", without)

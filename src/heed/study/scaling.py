"""A study at another scale is a study again: stand-ins for its values, one factor for its rates."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from heed.core.compose import option_names, read_option
from heed.core.errors import ConfigError, Mistake
from heed.study.scale import RATE, Scale
from heed.study.study import Published, Study, Sweep
from heed.study.values import Keyed, Value, said, typed

DIGITS = 6
"""Significant digits of a multiplied rate: 5e-5 times 25 is 0.00125, not 0.0012500000000000002."""


def at_scale(sweep: Sweep, conf: Path) -> Sweep:
    """A sweep whose study is that of its scale; the same sweep if it has none.

    Args:
        sweep: The command.
        conf: The config tree, where the peaks of named learning rates are looked up.

    Raises:
        ConfigError: with everything that the scale lacks.
    """
    if sweep.scale is None or sweep.study is None:
        return sweep
    names = [v for v in values_of(sweep.study, "lr") if isinstance(v, str)]
    known = set(option_names(conf, "lr"))  # of another name the plan tells
    peaks = {name: read_option(conf, "lr", name).get("peak") for name in names if name in known}
    found = {name: float(p) for name, p in peaks.items() if isinstance(p, int | float)}
    made = scaled(sweep.study, sweep.scale, found)
    if left := [*_unmultiplied(made, known - set(found), peaks)]:
        raise ConfigError(left)
    return replace(sweep, study=made)


def scaled(study: Study, scale: Scale, peaks: Mapping[str, float]) -> Study:
    """A study at a scale.

    Args:
        study: As it is.
        scale: What stands for its values.
        peaks: Option of `conf/lr/` -> its peak, of all that the study names.

    Raises:
        ConfigError: the scale has nothing for a value, or the study names no learning rate.
    """
    here = _StandIns(scale)
    found = [*_unrated(study, scale), *_hidden(study, scale)]
    sets = {k: v for k, v in scale.fixed.items() if not values_of(study, k, varied=True)}
    made = {
        "axes": {k: tuple(here.of(k, v) for v in vs) for k, vs in study.axes.items()},
        "zipped": tuple(
            {k: tuple(here.of(k, v) for v in vs) for k, vs in block.items()}
            for block in study.zipped
        ),
        "cells": tuple(here.all(cell) for cell in study.cells),
        "exclude": tuple(here.all(cell) for cell in study.exclude),
        "fixed": here.all({k: v for k, v in study.fixed.items() if k not in sets}) | sets,
        "suite": here.of("suite", study.suite),
        "primary": study.primary and here.of("suite.primary", study.primary),
        "checkpoint": here.of("checkpoint", study.checkpoint),
    }
    found += [*here.lacking.values(), *here.merged(study)]
    if found:
        raise ConfigError(found)
    about = {
        "name": scale.name,
        "study": study.name,
        "why": scale.why,
        "rate_factor": scale.rate_factor,
        "stands_for": tuple((k, s, n) for (k, s), v in here.used.items() if (n := said(v)) != s),
        "sets": sets,
    }
    changed: dict[str, Any] = made | {
        "name": f"{study.name}-{scale.name}",
        "implied": here.implied(study, peaks),
        "own_families": here.families(study),
        "published": tuple(here.published(one, sets) for one in study.published),
        "scale": about,
    }
    return _beside_as_many(study, replace(study, **changed))


def scale_lines(study: Study) -> list[str]:
    """What a plan says of a study's scale; nothing where it has none.

    Args:
        study: As `scaled` gives it.
    """
    if study.scale is None:
        return []
    about, groups = study.scale, dict[str, list[str]]()
    for key, there, here in about["stands_for"]:
        groups.setdefault(key, []).append(f"{here} for {there}")
    sets = ", ".join(f"{key}={typed(value)}" for key, value in about["sets"].items())
    return [
        f"Study {about['study']} at scale {about['name']}. {about['why']}",
        *(f"  {key}: {', '.join(texts)}" for key, texts in groups.items()),
        f"  every learning rate x {about['rate_factor']:g}",
        *([f"  in all cells: {sets}"] if sets else []),
    ]


def values_of(study: Study, key: str, *, varied: bool = False) -> list[Value]:
    """Every value that a study gives to a key.

    Args:
        study: Which.
        key: Config group or key.
        varied: Without the one that holds for all cells.
    """
    fixed = [study.fixed[key]] if key in study.fixed and not varied else []
    return [*study.varied.get(key, []), *fixed]


def _times(rate: Value, factor: float) -> Value:
    """A multiplied rate; a text is left as it is, for the plan to refuse.

    Example:
        >>> _times(5e-05, 25)
        0.00125
    """
    number = isinstance(rate, int | float) and not isinstance(rate, bool)
    return float(f"{cast(float, rate) * factor:.{DIGITS}g}") if number else rate


class _StandIns:
    """What a scale has for values.

    Attributes:
        used: (key, value as a text) -> what stands for it.
        lacking: The same key -> what is wrong where nothing does.
    """

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.used: dict[tuple[str, str], Value] = {}
        self.lacking: dict[tuple[str, str], Mistake] = {}

    def of(self, key: str, value: Value) -> Value:
        """What stands for a value; itself, where the scale leaves its key alone."""
        if key == RATE:
            return _times(value, self.scale.rate_factor)
        known = self.scale.options.get(key)
        if known is None:
            return value
        text, name = said(value), self.scale.name
        if text not in known:
            why = f"scale {name} has nothing for {key} {text}; it knows {', '.join(known)}."
            action = (
                f"Write what stands for it into options of conf/scale/{name}.yaml (a copy of "
                f"another name), or take it out of the study."
            )
            self.lacking[key, text] = Mistake(key, text, why, action)
            return value
        self.used[key, text] = known[text]
        return known[text]

    def named(self, key: str, text: str) -> str:
        """What stands for a value that the study uses, both as texts."""
        return said(self.used[key, text]) if (key, text) in self.used else text

    def all(self, settings: Mapping[str, Value]) -> Keyed:
        """The same for every key."""
        return {key: self.of(key, value) for key, value in settings.items()}

    def implied(self, study: Study, peaks: Mapping[str, float]) -> dict[str, dict[str, Keyed]]:
        """What goes with the study's values, and with each named rate its multiplied peak."""
        found = {
            key: {self.named(key, text): self.all(beside) for text, beside in table.items()}
            for key, table in study.implied.items()
        }
        rates = {name: {RATE: self.of(RATE, peak)} for name, peak in peaks.items()}
        own = found.get("lr", {})
        both = {name: rates.get(name, {}) | own.get(name, {}) for name in {**rates, **own}}
        return {**found, "lr": both}

    def families(self, study: Study) -> dict[str, tuple[str, ...]]:
        """The own families of students, of those that one stands for together."""
        found: dict[str, dict[str, None]] = {}
        for student, own in study.own_families.items():
            found.setdefault(self.named("model", student), {}).update(dict.fromkeys(own))
        return {student: tuple(own) for student, own in found.items()}

    def merged(self, study: Study) -> Iterable[Mistake]:
        """Values of an axis for which one value stands, so that cells would be the same."""
        for key, values in study.axes.items():
            steps = [{key: value} for value in values]
            for here, several in self._same(steps).items():
                texts = ", ".join(said(step[key]) for step in several)
                yield self._merged(key, texts, here, f"options.{key}")
        for number, block in enumerate(study.zipped):
            steps = [dict(zip(block, s, strict=True)) for s in zip(*block.values(), strict=True)]
            for here, several in self._same(steps).items():
                texts = "; ".join(_line(step) for step in several)
                yield self._merged(f"zipped[{number}]", texts, here, "options")

    def _same(self, steps: Iterable[Keyed]) -> dict[str, list[Keyed]]:
        """What stands for several steps of an axis -> these."""
        stand: dict[str, list[Keyed]] = {}
        for step in steps:
            here = {k: self.used.get((k, said(v)), v) for k, v in step.items()}
            stand.setdefault(_line(here), []).append(step)
        return {here: several for here, several in stand.items() if len(several) > 1}

    def _merged(self, where: str, texts: str, here: str, options: str) -> Mistake:
        why = f"scale {self.scale.name} has {here} for all of them."
        action = f"Give each its own in {options}, or leave some out of the study."
        return Mistake(where, texts, why, action)

    def published(self, one: Published, sets: Mapping[str, Value]) -> Published:
        """A published value, beside the cells that stand for those it is about."""
        where, notes = dict(one["where"]), [one["note"]] if one.get("note") else []
        for key, value in one["where"].items():
            group = "model" if key == "student" else key
            found = self.used.get((group, said(value)), sets.get(key, value))
            where[key] = here = self.of(RATE, value) if key == RATE else found
            if said(here) != said(value):
                notes.append(f"Said of {key} {said(value)}, for which {said(here)} stands here.")
        noted = {"note": " ".join(notes)} if notes else {}
        told = {"said_of": one["where"]} if where != one["where"] else {}
        return cast(Published, {**one, "where": where, **told, **noted})


def _unrated(study: Study, scale: Scale) -> list[Mistake]:
    """A study whose learning rate is that of the command, which no factor would reach."""
    if values_of(study, "lr") or values_of(study, RATE):
        return []
    why = f"scale {scale.name} multiplies the learning rates of a study, and {study.name} has none."
    return [Mistake("lr", "nothing", why, "Name it in the study: fixed: {lr: reference}, say.")]


def _unmultiplied(made: Study, odd: Collection[str], peaks: Mapping[str, Any]) -> Iterable[Mistake]:
    """Cells of a scaled study whose rate no factor has reached; of a name unknown the plan tells.

    Args:
        made: The study at its scale.
        odd: Known options of `conf/lr` without a peak that is a number.
        peaks: What the file of an option has for its peak.
    """
    cells = [cell for cell in _cells(made) if RATE not in cell]
    for name in dict.fromkeys(cell.get("lr", "") for cell in cells):
        if name in odd:
            why = f"conf/lr/{name}.yaml has no plain number for its peak ({peaks.get(name)})."
            action = "Write a number there, or give lr.peak beside it in the study."
            yield Mistake("lr", name, f"{why} No factor reaches it.", action)
        elif not name:
            why = "a cell of the study has no learning rate of its own, and no factor reaches it."
            yield Mistake(
                "lr", "nothing", why, "Name it in the study: fixed: {lr: reference}, say."
            )


def _beside_as_many(study: Study, made: Study) -> Study:
    """A study at a scale, whose published values stand beside as many cells as at full size.

    Raises:
        ConfigError: one stands beside more, because two values have one stand-in.
    """
    found = []
    for number, (one, here) in enumerate(zip(study.published, made.published, strict=True)):
        before, after = _beside(study, one), _beside(made, here)
        if 0 < before < after:
            why = f"it is about {before} cells, and at this scale {after} would stand beside it."
            action = "Name further keys in its where, so that it holds for its own cells alone."
            found.append(Mistake(f"published[{number}]", _line(one["where"]), why, action))
    if found:
        raise ConfigError(found)
    return made


def _beside(study: Study, one: Published) -> int:
    """How many cells a published value is about."""
    where = {"model" if k == "student" else k: typed(v) for k, v in one["where"].items()}
    return sum(where.items() <= cell.items() for cell in _cells(study))


def _cells(study: Study) -> list[dict[str, str]]:
    """Every cell by its keys, values as they are typed."""
    return [{k: v for k, _, v in (text.partition("=") for text in x)} for x in study.lines()]


def _line(step: Mapping[str, Value]) -> str:
    return ", ".join(f"{key}={said(value)}" for key, value in step.items())


def _hidden(study: Study, scale: Scale) -> list[Mistake]:
    """Keys that the study varies and the scale holds fixed without stand-ins."""
    return [
        Mistake(
            f"fixed.{key}",
            said(value),
            f"scale {scale.name} gives all cells this one, and study {study.name} varies it.",
            f"Write what stands for each value into options.{key} of conf/scale/{scale.name}.yaml.",
        )
        for key, value in scale.fixed.items()
        if values_of(study, key, varied=True) and key not in scale.options
    ]

"""A study that nobody ran, with all that its page can show: numbers are drawn, not measured."""

import math
import random
import zlib
from pathlib import Path

from heed.analysis.analysed import Analysed, AnalysedCell
from heed.analysis.number import Number
from heed.analysis.report import write_report
from heed.core.files import write_text
from heed.core.manifest import code_state

PRIMARY, FACTS = "follow/inst_level_strict_acc", "facts/acc"
RATES = {"gentle": 1.25e-3, "reference": 5e-3, "aggressive": 1e-2}
STUDENTS = ("nano", "micro", "mini")
KINDS = ("empty", "loop", "echo", "no_stop", "cut", "other_language", "degenerate")
LEVEL = {"level": 0.95, "margin": 0.03, "code": "c0de"}


def _delta(metric: str, before: float, change: float, width: float, items: int) -> dict:
    low, high = change - width, change + width
    word = "helped" if low > 0 else "hurt" if high < 0 else "cannot tell"
    word = "unchanged" if word == "cannot tell" and max(-low, high) < 0.03 else word
    delta = {"metric": metric, "before": before, "after": before + change, "delta": change}
    sure = {"mde": 1.4 * width, "p": 0.002 if word == "helped" else 0.3, "flips": [20, 10]}
    return {**delta, **sure, "low": low, "high": high, "items": items, "verdict": word,
            "mcnemar": 0.1, "lower_is_better": False}  # fmt: skip


def _controls(delta: dict) -> dict:
    over = {who: {"delta": 0.1, "low": 0.05, "high": 0.15} for who in ("before", "after")}
    rows = [
        {"control": name, "what": name, "input_blind": name != "echo", "value": value,
         "form": {}, "deltas": over}
        for name, value in (("sure", 0.21), ("empty", 0.05), ("echo", 0.3))
    ]  # fmt: skip
    return {"metric": delta["metric"], "best": "sure", "beaten": {"before": True, "after": True},
            "note": "", "rows": rows}  # fmt: skip


def _form(draw: random.Random) -> dict:
    def one() -> dict:
        counts = {kind: draw.randrange(60) for kind in KINDS}
        judged = {kind: 541 for kind in KINDS} | {"other_language": 0}
        return {"items": 541, "median_words": 10.0, "counts": counts, "judged": judged}

    return {"meanings": dict.fromkeys(KINDS, "as it says"), "limit": 0.2, "sound": None,
            "tasks": {"follow": {"before": one(), "after": one()}}}  # fmt: skip


def result(student: str, lr: str, seed: int, **more) -> dict:
    """A finished cell, as its `result.json` would be."""
    method = more.pop("method", "lora")
    peak = more.pop("peak", RATES.get(lr, 1e-3))
    run = f"{zlib.crc32(f'{student} {lr} {peak} {method} {seed}'.encode()):012x}"
    draw = random.Random(run)
    size = STUDENTS.index(student) if student in STUDENTS else 0
    best = 3e-3 * 1.3**size
    change = 0.12 - 0.16 * abs(math.log10(peak / best)) + draw.gauss(0, 0.012)
    primary = _delta(PRIMARY, 0.25 + 0.04 * size, change, 0.03, 541)
    facts = _delta(FACTS, 0.6, -0.02 - peak * 3, 0.03, 300)
    flags = [{"kind": "short", "text": "Only 40 steps."}] if seed == 3 else []
    names = {"student": student, "teacher": "clear", "method": method, "lr": lr, "seed": seed}
    made = {"suite": "abc", "suite_name": "play", "primary": PRIMARY, "lr_peak": peak, **LEVEL}
    return {
        **names, **made, "run": run, "name": f"{student}-{lr}-{seed}",
        "directory": f"runs/{student}-{lr}--{run}", "deltas": [primary, facts], "flags": flags,
        "controls": _controls(primary), "form": _form(draw), "also": None, "notes": [],
        "cost": {"seconds": 61.5 + seed, "fit_seconds": 31.0, "supervised_tokens": 123456 + seed},
        "settings": {"seed": seed, "model": {"name": student}, "lr": {"peak": peak}}, **more,
    }  # fmt: skip


def rerun(seeds: int = 3) -> list[dict]:
    """Two rates for each student, and a third for one of them."""
    return [
        result(student, lr, seed)
        for student in STUDENTS
        for lr in (RATES if student == "micro" else list(RATES)[:2])
        for seed in range(1, seeds + 1)
    ]


def many(cells: int) -> list[dict]:
    """Three students at so many peaks that there are so many cells."""
    each = -(-cells // 6)
    peaks = [1e-4 * 10 ** (2.3 * i / each) for i in range(each)]
    found = [
        result(student, "swept", seed, peak=peak)
        for student in STUDENTS
        for peak in peaks
        for seed in (1, 2)
    ]
    return found[:cells]


def curve(run: str, steps: int = 40) -> list[list[float]]:
    """Losses of a training."""
    draw = random.Random(run)
    return [[i + 1, 1.2 + 2 * 0.9**i + draw.gauss(0, 0.05)] for i in range(steps)]


def types(results: list[dict], kinds: int = 25) -> dict:
    """Changes by type of instruction."""
    names = [f"group_{i // 5}:a_type_of_instruction_{i}" for i in range(kinds)]
    rows = {}
    for one in results:
        draw = random.Random(one["run"])
        befores = {name: draw.uniform(0, 0.6) for name in names}
        rows[one["run"]] = {
            name: [before, min(1.0, max(0.0, before + draw.gauss(0.05, 0.2))), 21]
            for name, before in befores.items()
        }
    return {"metric": PRIMARY, "names": names, "rows": rows}


def rates() -> list[dict]:
    """What is known of the best rate of each student."""
    peaks = list(RATES.values())
    found = []
    for i, student in enumerate(STUDENTS):
        fitted = [[1.25e-3 * 1.1**j, 0.12 - 0.3 * math.log10(1.25e-3 * 1.1**j / 4e-3) ** 2]
                  for j in range(22)]  # fmt: skip
        fit = {
            "curve": fitted,
            "best": 4e-3,
            "low": 3e-3,
            "high": 6e-3,
            "outside": 0.12,
            "edges": [],
        }
        chosen = {"peak": peaks[1], "name": "reference", "delta": 0.12, "items": 260}
        reported = {"delta": 0.09, "low": 0.05, "high": 0.13, "items": 260}
        found.append({
            "student": student, "teacher": "clear", "method": "lora", "metric": PRIMARY,
            "peaks": peaks, "names": list(RATES), "means": [0.05, 0.12, 0.01], "chosen": chosen,
            "reported": reported, "edge": "highest" if i == 2 else None,
            "fit": fit if i == 1 else None,
            "reason": "" if i == 1 else "two rates: no curve can be fitted",
        })  # fmt: skip
    return found


def contrasts(results: list[dict] | None = None) -> list[dict]:
    """One that can be told, one that cannot be shown, one that is confounded."""

    def runs(*students: str) -> list[str]:
        return [r["run"] for r in results or () if r["student"] in students]

    one = {"axis": "student", "one": "nano", "two": "micro", "metric": PRIMARY, "pairs": 6,
           "seeds": 3, "context": "lr gentle"}  # fmt: skip
    return [
        one | {"difference": 0.043, "low": 0.011, "high": 0.075, "verdict": "differs", "also": [],
               "runs": runs("nano", "micro")},
        one | {"two": "mini", "difference": -0.004, "low": -0.03, "high": 0.021, "also": [],
               "verdict": "no difference shown", "runs": runs("nano", "mini")},
        one | {"one": "micro", "two": "mini", "pairs": 0, "also": ["lr"],
               "runs": runs("micro", "mini")},
    ]  # fmt: skip


def analyses(results: list[dict]) -> list[Analysed]:
    """An analysis of two numbers, made of all cells but the last two."""
    cells = []
    for one in results:
        size = STUDENTS.index(one["student"]) if one["student"] in STUDENTS else 0
        share = 0.1 + 0.05 * size + 0.01 * one["seed"]
        place = {"student": one["student"], "lr": one["lr"], "seed": str(one["seed"])}
        numbers = {
            "shifted": Number("share", share, share - 0.02, share + 0.02, more="shifts more"),
            "first hurt": Number("step", math.inf if size else 10.0 * one["seed"]),
        }
        page = "analysis/shift--ab/report.html"
        cells.append(AnalysedCell(one["run"], place, page, numbers, code_state()))
    lost = [cell.run for cell in cells[-2:]]
    told = ("Shares of positions.", ("student", "lr"), (), tuple(cells[:-2]))
    return [Analysed("shift", *told, tuple(lost[:1]), (), dict.fromkeys(lost[1:], "torn"))]


def study(results: list[dict], **more) -> dict:
    """What the page is told of the study beside its results: all of it."""
    runs = [one["run"] for one in results]
    halves = runs[: len(runs) // 2], runs[len(runs) // 2 :]
    return {
        "name": "lr_rerun_2b-playground", "question": "Does size or rate explain the drop?",
        "axes": {"model": list(STUDENTS), "lr": list(RATES)}, "seeds": [1, 2, 3],
        "cells": len(results),
        "stopping": "All cells with seeds 1 to 3 are run once; none is added after a look.",
        "scale": {"name": "playground", "why": "Tiny students stand for large ones.",
                  "rate_factor": 25, "stands_for": [["model", "1b", "nano"]],
                  "sets": {"lr.warmup_steps": 10}},
        "commands": {run: f"python train.py model=nano seed={i}" for i, run in enumerate(runs)},
        "contrasts": contrasts(results), "rates": rates(), "types": types(results),
        "losses": [
            {"data": f"data {i}", "tokens": "a tokenizer", "runs": {r: curve(r) for r in half},
             "validation": {half[0]: [[10, 2.0], [20, 1.7]]} if half else {}}
            for i, half in enumerate(halves)
        ],
        "analyses": analyses(results),
        "environment": {"versions": {"torch": "2.13.0"}, "machines": ["one"], "devices": ["CPU"]},
        "published": [{"where": {"lr": "reference"}, "metric": PRIMARY, "source": "a paper",
                       "before": 0.2, "after": 0.3, "runs": runs[:2]}],
        **more,
    }  # fmt: skip


def write_outputs(root: Path, results: list[dict], **more) -> Path:
    """A whole tree of outputs in which each run has its page; returns the study's page."""
    for one in results:
        text = "<!doctype html><title>a verdict</title>"
        write_text(root / one["directory"] / "scores/play/verdict.html", text)
        write_text(root / one["directory"] / "analysis/shift--ab/report.html", text)
    told = study(results, **more)
    lost = {
        "student": "mini",
        "teacher": "clear",
        "method": "lora",
        "lr": "hot",
        "seed": 9,
        "reason": "RunError: the loss was not finite",
        "log": ["x"],
        "command": "python y",
    }
    return write_report(root / "studies" / told["name"], told, results, [lost])

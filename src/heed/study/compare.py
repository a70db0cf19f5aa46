"""Two scored things, item by item: B minus A of every metric, the flips, and what changes most."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heed.analysis.comparison import Comparison, Side, write_comparison_page
from heed.analysis.comparison_panel import metrics_csv, show_comparison
from heed.analysis.paired import FOLLOWED, Pair, change_of, flips_of, largest_changes, pairs_of
from heed.core.console import result_console, visible
from heed.core.errors import ConfigError, Mistake, RunError
from heed.core.files import read_json, whole_directory, write_json, write_jsonl, write_text
from heed.core.identity import canonical, first_difference, short_hash, slug
from heed.core.locks import lock
from heed.core.manifest import manifest
from heed.core.types import ItemScore
from heed.core.unscored import scored_on_all
from heed.evaluation.controls import CONTROLS, merged
from heed.evaluation.deltas import refuse_unequal, stratum_deltas
from heed.evaluation.form import form_record
from heed.evaluation.record import read_scores
from heed.evaluation.suite import Suite
from heed.study.controls import beside_of, with_controls
from heed.study.scores import say_waiting, scores_of

if TYPE_CHECKING:
    from heed.study.evaluation import Evaluation

UNKNOWN = "not known"
"""What is said of a setting of answers that were made elsewhere."""

SCORES = ("summary.json", "items.jsonl", "fingerprint.json", "manifest.json")
"""What makes a directory one of scores."""


@dataclass(frozen=True)
class Scored:
    """One side of a comparison.

    Attributes:
        given: As typed.
        side: What is shown of it.
        scores: One per item.
        fingerprint: How they were made.
        form: The form of its answers, task -> summary.
        controls: It beside the controls; None: not recorded, or it is one.
    """

    given: str
    side: Side
    scores: Sequence[ItemScore]
    fingerprint: Mapping[str, Any]
    form: Mapping[str, Any]
    controls: Mapping[str, Any] | None = None


def compare(given: Sequence[str], command: Evaluation) -> None:
    """Compare two scored things by the command's suite, write the page, and print the table.

    Args:
        given: Two of: a run (id, its beginning, name or directory), a directory of scores, a file
            of responses, a control. What is not scored yet is scored now.
        command: What the command says beside.

    Raises:
        HeedError: one of them is not there, both are the same, or they were scored in different
            ways; the first difference is named.
    """
    if len(given) != 2:
        why = f"{len(given)} given; a comparison has two sides."
        action = "Give compare=[<A>,<B>]: runs, directories of scores, files of responses, controls"
        raise ConfigError([Mistake("compare", ", ".join(given), why, f"{action}.")])
    suite = command.asked
    first, second = (scored(word, command, suite) for word in given)
    comparison = compared(suite, first, second)
    directory = write_comparison(command.root, suite, (first, second), comparison)
    console = result_console()
    show_comparison(console, comparison)
    console.print(str(directory / "report.html"), soft_wrap=True, markup=False)


def scored(word: str, command: Evaluation, suite: Suite) -> Scored:
    """The scores of what a word names, made if they are not there yet.

    Args:
        word: As typed.
        command: Where runs are looked for, and on which device they are scored.
        suite: What scores.

    Raises:
        HeedError: nothing of that name is there, or another suite scored it.
    """
    if os.path.isfile(os.path.join(word, "items.jsonl")):
        return recorded(word, suite)
    from heed.study.evaluation import SUBJECTS, subject_of

    only: dict[str, Any] = dict.fromkeys(SUBJECTS) | {_kind(word): word}
    subject = subject_of(replace(command, **only))
    kept = with_controls(subject, scores_of(subject, suite), suite, command.root)
    sheet = kept.sheet
    beside = beside_of(kept.directory, suite, sheet.items)
    title = sheet.title.removesuffix(f" on suite {suite.name}")
    side = Side(title, str(kept.directory), sheet.facts, sheet.events, beside.flags)
    return Scored(word, side, sheet.items, kept.fingerprint, beside.form, beside.controls)


def recorded(word: str, suite: Suite) -> Scored:
    """The scores in a directory that heed wrote.

    Raises:
        RunError: a file is missing or damaged, or another suite made the scores.
    """
    directory = Path(word).resolve()
    scores, fingerprint = read_scores(directory)
    try:
        about = read_json(directory / "manifest.json")
        events = {str(what): int(n) for what, n in read_json(directory / "events.json").items()}
        facts = {str(k): visible(str(v)) for k, v in about["subject"].items()}
        then, name = about["suite"], str(about["suite_name"])
        title = " ".join(next(iter(facts.items())))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise _damaged(directory, f"{type(error).__name__}: {error}") from error
    if then != (now := canonical(suite)):
        where, one, two = first_difference(then, now)
        raise RunError(
            f"{directory} was scored by suite {name!r}, which is not the one that is asked for: "
            f"{where} was {one!r:.80} and is {two!r:.80} now. Give suite={name} with the prompts "
            f"and settings it had then, or the run itself to score it anew."
        )
    for task, kind in suite.tasks.items():
        own = [score for score in scores if score.task == task]
        if not own or any(set(score.metrics) != set(kind.metrics) for score in own):
            raise _damaged(directory, f"metrics or items of {task} are lost")
    facts["made"] = f"{about.get('time')} by code {about.get('code')}"
    beside = beside_of(directory, suite, scores)
    side = Side(title, str(directory), facts, events, beside.flags)
    return Scored(word, side, scores, fingerprint, beside.form, beside.controls)


def compared(suite: Suite, first: Scored, second: Scored) -> Comparison:
    """B minus A of two scorings by one suite.

    Raises:
        RunError: they are the same scores, were made in different ways, or hold other items.
    """
    if first.side.directory == second.side.directory:
        raise RunError(
            f"A and B are both the scores in {first.side.directory}, so every difference is zero. "
            f"Give two different ones."
        )
    unlike = unlike_settings(first.fingerprint, second.fingerprint)
    (before, after), left_out = scored_on_all(first.scores, second.scores)
    deltas = suite.deltas(before, after)
    pairs = pairs_of(before, after)
    task, metric = ranked_by(suite)
    own = [pair for pair in pairs if pair.first.task == task]
    flips = {
        f"{name}/{each}": flips_of([p for p in pairs if p.first.task == name], each)
        for name, kind in suite.tasks.items()
        for each in kind.metrics
    }
    return Comparison(
        suite=suite.name,
        level=suite.level,
        first=first.side,
        second=second.side,
        deltas=deltas,
        flips={name: found for name, found in flips.items() if found is not None},
        types=stratum_deltas(suite, before, after, f"{task}/{metric}"),
        ranked=f"{task}/{metric}",
        changed=sum(bool(change_of(pair, metric)) for pair in own),
        changes=largest_changes(own, metric),
        unlike=unlike,
        left_out=left_out,
        form=form_record({"A": first.form, "B": second.form}),
        controls=merged(_with_controls({"A": first, "B": second})),
    )


def _with_controls(sides: Mapping[str, Scored]) -> dict[str, Mapping[str, Any]]:
    """The records of those sides that stand beside the same controls as the first that does."""
    found = {name: side.controls for name, side in sides.items() if side.controls is not None}
    first = next(iter(found.values()), None)
    return {name: one for name, one in found.items() if _controls(one) == _controls(first)}


def _controls(record: Mapping[str, Any] | None) -> list[tuple[str, float]]:
    return [(row["control"], row["value"]) for row in record["rows"]] if record else []


def ranked_by(suite: Suite) -> tuple[str, str]:
    """Task and metric by which items are ranked: instructions followed, or else the primary one."""
    named = [name for name, task in suite.tasks.items() if FOLLOWED in task.metrics]
    task, _, metric = suite.primary.partition("/")
    if task in named or not named:
        return task, FOLLOWED if task in named else metric
    return named[0], FOLLOWED


def unlike_settings(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> dict[str, tuple[str, str]]:
    """What two scorings do not have in common, where that may be.

    Of two models everything has to be equal. Of answers that were made elsewhere it is not known
    how: prompts and rules have to be equal, and the rest is told.

    Returns:
        Setting -> what it is for A and for B; empty for two models.

    Raises:
        RunError: they differ in what has to be equal; the first difference is named.
    """
    if "answers" not in first and "answers" not in second:
        refuse_unequal(first, second)
        return {}
    refuse_unequal({"tasks": first.get("tasks")}, {"tasks": second.get("tasks")})
    found = {}
    for key in dict.fromkeys([*first, *second]):
        one, two = first.get(key, UNKNOWN), second.get(key, UNKNOWN)
        if key not in ("tasks", "answers") and one != two:
            found[key] = (visible(str(one)), visible(str(two)))
    return found


def write_comparison(
    root: Path, suite: Suite, sides: tuple[Scored, Scored], comparison: Comparison
) -> Path:
    """Write a comparison as a whole directory, or not at all; returns it.

    `report.html` is the page, `table.csv` its metrics, `flips.jsonl` every item that changed, and
    `summary.json` all of it but the items.
    """
    decides = {
        "suite": suite,
        "sides": [[s.side.directory, s.fingerprint] for s in sides],
        "scores": [[[r.task, r.key, _nums(r)] for r in s.scores] for s in sides],
    }
    names = [_short(side) for side in sides]
    directory = root / "comparisons" / f"{names[0]}--{names[1]}--{short_hash(decides)}"
    pairs = pairs_of(sides[0].scores, sides[1].scores)
    with lock(root / "locks" / directory.name, say_waiting), whole_directory(directory) as beside:
        write_comparison_page(beside / "report.html", comparison)
        write_text(beside / "table.csv", metrics_csv(comparison))
        write_jsonl(beside / "flips.jsonl", [_flip(p) for p in pairs if _nums(p[0]) != _nums(p[1])])
        write_json(beside / "summary.json", manifest() | _summary(comparison))
    return directory


def _kind(word: str) -> str:
    """What a word that is no directory of scores names: a subject of `evaluate.py`."""
    if word in CONTROLS:
        return "control"
    return "responses" if word.endswith((".jsonl", ".jsonl.gz")) else "run"


def _short(side: Scored) -> str:
    """A side's name within a file name: as typed, or of its folder without the hash."""
    name = Path(side.given).name or Path(side.side.directory).name
    return slug(name.rpartition("--")[0] or name)


def _damaged(directory: Path, why: str) -> RunError:
    return RunError(
        f"{directory} does not hold whole scores ({why}), so nothing can be paired with it. A "
        f"directory of scores has {', '.join(SCORES)}. Make it again with evaluate.py."
    )


def _nums(score: ItemScore) -> dict[str, list[float]]:
    return {name: [ratio.num, ratio.den] for name, ratio in score.metrics.items()}


def _flip(pair: Pair) -> dict[str, Any]:
    """One item that changed: a row of `flips.jsonl`."""
    one, two = pair
    row: dict[str, Any] = {"task": one.task, "key": one.key, "a": _nums(one), "b": _nums(two)}
    if FOLLOWED in one.metrics:
        row["change"] = change_of(pair, FOLLOWED)
    return row


def _summary(comparison: Comparison) -> dict[str, Any]:
    """All of a comparison but its items, as plain data."""
    sides = {"a": asdict(comparison.first), "b": asdict(comparison.second)}
    return {
        **{name: getattr(comparison, name) for name in ("suite", "level", "ranked", "changed")},
        **sides,
        "deltas": [asdict(delta) for delta in comparison.deltas],
        "flips": {metric: asdict(flips) for metric, flips in comparison.flips.items()},
        "types": [asdict(row) for row in comparison.types],
        "changes": [pair.first.key for pair in comparison.changes],
        "unlike": {key: list(two) for key, two in comparison.unlike.items()},
        "left_out": dict(comparison.left_out),
        "form": comparison.form,
        "controls": comparison.controls,
    }

"""The part of a study's page on teachers: does any metric predict what a teacher teaches?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isinf
from typing import Any

from heed.analysis.deltas import signed
from heed.analysis.family_tables import family_tables
from heed.analysis.figures import Drawing
from heed.analysis.markup import Markup, join, line, table, tag, value
from heed.analysis.published_teachers import SOURCE, TEACHERS
from heed.analysis.script import while_filtered
from heed.analysis.teaching import LOW_FIRST

WORDS = {
    "car": "CAR",
    "reward": "reward",
    "reward_taken": "reward as CAR takes it",
    "loss": "loss",
    "ifd_self": "IFD, the student",
    "ifd_reference": "IFD, the reference model",
    "ppl_self": "perplexity, the student",
    "ppl_reference": "perplexity, the reference model",
    "length": "length in tokens",
}

NOTE = (
    "Spearman's rho of each metric, known before training, with the measured delta. Values as they "
    "are: a loss whose rho is negative predicts that likelier responses teach better. Intervals: "
    "teachers drawn with replacement (what to expect of other teachers of the kind); below them, "
    "where known, instructions and items drawn for these very teachers."
)


POINTS = (
    "A point is a teacher, with its name or its number in 'Every teacher' below; bars are the "
    "intervals of the delta over items; of several seeds it is the mean, and these seeds are taken "
    "as they are."
)

WHOLE = "This section is of all teachers and students that were ranked, whatever is filtered above."


def teaching_section(
    teaching: Mapping[str, Any] | None, drawings: Sequence[Drawing] = ()
) -> Markup:
    """All that the page says of teachers; nothing where nothing was asked.

    Args:
        teaching: What `heed.analysis.teaching.teaching_numbers` returns, and `outcome` (the suite's
            metric), `formula` and `reward` (in words), `counts` (student -> how many instructions
            were `shared asked kept rewarded weighed`), `choices` (of what was read, in words),
            `items`, `level`, `about` (teacher -> `family` and `size_b`), `negative` (sentences),
            `events` (student -> teacher -> event -> count),
            `notes` (sentences), `families`, `larger` and `sizes` (`heed.analysis.families`). Or
            `reason` alone: why there is none of it.
        drawings: The figures.
    """
    if not teaching:
        return join()
    title = tag("h2", "Does anything known before predict what a teacher teaches?", id="teaching")
    if "reason" in teaching:
        return join(title, tag("p", teaching["reason"]))
    shown = [drawing.shown("") for drawing in drawings]
    return join(
        title,
        while_filtered(WHOLE),
        tag("p", *_answer(teaching), class_="answer"),
        tag("p", NOTE),
        _notes(teaching),
        _rhos(teaching),
        join(tag("p", POINTS, class_="quiet"), tag("div", *shown, class_="multiples"))
        if shown
        else join(),
        _differences(teaching),
        _beta(teaching),
        _definitions(teaching),
        family_tables(teaching),
        _teachers(teaching),
    )


def word(metric: str) -> str:
    """A metric as it is called on pages."""
    return WORDS.get(metric, metric)


def ends(found: Mapping[str, float]) -> str:
    """A number with its interval."""
    return f"{signed(found['value'])} [{signed(found['low'])}, {signed(found['high'])}]"


def _answer(teaching: Mapping[str, Any]) -> Iterator[Any]:
    """The strongest metric, and whether CAR predicts better than the reward."""
    students = teaching["students"]
    known = {name: rho for name, rho in teaching["mean"].items() if rho is not None}
    where = f"Over {len(students[0]['teachers'])} teachers"
    owners = len({one["model"] for one in students})
    several = f"{owners} students" if owners == len(students) else f"{len(students)} settings"
    where += f", on average over {several}" if len(students) > 1 else ""
    if not known:
        yield f"{where}, no metric ranks the teachers: all deltas or all values are alike."
        return
    best = max(known, key=lambda name: abs(known[name]["value"]))
    sure = [word(name) for name, rho in known.items() if rho["low"] > 0 or rho["high"] < 0]
    yield f"{where}, {word(best)} goes most closely with the delta: rho {ends(known[best])}. "
    yield f"Intervals that leave zero out: {', '.join(sure) or 'none'}. "
    for name in ("car", "reward", "loss"):
        if name in known and name != best:
            yield f"{word(name)}: {ends(known[name])}. "
    mean = None if len(students) > 1 else students[0]["name"]
    for one in teaching["differences"]:
        if (one["student"], one["two"]) == (mean, "reward") and one["value"] is not None:
            said = "shown to differ" if one["verdict"] == "differs" else "not shown to differ"
            yield f"CAR and reward are {said}: {ends(one)}."


def _notes(teaching: Mapping[str, Any]) -> Markup:
    said = [f"{word(name)} is not ranked: {why}." for name, why in teaching["unranked"].items()]
    said += [f"{event}: {count} in all." for event, count in _events(teaching).items()]
    items = [
        f"Measured: {teaching['outcome']}, on {teaching['items']} items.",
        *(_read_by(student, counts) for student, counts in teaching["counts"].items()),
        f"Reward: {teaching['reward']}. CAR: {teaching['formula']}.",
        f"What was read: {'; '.join(teaching['choices'])}.",
        *teaching["negative"],
        *teaching["resamples_left_out"],
        *teaching.get("notes", ()),
        *said,
    ]
    return tag("ul", *(tag("li", item) for item in items), class_="quiet")


def _read_by(student: str, counts: Mapping[str, int]) -> str:
    return (
        f"Metrics of {student}: {counts['shared']:,} instructions that all teachers answered, "
        f"{counts['asked']:,} of them asked for, {counts['kept']:,} read; of these "
        f"{counts['rewarded']:,} in mean rewards, {counts['weighed']:,} in losses, IFD, perplexity "
        f"and length."
    )


def _events(teaching: Mapping[str, Any]) -> dict[str, int]:
    """Event -> how often over all teachers.

    What happened to a teacher's responses is told by every student that reads them: it counts once.
    """
    by_teacher: dict[tuple[str, str], int] = {}
    for teachers in teaching.get("events", {}).values():
        for teacher, found in teachers.items():
            for event, count in found.items():
                known = by_teacher.get((event, teacher), 0)
                by_teacher[event, teacher] = max(known, count)
    events: dict[str, int] = {}
    for (event, _), count in by_teacher.items():
        events[event] = events.get(event, 0) + count
    return events


def _rhos(teaching: Mapping[str, Any]) -> Markup:
    students = teaching["students"]
    several = len(students) > 1
    columns = ["metric", *(["mean over students"] if several else [])]
    columns += [one["name"] for one in students]
    columns += [f"{SOURCE}: mean (range)"]
    columns += [f"its pick for {one['name']}, and what that costs" for one in students]
    lines = []
    for name, mean in teaching["mean"].items():
        cells: list[Any] = [word(name), *([_rho(mean)] if several else [])]
        cells += [_rho(one["rhos"][name]["teachers"], one["rhos"][name]) for one in students]
        cells.append(_published(teaching["published"].get(name, ())))
        cells += [_pick(one["picks"][name]) for one in students]
        lines.append(line(cells))
    note = (
        f"The source's values are over {TEACHERS} teachers and five students of 1.5 to 4 billion "
        f"parameters, with another outcome and other rewards: beside, not against. A pick is the "
        f"teacher that a metric ranks first (of loss and perplexity the lowest); it costs what the "
        f"best teacher's delta is larger."
    )
    file = tag("a", "teaching.csv", href="teaching.csv")
    return join(table(columns, lines, id="rhos"), tag("p", note, " ", file, class_="quiet"))


def _rho(found: Mapping[str, float] | None, more: Mapping[str, Any] | None = None) -> Markup:
    if found is None:
        return tag("td", "no order")
    parts: list[Any] = [signed(found["value"])]
    parts.append(tag("small", f"[{signed(found['low'])}, {signed(found['high'])}] teachers"))
    again = (more or {}).get("instructions")
    if again:
        parts.append(
            tag("small", f"[{signed(again['low'])}, {signed(again['high'])}] instructions")
        )
    if (more or {}).get("without_order"):
        count = (more or {})["without_order"]
        parts.append(tag("small", f"{count} resamples without an order left out"))
    return value(join(*parts), found["value"])


def _published(found: Sequence[Mapping[str, Any]]) -> Markup:
    lines = [
        tag(
            "small" if len(found) > 1 else "span",
            f"{signed(one['mean'])} ({signed(one['lowest'])} to {signed(one['highest'])})",
            *([f" {one['metric'].removeprefix('reward, ')}"] if len(found) > 1 else []),
        )
        for one in found
    ]
    return tag("td", *lines) if lines else tag("td", "not published")


def _pick(found: Mapping[str, Any]) -> Markup:
    tied, names = len(found["teachers"]) > 1, ", ".join(found["teachers"])
    mean = " on average" if tied else ""
    cost = f"{signed(found['delta'])}{mean}, {found['lost']:.3f} below the best"
    first = f"{len(found['teachers'])} tied: {names}" if tied else names
    return tag("td", first, tag("small", cost), data_value=f"{found['lost']:.6g}")


def _differences(teaching: Mapping[str, Any]) -> Markup:
    if not teaching["differences"]:
        return join()
    columns = ["student", "CAR's rho minus that of", "difference [interval]", "reads as"]
    lines = []
    for one in teaching["differences"]:
        student = one["student"] or "mean over students"
        other = word(one["two"]) + (", lowest first" if one["two"] in LOW_FIRST else "")
        known = one["value"] is not None
        number = value(ends(one), one["value"]) if known else tag("td", "no order")
        lines.append(line([student, other, number, one["verdict"]]))
    note = (
        "Differences are paired: each draw holds the same teachers for both metrics. In the source "
        "CAR leads its best reward by 0.018 on average over students, without an interval; so "
        "small a difference cannot be shown with some twenty teachers."
    )
    title = tag("h3", "Does CAR predict better than what it is made of?")
    shown = table(columns, lines, id="rho-differences")
    return join(title, tag("p", note, class_="quiet"), shown)


def beta_text(beta: float | str) -> str:
    """A weight of the loss as it is written; the largest ranks by reward over loss."""
    return "∞ (reward / loss)" if isinf(float(beta)) else f"{float(beta):g}"


def _beta(teaching: Mapping[str, Any]) -> Markup:
    beta = teaching["beta"]
    title = tag("h3", "The weight of the loss, beta")
    if not beta["rhos"]:
        return join(title, tag("p", beta["reason"]))
    columns = ["student", *(beta_text(place) for place in beta["grid"])]
    lines = [
        line([name, *(tag("td", "no order") if r is None else value(signed(r), r) for r in rhos)])
        for name, rhos in beta["rhos"].items()
    ]
    shown = table(columns, lines, id="betas")
    if "reason" in beta:
        return join(title, shown, tag("p", beta["reason"], class_="quiet"))
    said = [
        tag("li", f"{one['student']}: the others choose beta {beta_text(one['beta'])}; rho there "
            f"{ends(one)}.")
        for one in beta["left_out"]
    ]  # fmt: skip
    said.append(
        tag("li", f"Mean over students: {ends(beta['mean'])}; minus that of the reward alone: "
            f"{ends(beta['over_reward'])}.")
    )  # fmt: skip
    note = (
        "Rho of CAR along beta; 0 is the reward alone, as CAR takes it. The best of a row looks "
        "better than it is, so beta is chosen for each student by the mean rho of the others, in "
        "each draw anew:"
    )
    return join(title, shown, tag("p", note), tag("ul", *said))


def _definitions(teaching: Mapping[str, Any]) -> Markup:
    names = [one["name"] for one in teaching["students"]]
    columns = ["loss per", "reads the instruction"]
    columns += [f"{word(metric)}, {name}" for metric in ("loss", "car") for name in names]
    lines = []
    for one in teaching["definitions"]:
        numbers = [one[metric][name] for metric in ("loss", "car") for name in names]
        cells = [tag("td", "not known") if n is None else value(signed(n), n) for n in numbers]
        kind = one["per"].replace("_", " ")
        lines.append(line([kind, "yes" if one["conditioned"] else "no", *cells]))
    title = tag("summary", "The readings of the loss that the source leaves open")
    return tag("details", title, table(columns, lines, id="definitions"))


def _teachers(teaching: Mapping[str, Any]) -> Markup:
    """Every teacher with its metrics and deltas."""
    parts = []
    about = teaching.get("about", {})
    for place, one in enumerate(teaching["students"]):
        metrics = list(one["teachers"][0]["metrics"])
        columns = ["teacher", "no.", "family", "size (B)", "delta [interval]", *map(word, metrics)]
        lines = []
        for number, row in enumerate(one["teachers"], start=1):
            known = about.get(row["teacher"], {})
            size = known.get("size_b")
            delta = {"value": row["delta"], "low": row["low"], "high": row["high"]}
            cells: list[Any] = [row["teacher"], value(number, number), known.get("family") or ""]
            cells += [value("" if size is None else f"{size:g}", size)]
            cells += [value(ends(delta), row["delta"])]
            cells += [value(f"{row['metrics'][m]:.4g}", row["metrics"][m]) for m in metrics]
            lines.append(line(cells))
        parts += [
            tag("h4", one["name"]),
            table(columns, lines, id=f"teachers-{place}", class_="fixed"),
        ]
    return tag("details", tag("summary", "Every teacher"), *parts)


def teaching_csv(teaching: Mapping[str, Any] | None) -> list[list[Any]]:
    """Head and lines of the file with the same numbers: a line per student and teacher."""
    if not teaching or "reason" in teaching:
        return [["student"]]
    metrics = list(teaching["students"][0]["teachers"][0]["metrics"])
    lines: list[list[Any]] = [["student", "teacher", "family", "size_b", "delta", "low", "high"]]
    lines[0] += metrics
    for one in teaching["students"]:
        for row in one["teachers"]:
            known = teaching.get("about", {}).get(row["teacher"], {})
            size = known.get("size_b")
            found = [one["name"], row["teacher"], known.get("family") or ""]
            found += ["" if size is None else size, row["delta"], row["low"], row["high"]]
            lines.append([*found, *(row["metrics"][m] for m in metrics)])
    return lines

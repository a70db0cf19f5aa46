"""The page of a ranking of teachers: who is first, how sure that is, and what it hangs on."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heed.analysis.car import Measured
from heed.analysis.car_figure import car_figure
from heed.analysis.car_summary import TOP, negative_lines, recommendation, share_text, summary_of
from heed.analysis.figures import Drawing
from heed.analysis.markup import Markup, join, table, tag, value
from heed.analysis.page import page
from heed.analysis.ranking import CAR
from heed.analysis.response_loss import OVER_LONG
from heed.analysis.script import script
from heed.core.component import plain
from heed.core.files import write_bytes, write_json, write_text

NOTHING = "none"

CAUTION = (
    "Nothing was trained. A ranking by CAR, reward or loss is a prediction of which teacher "
    "teaches this student best; only a training on each says whether it holds."
)
HOW = (
    "r is a teacher's mean reward, L the loss of its responses on the untuned student, "
    "CAR = r / (1 + beta L). IFD of a response is its perplexity after the instruction over its "
    "perplexity alone; perplexity is taken after the instruction; both are means over responses. "
    "reward_taken: the reward as CAR takes it, where negative ones have it changed; reward is the "
    "plain mean. "
    "Length is in tokens of the student, the end of the turn included, as in every loss here. "
    "Alone means: behind what the template writes before an assistant's turn, and no instruction."
)


def write_ranking(
    directory: Path, measured: Measured, analysis: CAR, about: Mapping[str, Any]
) -> list[str]:
    """Write numbers, table, figure and page.

    Args:
        directory: Where.
        measured: The numbers of each response.
        analysis: How teachers are ranked.
        about: `student`, `teachers` (name -> family and size_b), `set`, `bootstrap`, `events`
            (teacher -> what -> how often), `counts` and `facts` (label -> text).

    Returns:
        Lines for the terminal.

    Raises:
        DataError: a mean reward is negative, and that is refused.
    """
    bootstrap = about["bootstrap"]
    found = summary_of(measured, analysis.formula, analysis.betas, bootstrap)
    for one in found["teachers"]:
        one |= about["teachers"][one["name"]]
    said = recommendation(found, float(bootstrap["level"]))
    summary: dict[str, Any] = {
        "student": about["student"],
        "set": about["set"],
        "recommendation": said,
        "settings": plain(analysis),
        "bootstrap": dict(bootstrap),
        "counts": dict(about["counts"]),
        **found,
        "events": about["events"],
    }
    summary["warnings"] = warnings_of(summary)
    drawing = car_figure(found["teachers"], analysis.beta, axis_labels(analysis))
    write_json(directory / "summary.json", summary)
    write_text(directory / "table.csv", ranking_csv(summary))
    write_bytes(directory / "figures" / f"{drawing.name}.png", drawing.png)
    write_text(directory / "figures" / f"{drawing.name}.svg", drawing.svg)
    write_text(directory / "report.html", ranking_page(summary, drawing, about["facts"]))
    return lines_of(summary)


def axis_labels(analysis: CAR) -> dict[str, str]:
    """What loss and reward of the figure are."""
    per = {
        "token": "nats per token",
        "response": "nats per response",
        "response_mean": "nats per token, mean over responses",
    }[analysis.per]
    read = "after the instruction" if analysis.conditioned else "response alone"
    changed = {"shift_min": ", less the smallest", "sigmoid": ", sigmoid of each"}
    reward = f"mean reward ({next(iter(analysis.rewards))}{changed.get(analysis.negative, '')})"
    return {"loss": f"loss on the untuned student ({per}, {read})", "reward": reward}


def warnings_of(summary: Mapping[str, Any]) -> list[str]:
    """What makes the ranking tell less, or of something else, than it seems to."""
    below = {
        name: (one["below"], one["of"], one["means"]) for name, one in summary["negative"].items()
    }
    found = negative_lines(below, summary["settings"]["negative"], "analysis")
    if summary["negative_resamples"]:
        found.append(
            f"In {summary['negative_resamples']} of {summary['resamples']} resamples some "
            f"teacher's mean reward is negative: intervals and shares of CAR hold those too."
        )
    if summary["resamples_left_out"]:
        found.append(
            f"{summary['resamples_left_out']} of {summary['resamples']} resamples drew no response "
            f"with a reward, and are left out."
        )
    counts = summary["counts"]
    if (lost := counts["asked"] - counts["kept"]) > 0:
        long = any(OVER_LONG in what for events in summary["events"].values() for what in events)
        found.append(
            f"{lost} of {counts['asked']} instructions are left out, because some response to them "
            f"cannot be read: see what was left out, below."
            f"{' The rest are instructions with shorter answers.' if long else ''}"
        )
    bare = [one["name"] for one in summary["teachers"] if one["metrics"]["car"] is None]
    if bare:
        found.append(f"No reward, so no CAR and no rank: {', '.join(bare)}.")
    return found


def lines_of(summary: Mapping[str, Any]) -> list[str]:
    """The result for the terminal."""
    settings, level = summary["settings"], summary["bootstrap"]["level"]
    counts = summary["counts"]
    found = [
        f"{summary['set']} for {summary['student']}: {summary['recommendation']}",
        f"CAR at beta {settings['beta']:g}, loss per {settings['per']}, "
        f"{'after the instruction' if settings['conditioned'] else 'response alone'}; "
        f"{counts['rewarded']} instructions rewarded, {counts['weighed']} weighed, "
        f"{level:.0%} intervals over instructions.",
    ]
    width = max(len(one["name"]) for one in summary["teachers"])
    for one in summary["teachers"]:
        metrics, rank = one["metrics"], one["rank"]
        cells = [f"{name} {metrics[name]['value']:.3g}" for name in SHOWN if metrics.get(name)]
        place = f"{rank['value']:>2.0f} [{rank['low']:.0f}-{rank['high']:.0f}]" if rank else " - "
        share = f", first in {share_text(one['first'])}" if one["first"] is not None else ""
        found.append(f"  {place:<9} {one['name']:<{width}}  {', '.join(cells)}{share}")
    for kind, entries in summary["sensitivity"].items():
        told = "; ".join(f"{one['name']}: {_first(one)}" for one in entries)
        found.append(f"First (Spearman with the above) by {kind}: {told}")
    return [*found, *(f"Mind: {text}" for text in summary["warnings"]), CAUTION]


SHOWN = ("car", "reward", "loss", "ifd_self", "length")
"""Metrics of a line in the terminal."""


def _first(entry: Mapping[str, Any]) -> str:
    rho = NOTHING if entry["rho"] is None else f"{entry['rho']:.2f}"
    return f"{entry['order'][0]} ({rho})" if entry["order"] else NOTHING


def ranking_csv(summary: Mapping[str, Any]) -> str:
    """One line a teacher, one column a number."""
    out = io.StringIO()
    names = list(summary["teachers"][0]["metrics"])
    parts = ("value", "low", "high")
    writer = csv.writer(out, lineterminator="\n")
    numbers = [
        f"{name}{'' if p == 'value' else f'_{p}'}" for name in (*names, "rank") for p in parts
    ]
    writer.writerow(["teacher", "family", "size_b", *numbers, "first_share", f"top{TOP}_share"])
    for one in summary["teachers"]:
        cells = [one["metrics"][name] for name in names]
        values = [cell[p] if cell else "" for cell in (*cells, one["rank"]) for p in parts]
        shares = ["" if one[kind] is None else one[kind] for kind in ("first", "top")]
        about = [one["name"], one["family"] or "", "" if one["size_b"] is None else one["size_b"]]
        writer.writerow([*about, *values, *shares])
    return out.getvalue()


def ranking_page(summary: Mapping[str, Any], drawing: Drawing, facts: Mapping[str, str]) -> str:
    """The whole page as text."""
    level = summary["bootstrap"]["level"]
    title = f"Teachers {summary['set']} for {summary['student']}"
    note = (
        f"Each point is a teacher; lines from it are {level:.0%} intervals over instructions. "
        f"Dashed lines join equal CAR at beta {summary['settings']['beta']:g}: further up and left "
        f"is better. The first by CAR has a colour of its own."
    )
    return page(
        title,
        tag("h1", title),
        tag("p", "Made by heed.", class_="quiet"),
        tag("p", summary["recommendation"], class_="answer"),
        tag("p", CAUTION),
        *(tag("p", text, class_="warning") for text in summary["warnings"]),
        tag("h2", "Reward against loss"),
        drawing.shown(note),
        *_ranking(summary, level),
        *_sensitivity(summary),
        *_events(summary),
        tag("h2", "How it was made"),
        tag("p", HOW),
        table(["", ""], [[name, text] for name, text in _made(summary, facts).items()]),
        script(),
    )


def _ranking(summary: Mapping[str, Any], level: float) -> list[Markup]:
    names = list(summary["teachers"][0]["metrics"])
    heads = ["teacher", "family", "billions", "rank", "first in", f"top {TOP} in", *names]
    lines = []
    for one in summary["teachers"]:
        rank = one["rank"]
        place = f"{rank['value']:.0f} [{rank['low']:.0f}, {rank['high']:.0f}]" if rank else NOTHING
        number = value(place, rank["value"] if rank else None)
        shares = [_share(one[kind]) for kind in ("first", "top")]
        size = NOTHING if one["size_b"] is None else f"{one['size_b']:g}"
        cells = [_number(one["metrics"][name]) for name in names]
        about = [one["name"], one["family"] or NOTHING, value(size, one["size_b"]), number]
        lines.append([*about, *shares, *cells])
    text = (
        f"Values with {level:.0%} percentile intervals; instructions are resampled once for all "
        f"teachers and metrics. A rank stands with its interval, and with the share of resamples "
        f"in which the teacher is first, or among the first {TOP}."
    )
    files = tag("a", "table.csv", href="table.csv")
    return [
        tag("h2", "Ranking"),
        tag("p", text, " ", files),
        table(heads, lines, id="ranking", class_="fixed"),
    ]


def _share(share: float | None) -> Markup:
    return value(NOTHING) if share is None else value(share_text(share, 1), share)


def _number(found: Mapping[str, float] | None) -> Markup:
    if found is None:
        return value(NOTHING)
    ends = tag("small", f"{found['low']:.4g} to {found['high']:.4g}")
    return value(join(f"{found['value']:.4g}", ends), found["value"])


def _sensitivity(summary: Mapping[str, Any]) -> list[Markup]:
    """What the ranking would be under other choices."""
    told = {
        "beta": ("Other weights of the loss", "beta"),
        "reward": ("Other rewards", "reward"),
        "definition": ("Other losses", "loss"),
    }
    found = [tag("h2", "What the ranking hangs on")]
    for kind, (title, head) in told.items():
        entries = summary["sensitivity"][kind]
        lines = [
            [
                f"{one['name']}{' (chosen)' if one['chosen'] else ''}",
                value(NOTHING if one["rho"] is None else f"{one['rho']:.3f}", one["rho"]),
                ", ".join(one["order"][:5]),
            ]
            for one in entries
        ]
        columns = [head, "Spearman with the chosen ranking", "first five"]
        found += [tag("h3", title), table(columns, lines, id=f"by-{kind}")]
    note = (
        "At one beta, a loss per response weighs more than one per token, because it is larger: "
        "compare losses across beta. Spearman is over the teachers that have a reward."
    )
    return [*found, tag("p", note, class_="quiet")]


def _events(summary: Mapping[str, Any]) -> list[Markup]:
    lines = [
        [teacher, what, value(f"{times:,}", times)]
        for teacher, events in summary["events"].items()
        for what, times in events.items()
    ]
    counts = ", ".join(f"{what} {times:,}" for what, times in summary["counts"].items())
    found = [tag("h2", "What was left out"), tag("p", f"Instructions: {counts}.")]
    return [*found, *([table(["teacher", "what", "how often"], lines)] if lines else [])]


def _made(summary: Mapping[str, Any], facts: Mapping[str, str]) -> dict[str, str]:
    """Label -> text: facts, and each choice of the analysis that is one word."""
    settings: Sequence[tuple[str, Any]] = list(summary["settings"].items())
    words = {k: str(v) for k, v in settings if not isinstance(v, dict) and k != "_target_"}
    named = {k: str(v["name"]) for k, v in settings if isinstance(v, dict) and "name" in v}
    return dict(facts) | words | named

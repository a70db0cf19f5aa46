"""Token shift as one page: shares, curves, the tokens that moved most, and responses in colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heed.analysis.markup import Markup, join, table, tag
from heed.analysis.page import page, picture
from heed.analysis.shift_figures import curves_figure, shares_figure
from heed.analysis.shift_numbers import CATEGORIES, ItemShift
from heed.core.files import write_bytes, write_text

TOKENS = 40
"""Rows of the table of tokens; `summary.json` has all."""

NAMES = {
    "unshifted": "unshifted: base rank 0",
    "marginal": "marginal: base rank 1 or 2",
    "shifted": "shifted: base rank 3 or more",
    "kl_base_tuned": "KL(base || tuned), nats",
    "kl_tuned_base": "KL(tuned || base), nats",
    "probability": "base probability of the tuned choice",
    "rank": "base rank of the tuned choice, from 0",
    "nats_base": "nats per token of the response, base",
    "nats_tuned": "nats per token of the response, tuned",
}

MUCH = 0.25
"""A token that is the choice at a larger share of the positions is pointed out; places of the stop
token aside, which are many where responses are short."""

LOOPING = 0.2
"""A larger share of responses that end in a loop is pointed out."""

NONE = "too few"
"""Stands where fewer than two responses have a position of the part."""

STYLE = """
.tokens { white-space: pre-wrap; overflow-wrap: anywhere; padding: 8px 12px; background: #f7f9fb;
  font: 14px/1.75 ui-monospace, SFMono-Regular, Menlo, monospace; margin: 4px 0 14px; }
.tokens .marginal { background: #fdf0d2; border-bottom: 2px dotted #b7791f; }
.tokens .shifted { background: #fbd9c6; border-bottom: 2px solid #d55e00; font-weight: 600; }
.tokens .mark { color: #5b6675; }
"""


def write_shift_page(
    directory: Path,
    summary: Mapping[str, Any],
    shown: Sequence[ItemShift],
    facts: Mapping[str, str],
    level: float,
) -> None:
    """Write `report.html`, and its pictures beside it.

    Args:
        directory: Where.
        summary: What `summary.json` holds.
        shown: Responses to be shown.
        facts: Label -> text.
        level: Coverage of the intervals.
    """
    labels = part_labels(summary["settings"])
    pictures = {
        "shares": shares_figure(summary["parts"], labels),
        "curves": curves_figure(summary["curves"]),
    }
    for name, data in pictures.items():
        write_bytes(directory / f"{name}.png", data)
    write_text(directory / "report.html", shift_page(summary, shown, facts, level, pictures))


def part_labels(settings: Mapping[str, Any]) -> dict[str, str]:
    """How the parts of the responses are called."""
    share = 100 * settings["first_share"]
    unit = "" if settings["unit"] == "response" else " of each sentence"
    return {
        "all": "all positions",
        "first": f"first {share:.3g}%{unit}",
        "last": f"last {100 - share:.5g}%{unit}",
        "stop": "stop token",
    }


def lines_of(summary: Mapping[str, Any], level: float) -> list[str]:
    """The result for the terminal, a line each."""
    found = [_sentence(summary, level)]
    for part, label in part_labels(summary["settings"]).items():
        numbers = summary["parts"][part]
        if numbers["rank"] is None:
            found.append(f"{label} ({numbers['positions']}): too few responses have any")
            continue
        means = (f"{kind} {_share(numbers[kind])}" for kind in CATEGORIES)
        kl = _value(numbers["kl_tuned_base"])
        words = f"{', '.join(means)}, KL(tuned || base) {kl} nats"
        found.append(f"{label} ({numbers['positions']}): {words}")
    found += warnings_of(summary)
    return [*found, *(f"{what}: {times}" for what, times in summary["events"].items())]


def warnings_of(summary: Mapping[str, Any]) -> list[str]:
    """What makes the numbers tell of something else than wording: loops, one token all over."""
    found, look = [], "Look at the responses before the shares."
    if summary["loops"] > LOOPING * summary["items"]:
        found.append(
            f"{summary['loops']} of {summary['items']} responses end in a loop, and each time "
            f"round is counted: these numbers tell of the loops. {look}"
        )
    inside = [(token["count"] - token["at_the_stop"], token["text"]) for token in summary["tokens"]]
    times, most = max(inside)
    if (share := times / max(1, sum(count for count, _ in inside))) > MUCH:
        found.append(
            f"{share:.0%} of the positions before the stop token have one choice, "
            f"{_visible(most)!r}, which decides these numbers. {look}"
        )
    return found


def shift_page(
    summary: Mapping[str, Any],
    shown: Sequence[ItemShift],
    facts: Mapping[str, str],
    level: float,
    pictures: Mapping[str, bytes],
) -> str:
    """The whole page as text."""
    labels = part_labels(summary["settings"])
    title = f"Token shift: {summary['name']}"
    return page(
        title,
        tag("style", Markup(STYLE)),
        tag("h1", title),
        tag("p", f"Run {summary['run']}, made by heed.", class_="quiet"),
        tag("p", _sentence(summary, level), class_="answer"),
        *(tag("p", text, class_="warning") for text in warnings_of(summary)),
        tag("h2", "How many tokens of its responses the base would have said too"),
        picture(pictures["shares"], "Shares of positions; the numbers are in the table below."),
        _parts(summary["parts"], labels, level),
        tag("h2", "Along the response"),
        picture(
            pictures["curves"],
            f"Means over the positions in each twentieth of a response, bands: {level:.0%} "
            f"intervals over responses.",
        ),
        _tokens(summary["tokens"]),
        _events(summary["events"]),
        _how_made(summary, facts, level),
        _responses(shown),
    )


def _sentence(summary: Mapping[str, Any], level: float) -> str:
    found = summary["parts"]["all"]
    shares = ", ".join(f"{_share(found[kind])} {kind}" for kind in CATEGORIES)
    return (
        f"Of {found['positions']} positions in {summary['items']} responses of the tuned student: "
        f"{shares} ({level:.0%} intervals over responses)."
    )


def _share(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return NONE
    return f"{found['value']:.1%} [{found['low']:.1%}, {found['high']:.1%}]"


def _value(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return NONE
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def _parts(parts: Mapping[str, Any], labels: Mapping[str, str], level: float) -> Markup:
    """A line per measure, a column per part of the responses."""
    lines: list[list[Any]] = [
        ["positions", *(_number(parts[part]["positions"]) for part in labels)]
    ]
    for name, words in NAMES.items():
        shown = _share if name in CATEGORIES else _value
        lines.append([words, *(_number(shown(parts[part][name])) for part in labels)])
    note = (
        f"Means over positions, [{level:.0%} interval]; responses are resampled as wholes (a share "
        f"of 0 or 1: Wilson score interval that counts responses). The stop token "
        f"is a position of each response that the student ended itself."
    )
    return join(table(["", *labels.values()], lines, id="parts"), tag("p", note, class_="quiet"))


def _tokens(tokens: Sequence[Mapping[str, Any]]) -> Markup:
    moved = [token for token in tokens if token["shifted"] or token["marginal"]]
    lines = [
        [
            tag("code", _visible(token["text"])),
            *(_number(token[name]) for name in ("id", "count", *CATEGORIES[::-1])),
            _number(f"{token['shifted'] / token['count']:.0%}"),
        ]
        for token in moved[:TOKENS]
    ]
    columns = ["tuned choice", "id", "positions", *CATEGORIES[::-1], "share shifted"]
    text = (
        f"{len(moved)} of {len(tokens)} different choices are marginal or shifted somewhere; the "
        f"{len(lines)} most often shifted. No words are left out."
    )
    return join(
        tag("h2", "Most shifted tokens"), tag("p", text), table(columns, lines, id="tokens")
    )


def _events(events: Mapping[str, int]) -> Markup:
    title = tag("h2", "What happened")
    if not events:
        return join(title, tag("p", "Nothing out of the ordinary."))
    return join(title, table(["what", "times"], [[k, _number(n)] for k, n in events.items()]))


def _how_made(summary: Mapping[str, Any], facts: Mapping[str, str], level: float) -> Markup:
    chosen = summary["settings"]
    words = {
        "items": f"{summary['items']} of {summary['items_of_task']}, taken evenly",
        "responses": "greedy, of the tuned student, under its own chat template",
        "context of the base": {
            "same": "the very tokens that the tuned student was given",
            "query": 'the instruction under "# Query:", not what the tuned student was given',
        }[chosen["base_context"]],
        "tuned choice": {
            "argmax": "the tuned student's most likely token",
            "emitted": "the token of the response",
        }[chosen["choice"]],
        "vocabulary": _vocabulary(chosen),
        "rank": "number of tokens to which the base gives strictly more; ties share the best rank",
        "first positions": f"{part_labels(chosen)['first']}, rounded up",
    }
    lines = [[label, text] for label, text in (words | dict(facts)).items()]
    return join(tag("h2", "What was compared, and how"), table(["what", "value"], lines))


def _vocabulary(chosen: Mapping[str, Any]) -> str:
    if chosen["top_k"] is None:
        return "all tokens"
    k = chosen["top_k"]
    by = "by id" if chosen["match"] == "id" else "by decoded text"
    return (
        f"the {k} most likely tokens of each, normalised anew and matched {by}; KL over tokens in "
        f"both lists (may be negative); rank at most {k}, probability 0 if absent"
    )


def _responses(shown: Sequence[ItemShift]) -> Markup:
    legend = tag(
        "p",
        "Colours: ",
        tag(
            "span",
            *(join(_legend(kind), " ") for kind in CATEGORIES),
            class_="tokens",
        ),
        " A colour tells of the choice at that place; point at a token for its numbers. ⏎ is a "
        "line break, ■ a stop token.",
    )
    parts = [part for item in shown for part in _response(item)]
    return join(tag("h2", f"{len(shown)} responses"), legend, *parts)


def _legend(kind: str) -> Markup:
    return tag("span", kind, class_=kind)


def _response(item: ItemShift) -> list[Markup]:
    ended = "ended by itself" if item.stop == "stop" else "cut at the cap"
    counts = ", ".join(f"{sum(item.category == i)} {kind}" for i, kind in enumerate(CATEGORIES))
    head = tag("h3", tag("code", item.key), f" {ended}; {counts}")
    spans = [_token(item, place) for place in range(len(item.said))]
    return [head, tag("pre", item.prompt), tag("div", *spans, class_="tokens")]


def _token(item: ItemShift, place: int) -> Markup:
    """One token of a response with its numbers."""
    text = item.texts[place]
    if place == len(item.said) - 1 and item.stop == "stop":
        text = "■"
    elif "\n" in text:
        text = text.replace("\n", "⏎\n")
    said = f"base rank {item.rank[place]:.0f}, p {item.probability[place]:.3g}, "
    said += f"KL(tuned || base) {item.kl_tuned_base[place]:.3g}"
    if item.choice[place] != item.said[place]:
        said += f", choice {_visible(item.chosen[place])}"
    kind = CATEGORIES[item.category[place]]
    return tag("span", text, class_=kind, title=said)


def _visible(text: str) -> str:
    r"""A token so that blanks can be seen.

    Example:
        >>> _visible(" a\n")
        '␣a⏎'
    """
    return text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")


def _number(value: Any) -> Markup:
    return tag("td", value, class_="number")

"""The first training examples as a page, with what is supervised marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from heed.core.types import Rendered
from heed.data.statistics import happened

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f4f4f5;padding:1rem;"
    "border-radius:.5rem}"
    "mark{background:#bbf7d0;text-decoration:underline}"
    "table{border-collapse:collapse;margin:1rem 0}"
    "th,td{text-align:left;font-weight:400;padding:.15rem .8rem .15rem 0;"
    "border-bottom:1px solid #e4e4e7}"
    "td{text-align:right;font-variant-numeric:tabular-nums}"
    "td.bar{width:24rem;padding:0}td.bar i{display:block;height:.8rem;background:#86b6d9}"
)


def marked(rendered: Rendered) -> str:
    """HTML of one rendered example with its supervised spans marked.

    Example:
        >>> from heed.core.types import Span
        >>> marked(Rendered("Q: <b> A: hi", (Span(10, 12),)))
        'Q: &lt;b&gt; A: <mark>hi</mark>'
    """
    parts, at = [], 0
    for start, stop in rendered.supervised:
        parts += [escape(rendered.text[at:start]), "<mark>", escape(rendered.text[start:stop])]
        parts.append("</mark>")
        at = stop
    return "".join([*parts, escape(rendered.text[at:])])


def examples_page(sample: Sequence[Rendered], teacher: str, numbers: Mapping[str, Any]) -> str:
    """A self-contained page of the first examples as the student sees them.

    Args:
        sample: The examples.
        teacher: Who made them.
        numbers: What `heed.data.statistics` found.
    """
    blocks = "".join(f"<pre>{marked(rendered)}</pre>" for rendered in sample)
    return (
        "<!doctype html><html lang=en><meta charset='utf-8'><title>Training examples</title>"
        f"<style>{STYLE}</style>"
        f"<h1>Training examples of {escape(teacher)}</h1>"
        f"{_numbers(numbers)}"
        f"<p>The first {len(sample)}. Loss is taken on the <mark>marked</mark> text only.</p>"
        f"{blocks}"
    )


def _numbers(numbers: Mapping[str, Any]) -> str:
    """Sums and events as a table, lengths as bars."""
    share = f"{numbers['supervised_share']:.1%}"
    rows = {
        "examples to train on": f"{numbers['examples']:,}",
        "examples kept apart": f"{numbers['validation_examples']:,}",
        "tokens": f"{numbers['tokens']:,}",
        "supervised tokens": f"{numbers['supervised_tokens']:,} ({share})",
        **happened(numbers),
    }
    most = max(count for *_, count in numbers["histogram"])
    bars = [
        f"<tr><th>{low}-{high}</th><td>{count:,}</td>"
        f"<td class=bar><i style='width:{100 * count / most:.1f}%'></i></td></tr>"
        for low, high, count in numbers["histogram"]
    ]
    facts = [f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in rows.items()]
    return (
        f"<table>{''.join(facts)}</table><h2>Lengths in tokens</h2><table>{''.join(bars)}</table>"
    )

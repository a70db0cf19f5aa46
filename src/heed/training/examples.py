"""The first training examples as a page, with what is supervised marked."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from heed.core.types import Rendered

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "pre{white-space:pre-wrap;background:#f4f4f5;padding:1rem;border-radius:.5rem}"
    "mark{background:#bbf7d0;text-decoration:underline}"
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


def examples_page(sample: Sequence[Rendered], teacher: str) -> str:
    """A self-contained page of the first examples as the student sees them."""
    blocks = "".join(f"<pre>{marked(rendered)}</pre>" for rendered in sample)
    return (
        "<!doctype html><meta charset='utf-8'><title>Training examples</title>"
        f"<style>{STYLE}</style>"
        f"<h1>Training examples of {escape(teacher)}</h1>"
        f"<p>The first {len(sample)}. Loss is taken on the <mark>marked</mark> text only.</p>"
        f"{blocks}"
    )

"""A self-contained page: one file that needs nothing else to be shown."""

from __future__ import annotations

import base64

from heed.analysis.markup import Markup, tag
from heed.analysis.style import CSS


def page(title: str, *sections: Markup) -> str:
    """A whole HTML page, light or dark as its reader has it.

    Args:
        title: Of the window.
        sections: What stands on it, one below the other.
    """
    head = tag(
        "head",
        Markup(
            '<meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
        ),
        tag("title", title),
        tag("style", Markup(CSS)),
    )
    body = tag("body", tag("main", *sections))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def picture(png: bytes, words: str) -> Markup:
    """A picture inside the page, with words for whoever cannot see it."""
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    image = Markup(tag("img", src=source, alt=words).removesuffix("</img>"))
    return tag("figure", image, tag("figcaption", words))

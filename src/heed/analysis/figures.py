"""One drawing, three ways: in a page whose colours follow its reader's, as an SVG, and as a PNG."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import matplotlib as mpl
from matplotlib.figure import Figure

from heed.analysis.markup import Markup, tag
from heed.analysis.style import LIGHT

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, which people with any colour vision can tell apart."""

MARKERS = "osD^vPX"
LINES = ("-", "--", "-.", ":")

INK, QUIET, GRID, PAPER = LIGHT["ink"], LIGHT["quiet"], LIGHT["line"], LIGHT["paper"]
"""What a page draws in its own ink, text beside it, lines behind it, and its paper."""

SERIES = (*COLOURS[:6], INK)
"""Colours of lines: each has another in the dark."""

STYLE: dict[str, Any] = {
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "svg.hashsalt": "heed",
}

DRAWN: dict[str, Any] = STYLE | {
    "axes.edgecolor": QUIET,
    "axes.facecolor": PAPER,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "figure.facecolor": PAPER,
    "grid.color": GRID,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,  # a name may hold a dollar
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}

OF_RUNS = "runs "
"""What the ids of parts begin with that are of some runs."""

ROLES = {colour: f"var(--{role})" for role, colour in LIGHT.items()}


@dataclass(frozen=True)
class Drawing:
    """One figure of a study.

    Attributes:
        name: Of its files, without an ending.
        words: What it shows, for whoever cannot see it.
        png: The figure in light colours.
        svg: The same, as a file that stands alone.
        inline: The same for a page, in its colours.
    """

    name: str
    words: str
    png: bytes
    svg: str
    inline: Markup

    def shown(self, note: Any, wide: bool = False) -> Markup:
        """The drawing on a page, with links to its files.

        Args:
            note: What stands below it.
            wide: Whether it keeps its size on a narrow page, and is scrolled there.
        """
        files = [
            tag("a", kind.upper(), href=quote(f"figures/{self.name}.{kind}"))
            for kind in ("png", "svg")
        ]
        kind = "drawn wide" if wide else "drawn"
        picture = tag("div", self.inline, class_=kind, role="img", aria_label=self.words)
        return tag("figure", picture, tag("figcaption", note, " ", files[0], " ", files[1]))


@contextmanager
def drawing_style() -> Iterator[None]:
    """Fonts and colours of a drawing; a sign that the font lacks is drawn by the browser's."""
    with mpl.rc_context(DRAWN), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def of_runs(part: Any, runs: Iterable[str]) -> None:
    """Say of which runs a part of a drawing is: a page shows it as long as it shows all of these.

    Args:
        part: What an axes' method has drawn, or a list of that.
        runs: Their ids.
    """
    for artist in part if isinstance(part, list) else [part]:
        artist.set_gid(OF_RUNS + " ".join(runs))


def rendered(figure: Figure, name: str, words: str, dpi: int = 144) -> Drawing:
    """Make all forms of a figure; the same figure gives the same bytes.

    Args:
        figure: Drawn inside `drawing_style`, in colours of `heed.analysis.style.LIGHT`.
        name: Of its files.
        words: What it shows.
        dpi: Dots per inch of the PNG.
    """
    png, svg = io.BytesIO(), io.StringIO()
    figure.savefig(png, format="png", dpi=dpi, metadata={"Software": None})
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    text = re.sub(r"<metadata>.*?</metadata>", "", svg.getvalue(), flags=re.DOTALL)
    alone = re.sub(rf' id="{OF_RUNS}[^"]*"', "", text)
    alone = alone.replace('xlink:href="../../', 'xlink:href="../../../')
    return Drawing(name, words, png.getvalue(), alone, _inline(text, figure))


def _inline(svg: str, figure: Figure) -> Markup:
    """An SVG without what would leak into the page around it, in the page's colours."""
    body = svg[svg.index("<svg") :]
    body = body[body.index(">") + 1 :]
    body = re.sub(r"<style.*?</style>|<clipPath.*?</clipPath>", "", body, flags=re.DOTALL)
    body = re.sub(rf'<g id="{OF_RUNS}([^"]*)"', r'<g data-drawn="\1"', body)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r' clip-path="[^"]*"', "", body)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub(r"<defs>\s*</defs>", "", body)
    body = body.replace("xlink:href=", "href=").replace(' target="_blank"', "")
    body = re.sub(r"\s*\n\s*", " ", body)
    body = re.sub(r' (?:d|x|y)="[^"]*"', _rounded, body)
    body = re.sub(
        r"(?<=: )#[0-9a-f]{6}\b", lambda found: ROLES.get(found.group(), found.group()), body
    )
    width, height = figure.get_size_inches() * 96
    box = f"0 0 {width * 0.75:g} {height * 0.75:g}"
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="{box}"'
    look = 'style="stroke-linejoin: round; stroke-linecap: butt"'
    return Markup(f"<svg {size} {look}>{body}")


def _rounded(attribute: re.Match[str]) -> str:
    """Places of a drawing to a tenth of a point, which is enough to be seen."""
    return re.sub(r"(\d\.\d)\d+", r"\1", attribute.group())


def file_name(name: str) -> str:
    """A name that stays in its folder, whatever it is.

    Example:
        >>> file_name("../../nano 1")
        'nano_1'
    """
    return "".join(c if c.isalnum() or c in "-." else "_" for c in name).strip("._")


def unit(metric: str) -> str:
    """What a metric is counted in, for the axis of a figure."""
    return "share" if metric.endswith("acc") else "in the metric's unit"

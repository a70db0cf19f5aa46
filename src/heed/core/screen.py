"""One error as one screen."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from heed.core.console import visible
from heed.core.errors import ConfigError, HeedError, Mistake


def show(error: Exception) -> None:
    """Print one error as one screen on stderr."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=True, highlight=False, width=100)
    console.print(screen(error))


def screen(error: Exception) -> Group:
    """One error for the eye: the mistakes numbered, or the message as it is."""
    if not isinstance(error, ConfigError):
        message = visible(str(error)) or type(error).__name__
        title = getattr(error, "title", HeedError.title)
        return Group(Text(title, "bold red"), Text(message.strip()))
    many = len(error.mistakes)
    parts: list[RenderableType] = [
        Text(f"{many} mistake{'s' if many > 1 else ''}; nothing was run.", "bold red")
    ]
    for number, mistake in enumerate(error.mistakes, 1):
        parts.append(Text(f"\n{number}  ", "bold").append(_given(mistake), "bold yellow"))
        parts += [
            Padding(Text(visible(line)), (0, 0, 0, 3), expand=False)
            for line in (mistake.why, mistake.action)
        ]
    return Group(*parts)


def _given(mistake: Mistake) -> str:
    """What was typed, as far as it is known."""
    if mistake.found in (mistake.where, "nothing", "the config itself"):
        return mistake.where + (" (not given)" if mistake.found == "nothing" else "")
    return visible(f"{mistake.where}={mistake.found}")

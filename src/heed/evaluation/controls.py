"""Controls: "models" that read nothing of what is asked, or only repeat it; what is a score worth?

A student that scores below them may have changed the form of its answers and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

PROSE_20 = (
    "The small boat left the harbour at dawn and the old man watched it until it was out of sight."
)

PROSE_50 = (
    "On Monday the library opened late because the key had been lost. Two students waited outside, "
    "talked about the rain, and shared an apple. When the door was unlocked at last, they went in "
    "quietly, chose a table near the window, and worked there until the evening bell rang twice."
)


@dataclass(frozen=True)
class Control:
    """A rule that answers every prompt.

    Attributes:
        name: As it is typed: `control=<name>`.
        what: One line that says what it answers.
        input_blind: Whether the answer is the same for every prompt.
        respond: The response to a prompt.
    """

    name: str
    what: str
    input_blind: bool
    respond: Callable[[str], str]


def _always(text: str) -> Callable[[str], str]:
    return lambda prompt: text


CONTROLS: Mapping[str, Control] = {
    control.name: control
    for control in (
        Control("sure", 'the word "Sure", whatever is asked', True, _always("Sure")),
        Control("prose20", "one fixed sentence of 20 words", True, _always(PROSE_20)),
        Control("prose50", "a fixed paragraph of 50 words", True, _always(PROSE_50)),
        Control("empty", "an empty response", True, _always("")),
        Control("echo", "the prompt itself, word for word", False, lambda prompt: prompt),
    )
}
"""All controls by name."""

"""A teacher whose responses end after their first paragraph."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated

from heed.core.component import component
from heed.core.identity import Incidental, canonical, short_hash
from heed.core.types import Example, OnBad
from heed.data.teacher import Teacher

BLANK_LINE = re.compile(r"\n\s*\n")
CUT = "response cut to its first paragraph"
AND_NEXT = "of these with the next, which its colon announces"


def first_paragraph(text: str) -> str:
    r"""What stands before the first blank line, or the first that follows no colon.

    A text of which nothing is left out is given as it is.

    Example:
        >>> first_paragraph("\nIn short, yes.\n \nAt length: ..."), first_paragraph(" Yes.")
        ('In short, yes.', ' Yes.')
        >>> first_paragraph("Two ways:\n\n1. Walk.\n2. Run.\n\nBoth are good.")
        'Two ways:\n\n1. Walk.\n2. Run.'
    """
    parts = [part.rstrip() for part in BLANK_LINE.split(text.strip())]
    ends = (number for number, part in enumerate(parts, 1) if not part.endswith(":"))
    end = next(ends, len(parts))
    return "\n\n".join(parts[:end]) if end < len(parts) else text


@component
class FirstParagraph(Teacher):
    """The same conversations, and of each response the first paragraph only.

    A plain rule that stands for simplified responses written by a model or by people, which keep
    what helps and leave out the rest; this one keeps what comes first. A paragraph that ends with a
    colon is followed by the next. Rewritten responses of your own are read with `teacher=file`.
    """

    name: Annotated[str, Incidental]
    """How the teacher is called in tables."""

    teacher: Teacher
    """Whose responses they are."""

    def digest(self) -> str:
        """Digest of the rule and of the responses."""
        return short_hash(["first paragraph", canonical(self.teacher)])

    def parts(self) -> Mapping[str, Teacher]:
        """The teacher whose responses are cut."""
        return {f"teacher.{at}".rstrip("."): one for at, one in self.teacher.parts().items()}

    def events(self) -> Mapping[str, int]:
        """What the teacher itself left out, and how many responses are cut here."""
        found = {CUT: 0, AND_NEXT: 0}
        for example in self.teacher.rows(_ignored):
            for message in example.messages:
                short = first_paragraph(message.content)
                if message.role == "assistant" and short != message.content:
                    found[CUT] += 1
                    found[AND_NEXT] += BLANK_LINE.search(short) is not None
        return {**self.teacher.events(), **{what: count for what, count in found.items() if count}}

    def rows(self, on_bad: OnBad | None = None) -> Iterator[Example]:
        """One example for each of the teacher's, in its order.

        Args:
            on_bad: Told of each row that cannot be read; None: the first one is raised.
        """
        for example in self.teacher.rows(on_bad):
            messages = tuple(
                m._replace(content=first_paragraph(m.content)) if m.role == "assistant" else m
                for m in example.messages
            )
            yield replace(example, messages=messages, teacher=self.name)


def _ignored(error: Exception) -> None:
    """Rows that cannot be read are told of where they are read to be trained on."""

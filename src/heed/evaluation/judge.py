"""A judge says which of two responses to an instruction is better; recorded ones are looked up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, NamedTuple

from heed.core.component import component, nearest
from heed.core.errors import DataError
from heed.core.files import digest_file
from heed.core.identity import Incidental, short_hash
from heed.data.preferences import Scale, outputs_of, read_preferences
from heed.data.tables import need_file

UNREAD = "judgement that could not be read, no score"
OTHER_TEXT = "no judgement of this very response, no score"
NOT_RECORDED = "no judgement on record, no score"


class Pairwise(NamedTuple):
    """What a judge is shown.

    Attributes:
        key: Of the instruction.
        instruction: What was asked.
        reference: The response that all others are compared with.
        response: The one that is judged.
    """

    key: str
    instruction: str
    reference: str
    response: str


@dataclass(frozen=True)
class Judgement:
    """What a judge says of a pair.

    Attributes:
        preference: From 0 (the reference is better) to 1 (the response is), 0.5 for a tie; None if
            there is none: it is counted, and never a score.
        missing: Why there is none.
        replies: What the judge wrote, one per question.
        orders: Whether the reference stood first, one per question.
        read: Tokens that it was charged for reading.
        written: Tokens that it was charged for writing.
        served: What the endpoint calls the model that replied.
        kept: Replies that were on disk from before, and not asked (and paid) for again.
        swayed: Whether the verdict went with the place of a response, not with the response.
    """

    preference: float | None
    missing: str | None = None
    replies: tuple[str, ...] = ()
    orders: tuple[bool, ...] = ()
    read: int = 0
    written: int = 0
    served: tuple[str, ...] = ()
    kept: int = 0
    swayed: bool = False


class Judge(ABC):
    """What says which of two responses is better; an option of `conf/judge/<name>.yaml`."""

    @abstractmethod
    def judge(self, pair: Pairwise) -> Judgement:
        """Compare the two responses of a pair.

        Raises:
            RunError: it cannot be asked.
            DataError: what is on record is damaged.
        """


@component
class Recorded(Judge):
    """Judgements that were made before: a table with a line per instruction, a column per model.

    A judgement belongs to the text that was judged. Any other response has none, and is counted.
    """

    path: Annotated[str, Incidental]
    """The table, .csv or .csv.gz; its first column holds the instructions' keys."""

    model: str
    """The column."""

    scale: Scale
    """How the table writes a preference."""

    outputs: Annotated[str, Incidental]
    """What was judged: a .jsonl or .jsonl.gz file with instruction and output."""

    def digest(self) -> str:
        """Hash of the table and of what was judged."""
        files = (need_file(self.path, "judgements"), need_file(self.outputs, "judged responses"))
        return short_hash([digest_file(file) for file in files])

    def judge(self, pair: Pairwise) -> Judgement:
        """What the table says, if this very response was judged."""
        if self._judged.get(pair.instruction) != pair.response:
            return Judgement(None, OTHER_TEXT)
        found = self._preferences.get(pair.key)
        return Judgement(found, None if found is not None else NOT_RECORDED)

    @cached_property
    def _preferences(self) -> Mapping[str, float | None]:
        columns = read_preferences(Path(self.path), self.scale)
        if self.model not in columns:
            raise DataError(
                f"{self.path} has no judgements of {self.model!r}. "
                f"{nearest(self.model, list(columns))} It has: {', '.join(columns)}."
            )
        return columns[self.model]

    @cached_property
    def _judged(self) -> Mapping[str, str]:
        path = need_file(self.outputs, f"responses of {self.model} that were judged")
        return outputs_of(path)

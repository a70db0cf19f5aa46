"""How a row reads as a conversation: columns of texts, or a column of turns."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import field
from typing import Annotated, Any, Literal, NamedTuple

from heed.core.component import component, nearest
from heed.core.errors import ConfigError, DataError, Mistake
from heed.core.identity import Incidental
from heed.core.types import Message
from heed.data.tables import shown

Speaker = Literal["system", "user", "assistant"]


class Reading(NamedTuple):
    """What a row says.

    Attributes:
        messages: A system turn or none, then user and assistant by turns, the assistant last.
        reward: A score of the response, if the row has one.
        rewards: Further scores of it that the row has, by name.
    """

    messages: tuple[Message, ...]
    reward: float | None
    rewards: Mapping[str, float]


class Layout(ABC):
    """How a row reads."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Columns that are looked at; `a.b` is the field `b` of a struct, `a.0` a list's first."""

    @abstractmethod
    def read(self, row: Mapping[str, Any]) -> Reading:
        """The conversation of one row.

        Raises:
            DataError: it is not laid out so; the message says what was found and expected.
        """

    def events(self, rows: Iterable[Mapping[str, Any]]) -> Mapping[str, int]:
        """What is named here and may be missing, and no row has; read no further than needed."""
        del rows
        return {}


@component
class Columns(Layout):
    """One instruction and one response a row, each in a column of its own."""

    system: str | None
    """Column of a system turn; null if none. An empty value is no system turn."""

    instruction: str
    """Column of the instruction."""

    input: str | None
    """Column of further input to the instruction, joined to it by a blank line; null if none."""

    response: str
    """Column of the response; `a.b` looks into a struct. A null reads as an empty response."""

    sparse: bool
    """Whether a row may lack the response's column: it is then empty. If not, it cannot be read."""

    reward: str | None
    """Column of a score of the response; null if none."""

    rewards: Annotated[Mapping[str, str], Incidental] = field(default_factory=dict)
    """Name -> column of a further score, for comparisons only; what is no number there is none."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is named."""
        named = (self.system, self.instruction, self.input, self.response, self.reward)
        return (*(column for column in named if column is not None), *self.rewards.values())

    def read(self, row: Mapping[str, Any]) -> Reading:
        """An optional system turn, the instruction with its input, the response."""
        system = text_of(row, self.system, empty=True) if self.system else ""
        instruction = text_of(row, self.instruction)
        extra = text_of(row, self.input, empty=True) if self.input else ""
        response = text_of(row, self.response, empty=True, sparse=self.sparse)
        asked = Message("user", f"{instruction}\n\n{extra}" if extra else instruction)
        opening = (Message("system", system),) if system else ()
        turns = (*opening, asked, Message("assistant", response))
        reward = reward_of(row, self.reward, sparse=self.sparse)
        return Reading(turns, reward, dict(self._further(row)))

    def _further(self, row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
        """Further scores; they decide no training, so that none of them refuses a row."""
        for name, column in self.rewards.items():
            with suppress(DataError):
                if (found := reward_of(row, column, sparse=True)) is not None:
                    yield name, found


@component
class Turns(Layout):
    """A conversation a row: a column that holds a list of turns, each with a role and a content."""

    turns: str
    """Column of the list of turns; `a.b` looks into a struct."""

    response: str | None
    """Column of the turn that follows the list (a turn, or a list of one): the chosen response of a
    preference set; null if the list is whole."""

    role: str
    """Key of a turn's role."""

    content: str
    """Key of a turn's text."""

    roles: Mapping[str, Speaker]
    """What the data calls a role -> who that is. A turn of any other role cannot be read."""

    weight: str | None
    """Key of a turn's weight; null if none. An assistant's turn of weight 0 is shown and not
    trained on; 1, null and no weight mean trained on. Nobody else's turn is ever trained on."""

    reward: str | None
    """Column of a score of the response; null if none."""

    def __post_init__(self) -> None:
        if missing := sorted({"user", "assistant"} - set(self.roles.values())):
            raise ConfigError(
                [Mistake("roles", str(dict(self.roles)),
                         f"nobody is the {' or the '.join(missing)}, so no row could be read.",
                         "Say how the data calls them, {human: user, gpt: assistant}.")]
            )  # fmt: skip

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is named."""
        named = (self.turns, self.response, self.reward)
        return tuple(column for column in named if column is not None)

    def read(self, row: Mapping[str, Any]) -> Reading:
        """All turns, with those of weight 0 marked."""
        found = list(self._listed(row))
        messages = tuple(self._turn(turn, number) for number, turn in enumerate(found, start=1))
        check_order([message.role for message in messages])
        return Reading(messages, reward_of(row, self.reward, sparse=False), {})

    def events(self, rows: Iterable[Mapping[str, Any]]) -> Mapping[str, int]:
        """The number of rows, if not one turn of the assistant in them has the weight's key."""
        if self.weight is None:
            return {}
        count = 0
        for row in rows:
            if self._weighs(row):
                return {}
            count += 1
        what = f"no turn had the weight {self.weight!r}, so every response is trained on"
        return {what: count} if count else {}

    def _weighs(self, row: Mapping[str, Any]) -> bool:
        """Whether some turn of the assistant has a weight."""
        try:
            turns = list(self._listed(row))
        except DataError:  # told of where the row is read
            return False
        return any(
            turn.get(self.weight) is not None and self._is_assistant(turn.get(self.role))
            for turn in turns
            if isinstance(turn, Mapping)
        )

    def _is_assistant(self, role: Any) -> bool:
        return isinstance(role, str) and self.roles.get(role) == "assistant"

    def _listed(self, row: Mapping[str, Any]) -> Iterator[Any]:
        turns = value_of(row, self.turns)
        if not isinstance(turns, list | tuple):
            said = f"column {self.turns!r} holds {shown(turns)}; expected a list of turns."
            raise DataError(said)
        yield from turns
        if self.response is not None:
            last = value_of(row, self.response)
            yield from last if isinstance(last, list | tuple) else (last,)

    def _turn(self, turn: Any, number: int) -> Message:
        if not isinstance(turn, Mapping) or not {self.role, self.content} <= turn.keys():
            raise DataError(
                f"turn {number} is {shown(turn)}; expected an object with {self.role!r} and "
                f"{self.content!r}."
            )
        said = checked_text(turn[self.content], f"turn {number}, {self.content!r},")
        who = self._role(turn[self.role], number)
        if who != "assistant" or self.weight is None:
            return Message(who, said)
        weight = turn.get(self.weight)
        if weight not in (None, 0, 1) or isinstance(weight, bool):
            raise DataError(f"turn {number} has the weight {shown(weight)}; expected 0, 1 or null.")
        return Message(who, said, supervised=weight != 0)

    def _role(self, name: Any, number: int) -> Speaker:
        if isinstance(name, str) and name in self.roles:
            return self.roles[name]
        near = nearest(name, list(self.roles)) if isinstance(name, str) and len(name) < 60 else ""
        raise DataError(
            f"turn {number} has the role {shown(name)}; expected one of "
            f"{', '.join(map(repr, self.roles))}. {near}".rstrip()
        )


def check_order(roles: list[str]) -> None:
    """Refuse a conversation that no chat template renders as it was meant.

    Raises:
        DataError: unless a system turn or none is followed by user, assistant, user, assistant ...

    Example:
        >>> check_order(["system", "user", "assistant"])
    """
    if not roles:
        raise DataError("there is no turn at all; expected a user's turn and an assistant's.")
    offset = 1 if roles[0] == "system" else 0
    for place, role in enumerate(roles[offset:], start=offset):
        due = "user" if (place - offset) % 2 == 0 else "assistant"
        if role != due:
            before = f"after the {roles[place - 1]}'s" if place else "at the beginning"
            raise DataError(
                f"turn {place + 1}, {before}, is the {role}'s; expected the {due}'s there."
            )
    if roles[-1] != "assistant":
        raise DataError(f"the last turn is the {roles[-1]}'s; expected the assistant's.")


_MISSING = object()


def value_of(row: Mapping[str, Any], column: str, *, sparse: bool = False) -> Any:
    """What stands in a column; names may hold dots themselves, and the longest that fits counts.

    Args:
        row: Column -> value.
        column: `a`, or `a.b` for a field of a struct, or `a.0` for a list's first.
        sparse: Whether the column may be missing; it then reads as null.

    Raises:
        DataError: there is no such column.

    Example:
        >>> value_of({"gemma-2.5": {"content": "hi"}}, "gemma-2.5.content")
        'hi'
    """
    found = row[column] if column in row else _look_up(row, column)
    if found is not _MISSING:
        return found
    if sparse:
        return None
    raise DataError(f"there is no column {shown(column)}; expected it among {_names(row)}.")


def _names(row: Mapping[str, Any]) -> str:
    """The columns of a row; fields of structs are shown too, because one may be meant."""
    names = []
    for name, value in row.items():
        fields = ", ".join(map(str, value)) if isinstance(value, Mapping) else ""
        names.append(repr(f"{name}.({fields})" if fields else name))
    text = ", ".join(names) or "no column at all"
    return text if len(text) <= 300 else f"{text[:297]}..."


def _look_up(value: Any, path: str) -> Any:
    """The value at a dotted path, `_MISSING` if there is none, None below a null."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        head, _, rest = path.partition(".")
        if not (head.isascii() and head.isdecimal() and len(head) < 6 and int(head) < len(value)):
            return _MISSING
        return _look_up(value[int(head)], rest) if rest else value[int(head)]
    if not isinstance(value, Mapping):
        return _MISSING
    if path in value:
        return value[path]
    for cut in reversed([at for at, sign in enumerate(path) if sign == "."]):
        if path[:cut] in value:
            return _look_up(value[path[:cut]], path[cut + 1 :])
    return _MISSING


def text_of(
    row: Mapping[str, Any], column: str, *, empty: bool = False, sparse: bool = False
) -> str:
    """The text in a column.

    Args:
        row: Column -> value.
        column: Its name, as in `value_of`.
        empty: Whether a null reads as an empty text.
        sparse: Whether the column may be missing; it then reads as a null.

    Raises:
        DataError: there is no such column, or it holds no text.
    """
    value = value_of(row, column, sparse=sparse)
    return "" if value is None and empty else checked_text(value, f"column {column!r}")


def checked_text(value: Any, place: str) -> str:
    """A value that must be text which a tokenizer can read.

    Raises:
        DataError: it is no text, or holds half a character.
    """
    if not isinstance(value, str):
        raise DataError(f"{place} holds {shown(value)}, which is not text; expected text.")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        half = shown(value[max(0, error.start - 10) : error.end])
        raise DataError(
            f"{place} holds half a character (a lone surrogate) at character {error.start + 1}, "
            f"at the end of {half}; expected whole characters."
        ) from error
    return value


def reward_of(row: Mapping[str, Any], column: str | None, *, sparse: bool) -> float | None:
    """The finite number in a column, also written as text (in a .csv everything is).

    Raises:
        DataError: there is no such column, or it holds something else.
    """
    value = None if column is None else value_of(row, column, sparse=sparse)
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(
            f"column {column!r} holds {shown(value)}; expected a finite number or null."
        )
    return number

"""An untuned student that reads responses once: what it found is on record for the next time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from heed.analysis.response_loss import Precision, ResponseLoss, response_losses, unreadable
from heed.core.console import progress_console
from heed.core.errors import DataError
from heed.core.files import read_json, write_json
from heed.core.identity import canonical, short_hash, versions
from heed.core.manifest import code_state, same_code
from heed.core.types import Example
from heed.data.intake import conversation_digest

if TYPE_CHECKING:
    from heed.models.student import Loaded


class Rows(NamedTuple):
    """Some responses of one teacher.

    Attributes:
        teacher: Its name, for lines.
        digest: Of all of its rows.
        examples: The responses.
    """

    teacher: str
    digest: str
    examples: Sequence[Example]


@dataclass(frozen=True)
class Reader:
    """A student that is loaded when it is first needed, and what it has on record.

    Attributes:
        name: How it is called in lines for a person.
        decides: What tells its losses from any other student's: its weights, its template, how it
            is loaded; plain data or components.
        load: Gives the student.
        root: Of the outputs.
        batch_tokens: Most tokens of a packed row: memory and speed.
        max_tokens: Longest example, prompt and template included, if the student's context is not
            shorter; None: the context.
        precision: Numbers of the reading, as `response_losses` takes it.
    """

    name: str
    decides: Any
    load: Callable[[], Loaded]
    root: Path
    batch_tokens: int
    max_tokens: int | None
    precision: Precision
    _loaded: list[Loaded] = field(default_factory=list, compare=False)
    _told: set[str] = field(default_factory=set, compare=False)

    @property
    def folder(self) -> Path:
        """Where the records are, those of other students too."""
        return self.root / "cache" / "response_losses"

    def unreadable(self, rows: Rows) -> list[str]:
        """Why each response cannot be read, empty where it can; nothing is weighed for it.

        Raises:
            DataError: what is on record is damaged.
        """

        def look(examples: Sequence[Example]) -> list[str]:
            return unreadable(self._student(), examples, self.max_tokens)

        return self._recorded(rows, None, look)

    def losses(self, rows: Rows, *, conditioned: bool) -> list[ResponseLoss]:
        """The loss of each response, weighed now or read from where it was kept.

        Returns:
            One for each example, in order.

        Raises:
            DataError: what is on record is damaged.
        """

        def weigh(examples: Sequence[Example]) -> list[list[Any]]:
            kind = "given the instruction" if conditioned else "alone"
            progress_console().print(
                f"  {self.name} reads {rows.teacher}, {kind}: {len(examples)} responses",
                markup=False,
            )
            made = response_losses(
                self._student(),
                examples,
                conditioned=conditioned,
                batch_tokens=self.batch_tokens,
                max_tokens=self.max_tokens,
                precision=self.precision,
            )
            return [[one.nats, one.tokens, one.left_out] for one in made]

        return [ResponseLoss(*row) for row in self._recorded(rows, conditioned, weigh)]

    def _recorded(
        self, rows: Rows, conditioned: bool | None, make: Callable[[Sequence[Example]], list[Any]]
    ) -> list[Any]:
        """What is on record of each response; what is not is made, and kept."""
        place = self._place(rows.digest, conditioned)
        keys = [conversation_digest(example.messages).hex() for example in rows.examples]
        known, codes = _read(place, conditioned is None)
        new = {key: e for key, e in zip(keys, rows.examples, strict=True) if key not in known}
        if new:
            known |= dict(zip(new, make(list(new.values())), strict=True))
            codes = sorted({*codes, code_state()})
            about = {"teacher": rows.teacher, "conditioned": conditioned, "code": codes}
            write_json(place, about | {"losses": known})
        self._say_other_code(place, codes)
        return [known[key] for key in keys]

    def _say_other_code(self, place: Path, codes: Sequence[str]) -> None:
        """Tell which other code of heed made what is used, each once."""
        now = code_state()
        others = [code for code in codes if not same_code(code, now) and code not in self._told]
        if not others:
            return
        self._told.update(others)
        progress_console().print(
            f"  {self.name}: records of other code of heed are used ({', '.join(others)}), as that "
            f"in {place}. Where they are removed, the responses are read again.",
            markup=False,
            soft_wrap=True,
        )

    def _student(self) -> Loaded:
        if not self._loaded:
            self._loaded.append(self.load())
        return self._loaded[0]

    def _place(self, digest: str, conditioned: bool | None) -> Path:
        longest = self.max_tokens and [self.max_tokens, "within the context"]
        decides = {
            "student": self.decides,
            "teacher": digest,
            "conditioned": conditioned,
            "max_tokens": longest,
            "precision": self.precision,
            "versions": versions(),
        }
        return self.folder / f"{short_hash(canonical(decides))}.json"


def _read(place: Path, looked: bool) -> tuple[dict[str, Any], list[str]]:
    """What is on record by the digest of the conversation, and the code that made it."""
    if not place.is_file():
        return {}, []
    try:
        record = read_json(place)
        rows, codes = record["losses"].items(), record.get("code", ["not known"])
        if looked:
            if not all(isinstance(why, str) for _, why in rows):
                raise TypeError("a reason is no text")
            return dict(rows), [str(code) for code in codes]
        found = {key: [float(n), int(t), str(why)] for key, (n, t, why) in rows}
        return found, [str(code) for code in codes]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{place} does not hold whole losses ({type(error).__name__}: {error}), so they cannot "
            f"be ranked by. Remove the file; the same command weighs those responses again."
        ) from error

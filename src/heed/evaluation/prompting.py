"""How an instruction is put to a student: in its chat template, alone, or after examples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from heed.core.component import component
from heed.core.errors import DataError
from heed.core.files import digest_file
from heed.core.identity import Incidental
from heed.core.types import Answer, ChatTemplate

QUERY, ANSWER = "# Query:", "# Answer:"
FENCE = "```"
UNFENCED = "answer without its closing fence"


class Prompting(ABC):
    """One way of asking; an option of `conf/prompting/`.

    It decides what generation tasks are asked, before and after alike. Tasks that weigh
    likelihoods, or question the model themselves, are the same under each.
    """

    last_line: str | None = None
    """The answer ends before the first line that begins with this; None: at a stop token only."""

    @property
    @abstractmethod
    def name(self) -> str:
        """How it is called in tables and folders."""

    @abstractmethod
    def prompt(self, template: ChatTemplate, instruction: str) -> str:
        """What the student reads, up to where its answer begins.

        Raises:
            DataError: what stands before the instruction is missing or malformed.
        """

    def response(self, answer: Answer, events: Counter[str]) -> Answer:
        """The part of an answer that is scored: all of it, unless the prompting ends it.

        Args:
            answer: As the backend gave it.
            events: Told what a reader of the texts should know: name -> count.
        """
        return answer

    def settings(self) -> dict[str, Any]:
        """What of it decides an answer, as plain data; part of the fingerprint."""
        return {"name": self.name}


@component
class Declared(Prompting):
    """The student's own chat template, which tuning uses too."""

    @property
    def name(self) -> str:
        """`template`."""
        return "template"

    def prompt(self, template: ChatTemplate, instruction: str) -> str:
        """One user turn, up to where the assistant's answer begins."""
        return template.prompt(instruction)


@component
class Plain(Prompting):
    """The instruction alone: a text that the student goes on with.

    Only what the template says stands before every text (a beginning-of-text token) is kept.
    """

    @property
    def name(self) -> str:
        """`plain`."""
        return "plain"

    def prompt(self, template: ChatTemplate, instruction: str) -> str:
        """The instruction, word for word."""
        return template.begin + instruction


@component
class InContext(Prompting):
    r"""After a text with examples, by which an untuned model is made to answer.

    The file holds a system text and blocks of `# Query:` and `# Answer:`, each fenced by three
    backticks. The instruction stands in one more block, whose answer is open; the answer ends
    before the first line that begins with three backticks. One that opens a block of code
    therefore ends there.

    Source: Lin et al. 2023 (URIAL), https://arxiv.org/abs/2312.01552, and the prompt files of its
    repository.

    Example:
        >>> InContext.answered(Answer("Hello.\n```\n\n# Query:", 9, "cap"))
        Answer(text='Hello.', tokens=9, stop='stop', likelihoods=())
    """

    path: Annotated[str, Incidental]
    """The file; the identity holds its content, not its place."""

    last_line = FENCE

    @property
    def name(self) -> str:
        """`urial`."""
        return "urial"

    def prompt(self, template: ChatTemplate, instruction: str) -> str:
        """The file, the instruction in a block of its own, and the beginning of its answer."""
        asked = f"{QUERY}\n{FENCE}\n{instruction}\n{FENCE}\n\n{ANSWER}\n{FENCE}\n"
        return f"{template.begin}{self._examples()}\n\n{asked}"

    def response(self, answer: Answer, events: Counter[str]) -> Answer:
        """What stands before the closing fence; an answer without one is whole, and counted."""
        found = self.answered(answer)
        if found is None:
            events[UNFENCED] += 1
        return found or answer

    @staticmethod
    def answered(answer: Answer) -> Answer | None:
        """An answer up to its closing fence, or None if it has none."""
        before, fence, _ = f"\n{answer.text or ''}".partition(f"\n{FENCE}")
        return answer._replace(text=before[1:], stop="stop") if fence else None

    def settings(self) -> dict[str, Any]:
        """The content of the file, and where an answer ends."""
        return {"name": self.name, "content": self.digest(), "answer ends before": FENCE}

    def digest(self) -> str:
        """Changes with the content of the file."""
        self._examples()
        return digest_file(Path(self.path))

    def _examples(self) -> str:
        """The text of the file, without white space at its end.

        Raises:
            DataError: there is no such file, or it is no such prompt.
        """
        why = "so the instruction would be asked without its examples"
        action = (
            "Give suite.prompting.path=<file> (of the prompting beside it: suite.also.path) with "
            "blocks of '# Query:' and '# Answer:'"
        )
        try:
            text = Path(self.path).read_text(encoding="utf-8").rstrip()
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path} cannot be read ({error}), {why}. {action}.") from error
        queries, answers = (f"\n{text}".count(f"\n{mark}\n{FENCE}\n") for mark in (QUERY, ANSWER))
        if not queries or queries != answers or not text.endswith(f"\n{FENCE}"):
            raise DataError(
                f"{self.path} has {queries} fenced blocks of {QUERY!r} and {answers} of "
                f"{ANSWER!r}, {why}. {action}, as many of one as of the other, each between "
                f"lines of {FENCE}, the last an answer."
            )
        return text

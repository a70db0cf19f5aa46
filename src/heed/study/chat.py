"""A talk with a tuned student in the terminal, under the template that it was tuned with."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from heed.core.console import progress_console, visible
from heed.core.types import Answer, Message
from heed.models.backend import Backend, HeedBackend
from heed.models.tokenizer import prompt_ids
from heed.study.runs import TrainedRun
from heed.study.subjects import load_run

if TYPE_CHECKING:
    from heed.models.student import Loaded

HELP = "/new begins a new conversation, /quit or Ctrl-D ends. Everything else is said to it."


class Conversation:
    """The turns so far, and the student that answers them greedily.

    Attributes:
        turns: What was said, oldest first.
    """

    def __init__(self, loaded: Loaded, cap: int, backend: Backend):
        """Begin.

        Args:
            loaded: The student.
            cap: Most tokens of an answer.
            backend: What generates.
        """
        self.loaded, self.cap, self.backend = loaded, cap, backend
        self.turns: list[Message] = []

    def say(self, text: str) -> tuple[Answer | None, str]:
        """Say something, and hear the answer.

        Returns:
            The answer, and a note on it: cut, or empty. None as answer if the context has no room
            for one; the turn is then taken back.
        """
        turns = [*self.turns, Message("user", text)]
        prompt = self.loaded.template.prompt_pieces(turns)
        used = len(prompt_ids(self.loaded.tokenizer, prompt))
        context = self.loaded.context
        room = self.cap if context is None else min(self.cap, context - used)
        if room < 1:
            return None, (
                f"The conversation would take {used} of the student's {context} tokens, so there "
                f"is no room for an answer, and it was not said. /new begins a new conversation."
            )
        ((_, answer),) = self.backend.answers(
            self.loaded, [prompt], max_new_tokens=room, events=Counter()
        )
        self.turns = [*turns, Message("assistant", answer.text or "")]
        return answer, self._note(answer, room)

    def _note(self, answer: Answer, room: int) -> str:
        if answer.stop == "cap":
            full = "its context is full: /new begins a new conversation"
            why = full if room < self.cap else "the cap; suite.max_new_tokens=<n> raises it"
            return f"(cut after {answer.tokens} tokens: {why})"
        return "" if (answer.text or "").strip() else "(an empty answer)"

    def forget(self) -> None:
        """Begin a new conversation."""
        self.turns = []


def chat_with(run: TrainedRun, device: str, cap: int) -> None:
    """Load the student of a run, and talk with it until the input ends.

    Answers go to stdout, everything else to stderr, so that a piped talk is clean.

    Args:
        run: Which.
        device: Where it answers.
        cap: Most tokens of an answer.
    """
    say = progress_console()
    loaded = load_run(run, device)
    say.print(f"{run.name} (run {run.id}), greedy, at most {cap} tokens an answer.", markup=False)
    say.print(HELP)
    talk(Conversation(loaded, cap, HeedBackend(batch_tokens=1, rows=1)), typed())


def talk(conversation: Conversation, lines: Iterator[str]) -> None:
    """Answer line by line until the lines end, or Ctrl-C, also in the middle of an answer."""
    with suppress(KeyboardInterrupt):
        _answer_each(conversation, lines)


def _answer_each(conversation: Conversation, lines: Iterator[str]) -> None:
    note = progress_console()
    commands: dict[str, Callable[[], Any]] = {
        "/new": conversation.forget,
        "/help": lambda: note.print(HELP),
    }
    for line in map(str.strip, lines):
        if line == "/quit":
            return
        if not line:
            continue
        if line in commands:
            commands[line]()
        elif line.startswith("/") and len(line.split()) == 1:
            note.print(f"There is no command {line}. {HELP}", markup=False)
        else:
            answer, remark = conversation.say(line)
            if answer is not None:
                sys.stdout.write(f"{visible(answer.text or '')}\n")  # as it is, and at once
                sys.stdout.flush()
            if remark:
                note.print(remark, markup=False)


def typed() -> Iterator[str]:
    """Lines of the terminal or of a pipe, until their end."""
    terminal = sys.stdin.isatty()
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="replace")  # a tokenizer cannot read half characters
    if terminal:
        with suppress(ImportError):
            import readline  # noqa: F401 (line editing and history of input())
    with suppress(EOFError):
        while True:
            yield input("> " if terminal else "")

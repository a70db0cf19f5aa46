"""A chat is the template's: several turns, an honest word on every cut, and a clean pipe."""

import io
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
from tiny import ROOT, Finished, evaluation

from heed.core.errors import RunError
from heed.core.types import Answer, Message
from heed.models.backend import HeedBackend
from heed.study.chat import Conversation, talk, typed
from heed.study.evaluation import run_evaluation


class Parrot:
    """A backend that answers in order and remembers what it was shown."""

    def __init__(self, *answers: Answer):
        self.left, self.shown, self.caps = list(answers), [], []

    def answers(
        self, loaded, prompts, *, max_new_tokens: int, events: Counter[str]
    ) -> Iterator[tuple[int, Answer]]:
        self.shown += prompts
        self.caps.append(max_new_tokens)
        yield 0, self.left.pop(0)


def said(text: str, stop: str = "stop", tokens: int = 3) -> Answer:
    return Answer(text, tokens, stop)  # type: ignore[arg-type]


def test_each_turn_is_shown_with_all_before_it_under_the_template(loaded, template):
    parrot = Parrot(said("one"), said("two"), said("three"))
    talk_to = Conversation(loaded, 10, parrot)  # type: ignore[arg-type]
    talk_to.say("a")
    talk_to.say("b")
    turns = [Message("user", "a"), Message("assistant", "one"), Message("user", "b")]
    assert ["".join(asked) for asked in parrot.shown] == [
        template.prompt("a"), template.prompt_of(turns)
    ]  # fmt: skip
    talk_to.forget()
    talk_to.say("c")
    assert parrot.shown[-1] == (template.prompt("c"),)


def test_an_answer_that_was_cut_or_is_empty_is_told(loaded):
    talk_to = Conversation(loaded, 10, Parrot(said("x", "cap", 10), said(" ")))  # type: ignore[arg-type]
    assert "cut after 10 tokens: the cap" in talk_to.say("a")[1]
    assert talk_to.say("a")[1] == "(an empty answer)"


def test_the_end_of_the_context_shortens_an_answer_then_refuses_one(loaded, template):
    room = loaded.context - len(loaded.tokenizer.encode(template.prompt("a"))) + 1
    parrot = Parrot(said("x" * 20, "cap", room))
    talk_to = Conversation(loaded, 10_000, parrot)  # type: ignore[arg-type]
    assert "its context is full: /new" in talk_to.say("a")[1]
    assert parrot.caps[0] < loaded.context
    before = list(talk_to.turns)
    answer, note = talk_to.say("word " * 300)
    assert answer is None
    assert "there is no room for an answer, and it was not said" in note
    assert talk_to.turns == before


def test_the_longest_answer_that_is_allowed_fits_the_context(loaded):
    talk_to = Conversation(loaded, 10_000, HeedBackend(batch_tokens=1, rows=1))
    answer, _ = talk_to.say("Name a colour.")
    assert answer is not None
    assert 0 < answer.tokens < loaded.context


def test_commands_are_not_said_to_the_student(loaded, capsys):
    parrot = Parrot(said("one"), said("two"))
    lines = ["", "  ", "/help", "/nwe", "hello", "/new", "/is this a command?", "/quit", "never"]
    talk(Conversation(loaded, 10, parrot), iter(lines))  # type: ignore[arg-type]
    seen = capsys.readouterr()
    assert seen.out == "one\ntwo\n"
    assert len(parrot.shown) == 2
    assert "There is no command /nwe" in seen.err


def test_what_the_student_says_is_neither_markup_nor_a_command_to_the_terminal(loaded, capsys):
    talk(Conversation(loaded, 10, Parrot(said("[red]a[/red] \x1b[2J"))), iter(["x"]))  # type: ignore[arg-type]
    assert capsys.readouterr().out == "[red]a[/red] \\x1b[2J\n"


def test_an_answer_is_written_as_it_is_and_at_once(loaded, monkeypatch):
    class Out(io.StringIO):
        flushed = ""

        def flush(self) -> None:
            self.flushed = self.getvalue()

    out = Out()
    monkeypatch.setattr(sys, "stdout", out)
    odd = ":smile:\ta \u00a0b  \n" + "long " * 100
    talk(Conversation(loaded, 10, Parrot(said(odd))), iter(["x"]))  # type: ignore[arg-type]
    assert out.flushed == f"{odd}\n"


def test_ctrl_c_ends_the_chat_also_within_an_answer(loaded, capsys):
    class Slow(Parrot):
        def answers(self, *_, **__) -> Iterator[tuple[int, Answer]]:
            raise KeyboardInterrupt

    try:
        talk(Conversation(loaded, 10, Slow()), iter(["x", "y"]))  # type: ignore[arg-type]
    except KeyboardInterrupt:
        pytest.fail("it reaches the caller")
    assert capsys.readouterr().out == ""


def test_ctrl_c_while_typing_ends_the_chat(loaded, monkeypatch):
    def stop(_: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", stop)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    talk(Conversation(loaded, 10, Parrot()), typed())  # type: ignore[arg-type]


def test_typing_ends_with_the_input(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("a\nb"))
    assert list(typed()) == ["a", "b"]
    assert capsys.readouterr().out == "", "a pipe sees no prompt signs"


@pytest.mark.slow
def test_a_piped_chat_with_a_run_answers_every_line(finished: Finished):
    words = [f"chat={finished.cell.run.id}", f"outputs={finished.root}", "suite.max_new_tokens=3"]
    made = subprocess.run(
        [sys.executable, "evaluate.py", *words],
        input=b"hello\n\xff\xfe\n/new\nhello\n",
        capture_output=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert made.returncode == 0, made.stderr.decode()
    first, _, third = made.stdout.decode().splitlines()
    assert first == third, "greedy, and /new forgets"
    assert b"cut after 3 tokens" in made.stderr


def test_a_chat_with_no_run_is_one_clear_screen(tmp_path):
    with pytest.raises(RunError, match="There is no run 'abc'"):
        run_evaluation(evaluation(tmp_path, "chat=abc"))

"""What a person sees of a long scoring: where it is, how fast it goes, how long it will take."""

import io

import pytest
from rich.console import Console

from heed.core.console import (
    Answered,
    answered_line,
    duration,
    progress_console,
    result_console,
    visible,
)


def told(steps: list[tuple[int, float]], total: int) -> list[str]:
    """Lines printed for (answered items, seconds on the clock)."""
    out, now = io.StringIO(), [0.0]
    show = Answered(Console(file=out, width=110), clock=lambda: now[0])
    for done, now[0] in steps:
        show("ifeval", done, total)
    return out.getvalue().splitlines()


def test_a_long_scoring_prints_about_ten_lines_and_the_last_answer():
    lines = told([(done, 0.5 * done) for done in range(542)], 541)
    assert len(lines) == 11
    assert lines[0].strip() == "ifeval: 0/541 prompts"
    assert lines[-1].strip() == "ifeval: 541/541 prompts, 2.0 prompts/s"
    assert all("2.0 prompts/s, about" in line for line in lines[1:-1])


def test_a_quick_scoring_prints_its_beginning_and_its_end_only():
    assert len(told([(done, 0.001 * done) for done in range(542)], 541)) == 2


def test_answers_of_an_interrupted_scoring_do_not_count_for_the_rate():
    lines = told([(400, 100.0), (450, 110.0)], 500)
    assert lines[0].strip() == "ifeval: 400/500 prompts"
    assert lines[1].strip() == "ifeval: 450/500 prompts, 5.0 prompts/s, about 10 s left"


def test_every_task_has_a_clock_and_lines_of_its_own():
    out, now = io.StringIO(), [0.0]
    show = Answered(Console(file=out, width=110), clock=lambda: now[0])
    for task, done, now[0] in (("a", 0, 0.0), ("a", 10, 10.0), ("b", 0, 50.0), ("b", 10, 51.0)):
        show(task, done, 10)
    assert out.getvalue().splitlines()[-1].strip() == "b: 10/10 prompts, 10 prompts/s"


def test_a_task_without_items_and_a_clock_that_stands_still_are_no_division_by_zero():
    assert told([(0, 0.0), (0, 0.0)], 0) == ["  ifeval: 0/0 prompts"]
    assert answered_line("x", 5, 10, fresh=5, seconds=0.0) == "x: 5/10 prompts"


def test_a_name_with_brackets_is_printed_as_it_is():
    out = io.StringIO()
    Answered(Console(file=out, width=110))("[red]x[/red]", 0, 2)
    assert out.getvalue().strip() == "[red]x[/red]: 0/2 prompts"


def test_only_what_steers_a_terminal_is_spelt_out():
    plain = "é \u00a0€\t\u3000\u2028\u200d\N{WOMAN}\u200d\N{ROCKET}\n:smile: [red]x[/red]"
    assert visible(plain) == plain
    odd = "\x1b[2J\r\b\x07\x9b\u202e\u2066\ud800"
    assert visible(odd) == r"\x1b[2J\r\x08\x07\x9b\u202e\u2066\ud800"
    visible("".join(map(chr, range(0x110000)))).encode()


@pytest.mark.parametrize("console", [result_console, progress_console])
def test_no_word_becomes_a_picture(console, capsys):
    console().print("a :smile: b")
    assert "a :smile: b" in "".join(capsys.readouterr())


def test_times_are_rounded_to_what_one_can_know():
    assert [duration(s) for s in (0.2, 89, 91, 5300, 5401, 36000)] == [
        "0 s", "89 s", "2 min", "88 min", "1 h 30 min", "10 h 0 min",
    ]  # fmt: skip

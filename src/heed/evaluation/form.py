"""The form of a response, whatever it says: length, end, repetition, language.

A change of score is often a change of form: answers that stop, answers that repeat themselves,
answers in another language. Nothing here decides a score or a verdict.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from heed.core.types import ItemScore
from heed.evaluation.ifeval import PromptFile
from heed.evaluation.language import LETTERS, language_of

if TYPE_CHECKING:
    from heed.evaluation.suite import Suite

LOOP_TIMES = 4
"""A loop is a block that stands this often in a row, at least, at the end of a response."""

LOOP_CHARACTERS = 40
"""Fewest characters of a loop with all its repetitions: `ha ha ha ha` is none."""

LOOP_SHARE = 0.25
"""Smallest share of the response that a loop takes up."""

ECHO_WORDS = 8
"""Words in a row that stand in the prompt too are taken from it; fewer may be chance."""

ECHO_LEAST = 3
"""A prompt of fewer words cannot be echoed: to say one word again may be the right answer."""

ECHO_SHARE = 0.8
"""Smallest share of a response's words that are taken from the prompt, if it is an echo."""

DEGENERATE_SHARE = 0.2
"""A model of which more answers than this share are degenerate is flagged."""

MEANINGS: Mapping[str, str] = {
    "empty": "no response, or nothing in it that can be seen",
    "loop": f"ends in a block that stands {LOOP_TIMES} times in a row or more, at least "
    f"{LOOP_CHARACTERS} characters and {LOOP_SHARE:.0%} of the response; blocks that differ in "
    f"digits only are the same",
    "echo": f"{ECHO_SHARE:.0%} of its words or more stand in runs of {ECHO_WORDS} words that the "
    f"prompt has too, or all words of a shorter one; not judged for prompts that ask to be "
    f"repeated",
    "no_stop": "the student gave no stop token before the cap",
    "cut": "no stop token, and no loop: the answer was still under way at the cap",
    "other_language": f"the language detector is sure of the prompt's and of the response's "
    f"language, and they differ; not judged below {LETTERS} letters, for prompts that ask for a "
    f"language, and where prompts are in no natural language",
    "degenerate": "empty, a loop, or an echo",
}
"""What is told of a response, in the order of a table, and what it means."""

ASKS_FOR_LANGUAGE = re.compile(r"language:")
"""IFEval's instructions that ask for a language."""

ASKS_FOR_ECHO = re.compile(r"combination:repeat_prompt|repeat:|copy:")
"""Instructions of IFEval and IFBench that ask to repeat the prompt: an echo may be right there."""


class Form(NamedTuple):
    """The form of one response; `MEANINGS` says when each holds.

    Attributes:
        words: Its number of words: what blanks separate.
        empty: It says nothing.
        loop: It ends in a loop.
        echo: It repeats the prompt; None where the prompt asks for it.
        no_stop: It ran into the cap; None where nothing is known of its end.
        other_language: It is in another language than the prompt; None where that is not judged.
    """

    words: int
    empty: bool
    loop: bool
    echo: bool | None
    no_stop: bool | None
    other_language: bool | None

    @property
    def cut(self) -> bool | None:
        """Whether it was under way at the cap: a higher cap could give more than repetition."""
        return self.no_stop and not self.loop

    @property
    def degenerate(self) -> bool:
        """Whether it is no answer in form already, whatever was asked."""
        return self.empty or self.loop or bool(self.echo)


@dataclass(frozen=True)
class FormSummary:
    """The forms of a model's responses to one task.

    Attributes:
        items: Number of responses.
        median_words: Their median length.
        counts: Kind of `MEANINGS` -> number of responses.
        judged: Kind -> number of responses of which it is known.
    """

    items: int
    median_words: float
    counts: Mapping[str, int]
    judged: Mapping[str, int]


def form_of(
    prompt: str,
    response: str | None,
    stop: str | None,
    *,
    judge: bool = False,
    repeats: bool = False,
) -> Form:
    """The form of one response.

    Args:
        prompt: What was asked.
        response: What was said; None where a response is missing, which counts as empty.
        stop: `stop`, `cap`, or None where it is not known how it ended.
        judge: Whether prompt and response may be told apart by language.
        repeats: Whether the prompt asks to be repeated.

    Example:
        >>> form_of("Name a colour.", "Red.", "stop").degenerate
        False
        >>> form_of("Name a colour.", "It is red. " * 12, "cap").loop
        True
    """
    said = response or ""
    return Form(
        words=len(said.split()),
        empty=not any(c.isprintable() and not c.isspace() for c in said),
        loop=loops(said),
        echo=None if repeats else echoes(prompt, said),
        no_stop=None if stop is None or response is None else stop == "cap",
        other_language=_other_language(prompt, said) if judge else None,
    )


def loops(text: str) -> bool:
    """Whether a text ends in a loop, as `MEANINGS["loop"]` says; the last block may be cut.

    A numbered list whose lines are the same but for the number is a loop; a list of numbers is
    none, because its blocks, the digits aside, hold no letter. The time grows with the length.

    Example:
        >>> loops("Well. " + "I do not know. " * 9), loops("ha ha ha ha"), loops("1 22 333 " * 2)
        (True, False, False)
    """
    line = " ".join(text.split())
    if _repeats(line):
        return True
    alike = re.sub(r"\d+", "0", line)
    return alike != line and _repeats(alike, letters=True)


def _repeats(line: str, *, letters: bool = False) -> bool:
    """Whether a line ends in enough repetitions of a block (one that holds a letter)."""
    backwards = line[::-1]
    least = max(LOOP_CHARACTERS, LOOP_SHARE * len(line))
    again = backwards.find(backwards[: int(least * (LOOP_TIMES - 1) / LOOP_TIMES)], 1)
    if len(line) < least or again < 0:  # any loop has its beginning once more: seldom needed
        return False
    return any(
        # behind the last block of a text there is no blank
        matched + (backwards[period - 1] == " ") >= (LOOP_TIMES - 1) * period
        and matched + period >= least
        and (not letters or any(map(str.isalpha, backwards[:period])))
        for period, matched in _self_matches(backwards, (len(line) + 1) // LOOP_TIMES)
    )


def _self_matches(text: str, stop: int) -> Iterable[tuple[int, int]]:
    """Offset and the number of characters of text[offset:] that equal those of text.

    Offsets from 1 to `stop`, in linear time.

    Source: the Z algorithm, Gusfield 1997, Algorithms on Strings, Trees and Sequences, section 1.4.
    """
    found, left, right, size = [len(text)], 0, 0, len(text)
    for at in range(1, stop + 1):
        length = min(right - at, found[at - left]) if at < right else 0
        while at + length < size and text[length] == text[at + length]:
            length += 1
        if at + length > right:
            left, right = at, at + length
        found.append(length)
        yield at, length


def echoes(prompt: str, response: str) -> bool:
    """Whether a response is the prompt again, whole or in parts, and hardly anything else.

    Case and signs do not count. A response that repeats the prompt and then answers at some length
    is no echo.

    Example:
        >>> asked = "Write a short poem about the sea."
        >>> echoes(asked, "write a short poem about the sea"), echoes(asked, "The sea is wide.")
        (True, False)
    """
    asked, said = (re.findall(r"\w+", text.casefold()) for text in (prompt, response))
    run = min(ECHO_WORDS, len(asked))
    if run < ECHO_LEAST or len(said) < run:
        return False
    known = {tuple(asked[i : i + run]) for i in range(len(asked) - run + 1)}
    taken, reached = 0, 0
    for i in range(len(said) - run + 1):
        if tuple(said[i : i + run]) in known:
            taken += i + run - max(i, reached)
            reached = i + run
    return taken >= ECHO_SHARE * len(said)


def _other_language(prompt: str, response: str) -> bool | None:
    asked = language_of(prompt)
    said = language_of(response) if asked else None
    return asked != said if said else None


def summary_of(forms: Sequence[Form]) -> FormSummary:
    """Counts over responses; at least one."""
    found = {kind: [getattr(form, kind) for form in forms] for kind in MEANINGS}
    return FormSummary(
        items=len(forms),
        median_words=float(median(form.words for form in forms)),
        counts={kind: sum(map(bool, values)) for kind, values in found.items()},
        judged={kind: sum(v is not None for v in values) for kind, values in found.items()},
    )


def forms_of(suite: Suite, scores: Sequence[ItemScore]) -> dict[str, FormSummary]:
    """The forms of a model's responses: task -> summary, for the tasks answered in text."""
    found: dict[str, list[Form]] = {}
    for score in scores:
        if answered_in_text(score):
            judge = isinstance(suite.tasks[score.task], PromptFile)
            found.setdefault(score.task, []).append(_form(score, judge=judge))
    return {task: summary_of(forms) for task, forms in found.items()}


def answered_in_text(score: ItemScore) -> bool:
    """Whether an item was put to be answered in words, even if no answer came."""
    return score.response is not None or "instructions" in score.details


def degenerate(score: ItemScore) -> bool:
    """Whether a response is degenerate."""
    return _form(score, judge=False).degenerate


def _form(score: ItemScore, *, judge: bool) -> Form:
    """The form of a response to an item, as far as its instructions let it be judged."""
    return form_of(
        score.prompt,
        score.response,
        score.stop,
        judge=judge and not _asks(score, ASKS_FOR_LANGUAGE),
        repeats=_asks(score, ASKS_FOR_ECHO),
    )


def _asks(score: ItemScore, what: re.Pattern[str]) -> bool:
    told = score.details.get("instructions", ())
    return any(what.match(entry["id"]) for entry in told)


def plain_forms(found: Mapping[str, FormSummary]) -> dict[str, Any]:
    """Summaries as plain JSON data: task -> `items`, `median_words`, `counts`, `judged`."""
    return {task: asdict(summary) for task, summary in found.items()}


def form_record(models: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The forms of several models' responses, as they are recorded and shown.

    Args:
        models: Who -> `plain_forms` of the model.

    Returns:
        `meanings` of the kinds, the `limit` of degenerate answers, and `tasks`: task -> who ->
        summary.
    """
    tasks = dict.fromkeys(task for found in models.values() for task in found)
    return {
        "meanings": dict(MEANINGS),
        "limit": DEGENERATE_SHARE,
        "tasks": {
            task: {who: found[task] for who, found in models.items() if task in found}
            for task in tasks
        },
    }


def sound_items(before: Sequence[ItemScore], after: Sequence[ItemScore]) -> set[tuple[str, str]]:
    """Task and key of the items answered in text of which neither answer is degenerate."""
    found = [
        {(s.task, s.key) for s in scores if answered_in_text(s) and not degenerate(s)}
        for scores in (before, after)
    ]
    return found[0] & found[1]

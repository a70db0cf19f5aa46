"""Looks at a student while it trains: what it says, and a small score; the training is the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from pydantic import PositiveInt

from heed.core.component import component
from heed.core.console import progress_console, visible
from heed.core.files import append_jsonl, read_jsonl, write_text
from heed.training.callbacks import Watched, Watcher, ending

if TYPE_CHECKING:
    from heed.models.student import Loaded

ROWS, TOKENS = 16, 16384
"""Most rows and tokens that are decoded together: memory, not the texts."""

SHOWN = 60
"""Characters of a prompt and of an answer on the console."""

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f4f4f5;padding:.6rem;"
    "border-radius:.4rem}"
)


@component
class Samples(Watcher):
    """What the student answers to a few prompts, every few steps: `samples.jsonl` and a page.

    Greedy, in evaluation mode, with the random numbers put back: neither weights nor any later step
    change. Before the first step it is the base that answers.
    """

    every_steps: PositiveInt
    """Optimiser steps from one look to the next; the first and the last are always taken."""

    prompts: tuple[str, ...]
    """Instructions; empty for the first ones of the suite's instruction-following task."""

    count: PositiveInt
    """How many of the suite's, where none are given."""

    max_new_tokens: PositiveInt
    """Cap of an answer, the stop token included."""

    tuning_only = True

    def build(self, watched: Watched) -> Any:
        """The callback."""
        own = self

        def look(module: Any) -> None:
            assert watched.loaded is not None, "a fit has a student"
            prompts = own.prompts
            if not prompts and watched.ask is not None:
                prompts = tuple(watched.ask(own.count))
            if not prompts:
                return
            with undisturbed(watched.loaded):
                rows = said_to(watched.loaded, prompts, own.max_new_tokens)
            _write_samples(watched, [{"step": module.done, **row} for row in rows])

        return _every(self.every_steps, look)


@component
class InLoopScore(Watcher):
    """A small score of following instructions, with its interval, as a row of `metrics.jsonl`.

    A look, not a result: of few items, without controls, no verdict follows from it and no step is
    chosen by it. Random numbers are put back, so neither weights nor any later step change.
    """

    every_steps: PositiveInt
    """Optimiser steps from one look to the next; the first and the last are always taken."""

    items: PositiveInt
    """How many items of the suite's first instruction-following task; their hash chooses."""

    tuning_only = True

    def build(self, watched: Watched) -> Any:
        """The callback."""
        items, console = self.items, progress_console()

        def look(module: Any) -> None:
            if watched.score is None:
                return
            assert watched.loaded is not None, "a fit has a student"
            with undisturbed(watched.loaded):
                found = watched.score(watched.loaded, items)
            row = {"step": module.done, **found}
            append_jsonl(watched.directory / "metrics.jsonl", row)
            watched.tracker.log(row)
            line = score_line(module.done, found)
            console.print(line, markup=False, soft_wrap=True)

        return _every(self.every_steps, look)


def score_line(step: int, found: Mapping[str, Any]) -> str:
    """One line about a score in the loop.

    Example:
        >>> found = {"look/follow/acc": 0.25, "look/low": 0.2, "look/high": 0.3, "look/items": 100}
        >>> score_line(50, found)
        '  step 50: follow/acc 0.250 (0.200 to 0.300) on 100 items; a look, not a result'
    """
    metric, value = next(iter(found.items()))
    return (
        f"  step {step}: {metric.removeprefix('look/')} {value:.3f} ({found['look/low']:.3f} to "
        f"{found['look/high']:.3f}) on {found['look/items']} items; a look, not a result"
    )


def _every(every: int, look: Any) -> Any:
    """A callback that looks before the first step, every few, and after the last; one rank does."""
    import lightning

    from heed.training.strategy import gathered

    class Look(lightning.Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            if module.done == 0:
                self._look(trainer, module)

        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            due = module.done % every == 0 or ending(trainer, module)
            if due:
                self._look(trainer, module)

        def _look(self, trainer: Any, module: Any) -> None:
            with gathered(module):
                if trainer.is_global_zero:
                    look(module)

    return Look()


@contextmanager
def undisturbed(loaded: Loaded) -> Iterator[None]:
    """The student in evaluation mode; its mode, and all random numbers, as before afterwards."""
    from heed.training.state import random_state, set_random_state

    before = random_state()
    try:
        with loaded.evaluating():
            yield
    finally:
        set_random_state(before)


def said_to(loaded: Loaded, prompts: Sequence[str], max_new_tokens: int) -> list[dict[str, Any]]:
    """What a student answers: `prompt`, `response`, `stop` (`stop` or `cap`) and `tokens`.

    Raises:
        RunError: a prompt and its answer would not fit into the student's context.
    """
    from heed.models.generate import generate

    asked = [loaded.template.prompt(prompt) for prompt in prompts]
    told = generate(
        loaded, asked, max_new_tokens=max_new_tokens, batch_tokens=TOKENS, max_rows=ROWS
    )
    found = dict(told)
    return [
        {"prompt": prompt, "response": a.text, "stop": a.stop, "tokens": a.tokens}
        for prompt, a in ((prompt, found[i]) for i, prompt in enumerate(prompts))
    ]


def _write_samples(watched: Watched, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows, make the page anew, and tell the console and the mirror."""
    path, step = watched.directory / "samples.jsonl", rows[0]["step"]
    for row in rows:
        append_jsonl(path, row)
    write_text(path.with_suffix(".html"), samples_page(read_jsonl(path)))
    ended = sum(row["stop"] == "stop" for row in rows)
    mean = sum(row["tokens"] for row in rows) / len(rows)
    watched.tracker.log({"step": step, "samples/ended": ended / len(rows), "samples/tokens": mean})
    first = rows[0]
    line = (
        f"  step {step}: {_short(first['prompt'])} -> {_short(first['response'])} "
        f"({ended} of {len(rows)} answers ended by themselves; all in samples.html)"
    )
    progress_console().print(visible(line), markup=False, soft_wrap=True)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= SHOWN else line[: SHOWN - 1] + "…")


def samples_page(rows: Sequence[Mapping[str, Any]]) -> str:
    """A self-contained page: each prompt with its answers, step by step.

    Example:
        >>> row = {"step": 1, "prompt": "<a>", "response": "b", "stop": "stop", "tokens": 2}
        >>> "&lt;a&gt;" in samples_page([row])
        True
    """
    blocks = []
    for prompt in dict.fromkeys(row["prompt"] for row in rows):
        blocks.append(f"<h2>{escape(prompt)}</h2>")
        for row in rows:
            if row["prompt"] == prompt:
                end = "" if row["stop"] == "stop" else ", cut at the cap"
                blocks.append(f"<p>Step {row['step']}, {row['tokens']} tokens{end}</p>")
                blocks.append(f"<pre>{escape(row['response'])}</pre>")
    return (
        "<!doctype html><html lang=en><meta charset='utf-8'><title>Samples</title>"
        f"<style>{STYLE}</style><h1>What the student says while it trains</h1>{''.join(blocks)}"
    )

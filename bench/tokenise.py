"""How much slower is making the cache of tokens than the tokenizer alone on the same text?

python bench/tokenise.py --data ../shared/data

Everything is measured side by side in one process, in turns, on the same rows:

- the tokenizer alone: whole rendered texts in batches, by its own batch call (`encode_batch`) and
  by the call that people write (`tokenizer(texts)`);
- heed: the same rows to a whole cache on disk: let in (empty, repeated), rendered, tokenised piece
  by piece, every response proved to be spelt by its tokens, laid out and written;
- reading the rows from the file, which both need.

CPU seconds tolerate neighbours on the machine; wall seconds show what a second core gives.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Annotated, Any

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from heed.core.component import component  # noqa: E402
from heed.core.compose import compose_component  # noqa: E402
from heed.core.identity import Incidental  # noqa: E402
from heed.core.types import Example  # noqa: E402
from heed.data.cache import cached  # noqa: E402
from heed.data.encode import ROWS, cores  # noqa: E402
from heed.data.teacher import Teacher  # noqa: E402
from heed.data.treatment import Treatment  # noqa: E402
from heed.models.tokenizer import TrainedBPE  # noqa: E402

READ: dict[str, list[Example]] = {}
"""Rows that have been read, by name: no part of a config, which would be walked through."""


@component
class InMemory(Teacher):
    """Rows that have been read."""

    name: Annotated[str, Incidental]

    def rows(self, on_bad: Any = None) -> Any:
        """All of them."""
        return iter(READ[self.name])

    def digest(self) -> str:
        """Not looked at: every cache here is new."""
        return "rows in memory"


def seconds_of(work: Callable[[], Any]) -> tuple[float, float]:
    """CPU seconds of a piece of work, over all its threads, and wall seconds."""
    before, began = os.times(), time.perf_counter()
    work()
    after, took = os.times(), time.perf_counter() - began
    return sum(after[:2]) - sum(before[:2]), took


def batches(texts: Sequence[str]) -> list[list[str]]:
    """Texts in batches of the size that heed uses."""
    return [list(texts[at : at + ROWS]) for at in range(0, len(texts), ROWS)]


def treatment(most: int) -> Treatment:
    """Nothing is dropped for its length."""
    return Treatment(
        max_tokens=most, over_long="drop", on_bad_row="error", duplicates="keep",
        loss_on="every_turn", validation_share=0.0, drop_contaminated=False, packing="best_fit",
        limit=None, examples_per_step=16, epochs=1, steps=None, micro_tokens=most,
    )  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--teacher", default="alpaca_52k")
    parser.add_argument("--data", default=None, help="folder of the data sets")
    asked = parser.parse_args()
    more = [f"data_dir={asked.data}"] if asked.data else []
    os.chdir(ROOT)
    cell = compose_component(ROOT / "conf", "train", [f"teacher={asked.teacher}", *more])
    template = compose_component(ROOT / "conf", "train", ["model=books", *more]).model.template

    rows: list[Example] = []
    reading = seconds_of(lambda: rows.extend(islice(cell.teacher.rows(), asked.rows)))
    READ.update(all=rows, some=rows[:: max(1, len(rows) // 10_000)])
    said = InMemory(name="all")
    tokenizer = TrainedBPE(
        corpus=InMemory(name="some"),
        vocabulary=asked.vocabulary, end_of_text=template.end_of_turn, pad="<|pad|>",
    ).build()  # fmt: skip
    texts = [template.render(r.messages).text for r in rows if r.messages[-1].content.strip()]
    print(f"{len(rows):,} rows, {sum(map(len, texts)):,} characters, {asked.workers} threads")

    fast = tokenizer.backend_tokenizer

    def own_call() -> None:
        for batch in batches(texts):
            [found.ids for found in fast.encode_batch(batch, add_special_tokens=False)]

    def usual_call() -> None:
        for batch in batches(texts):
            tokenizer(batch, add_special_tokens=False)["input_ids"]

    def heed() -> None:
        root = Path(tempfile.mkdtemp())
        what = (said, template, tokenizer, treatment(100_000))
        cached(*what, root, workers=asked.workers)
        shutil.rmtree(root)

    os.environ["TOKENIZERS_PARALLELISM"] = "true" if asked.workers > 1 else "false"
    works = {"encode_batch": own_call, "tokenizer(texts)": usual_call, "heed": heed}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(asked.repeats):
        for name, work in works.items():
            found[name].append(seconds_of(work))
    show(found, reading, len(rows))


def show(
    found: dict[str, list[tuple[float, float]]], reading: tuple[float, float], rows: int
) -> None:
    """Print medians, and heed's speed as a share of the tokenizer's, repeat by repeat."""
    print(f"{'':18}{'CPU s':>8}{'wall s':>8}{'rows/s wall':>13}")
    for name, times in [*found.items(), ("reading the file", [reading])]:
        cpu, wall = (median(column) for column in zip(*times, strict=True))
        print(f"{name:18}{cpu:8.2f}{wall:8.2f}{rows / wall:13,.0f}")
    for name in ("encode_batch", "tokenizer(texts)"):
        pairs = list(zip(found[name], found["heed"], strict=True))
        for place, unit in enumerate(("CPU", "wall")):
            shares = [alone[place] / ours[place] for alone, ours in pairs]
            spread = ", ".join(f"{share:.0%}" for share in shares)
            print(f"heed at {median(shares):.0%} of {name} by {unit} ({spread})")


if __name__ == "__main__":
    main()

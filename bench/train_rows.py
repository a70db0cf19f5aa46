"""Rows, shapes and settings of the training benchmark: what every engine of it is given.

    python bench/train_rows.py        # write bench/lengths.json again, from the data folder

The lengths are real: the 805 questions of AlpacaEval with the answers of gpt-3.5-turbo-1106, in
tokens of a byte-level BPE trained on such texts. The tokens are random: speed does not depend on
them. Nothing here needs torch.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

LENGTHS = Path(__file__).with_name("lengths.json")
PAD, END = 0, 1
"""Tokens that stand nowhere inside a document."""
LONGEST = 1024
"""Longer documents are left out, for all engines alike: TRL's default length would cut them."""

FORMULA = """\
work of a token = 6 (W_body + s W_head) + 6 L H sum(n^2)/sum(n): W weights of the matrices (where
they are frozen 4 W, not 6 W), s share of supervised tokens, L blocks of width H, n length of a
document; adapters and what is computed twice do not count.
matmul = work x tokens per second / operations per second of a large product of matrices here."""
PEAKS = {"H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16 operations per second, by name of the device (source: NVIDIA's data sheets)."""


@dataclass(frozen=True)
class Shape:
    """A Llama.

    Attributes:
        name: In tables.
        hidden: Width of the residual stream.
        layers: Decoder blocks.
        heads: Query heads.
        kv_heads: Key and value heads.
        ffn: Inner width of the SwiGLU.
        vocabulary: Tokens.
    """

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    vocabulary: int

    @property
    def body(self) -> int:
        """Weights of all matrices of the blocks: each costs a token one product."""
        narrow = self.hidden * self.kv_heads // self.heads
        attention = 2 * self.hidden * self.hidden + 2 * self.hidden * narrow
        return self.layers * (attention + 3 * self.hidden * self.ffn)

    @property
    def head(self) -> int:
        """Weights of the output head, which is tied to the embedding."""
        return self.hidden * self.vocabulary


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("toy", 64, 2, 4, 2, 128, 300),
        Shape("small", 256, 6, 4, 4, 688, 4096),
        Shape("larger", 512, 8, 8, 8, 1376, 32000),
        Shape("1b", 2048, 16, 32, 8, 8192, 32005),
        Shape("2b", 2304, 24, 36, 9, 9216, 32005),
        Shape("3b", 2560, 32, 40, 10, 10240, 32005),
    )
}
"""`small` and `larger` for the CPU; for CUDA the ladder of 1, 2 and 3 billion parameters (source:
github.com/GPUburnout/llm-journey at 957096b, and the model cards of GPUburnout)."""


@dataclass(frozen=True)
class Way:
    """One way to train the same student on the same rows.

    Attributes:
        name: In tables.
        engine: heed, bare, padded or trl.
        precision: fp32, or bf16 for autocast over float32 weights.
        packing: none; of TRL also bfd and wrapped, which fill rows, and flat, which lays the
            documents of a batch end to end.
        attention: sdpa or eager, of TRL and the padded loop.
        checkpointing: Whether activations are computed again in the backward pass.
        rows: Rows of a micro-batch, of TRL and the padded loop.
        sampling: In which order TRL takes rows.
    """

    name: str
    engine: str
    precision: str = "bf16"
    packing: str = "none"
    attention: str = "sdpa"
    checkpointing: bool = False
    rows: int = 8
    sampling: str = "sequential"


@dataclass(frozen=True)
class Task:
    """What a process of the benchmark does.

    Attributes:
        way: How.
        shape: Name of the student.
        steps: Optimiser steps that are measured; one more goes before.
        examples_per_step: Examples of a step, over its micro-batches.
        micro_tokens: Most tokens of heed's rows.
        threads: Of the CPU.
        device: cpu or cuda.
        method: full, lora or qlora; only heed takes another than full.
        tokens: Length of every document if they are cut from one text; 0 for the real lengths.
    """

    way: Way
    shape: str
    steps: int
    examples_per_step: int = 16
    micro_tokens: int = 2048
    threads: int = 1
    device: str = "cpu"
    method: str = "full"
    tokens: int = 0

    def to_json(self) -> str:
        """Read again by `task_of`."""
        return json.dumps(asdict(self))


def task_of(text: str) -> Task:
    """A task from its JSON."""
    given = json.loads(text)
    return Task(**given | {"way": Way(**given["way"])})


class Row(NamedTuple):
    """One document: a question, an answer, the end.

    Attributes:
        ids: Its tokens.
        asked: How many of them are the question, and not supervised.
    """

    ids: list[int]
    asked: int


def rows_of(task: Task) -> list[Row]:
    """The documents of a task, the same for every engine.

    Example:
        >>> rows = rows_of(Task(Way("x", "heed"), "toy", steps=1))
        >>> len(rows), rows[0].ids[-1] == END, max(len(row.ids) for row in rows) <= LONGEST
        (801, True, True)
    """
    vocabulary = SHAPES[task.shape].vocabulary
    draw = np.random.default_rng(0)
    if task.tokens:
        count = task.examples_per_step * (task.steps + 1)
        lengths = [(1, task.tokens)] * count
    else:
        known = json.loads(LENGTHS.read_text())
        lengths = known["32000" if vocabulary > 4096 else "4096"]
        lengths = [(asked, whole) for asked, whole in lengths if whole <= LONGEST]
    return [
        Row([*draw.integers(END + 1, vocabulary, whole - 1).tolist(), END], asked)
        for asked, whole in lengths
    ]


def work_of(task: Task) -> float:
    """Floating-point operations that a token of a task needs, forward and backward."""
    return work_per_token(SHAPES[task.shape], rows_of(task), frozen=task.method != "full")


def work_per_token(shape: Shape, rows: Sequence[Row], *, frozen: bool = False) -> float:
    """Floating-point operations that one token of these rows needs, forward and backward.

    6 (W_body + s W_head) + 6 L H sum(n^2) / sum(n): two operations for each weight and token
    forward and four backward, the head on the share s of tokens that are supervised, and causal
    attention over documents of n tokens with 2 n^2 H operations forward for each layer. A frozen
    matrix has no gradient of its own: two operations backward. Recomputation, padding and the
    adapters do not count.

    Example:
        >>> toy = Shape("x", hidden=2, layers=1, heads=1, kv_heads=1, ffn=1, vocabulary=5)
        >>> work_per_token(toy, [Row([2, 3, 4, 1], asked=2)])
        234.0
    """
    lengths = np.array([len(row.ids) for row in rows], dtype=float)
    supervised = sum(len(row.ids) - row.asked for row in rows) / lengths.sum()
    attention = 6 * shape.layers * shape.hidden * (lengths**2).sum() / lengths.sum()
    return float((4 if frozen else 6) * (shape.body + supervised * shape.head) + attention)


def main() -> None:
    """Measure the lengths of real texts."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    beside = Path(__file__).parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("HEED_DATA", beside)) / "alpaca_eval" / "outputs"
    asked = list(_read(folder / "gpt-3.5-turbo-1106.jsonl.gz"))
    found = {}
    for vocabulary in (4096, 32000):
        more = [row for path in sorted(folder.glob("*.gz")) for row in _read(path)]
        texts = [r["instruction"] + r["output"] for r in (asked if vocabulary == 4096 else more)]
        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        bpe.train_from_iterator(
            texts,
            trainers.BpeTrainer(
                vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False
            ),
        )
        sizes = [(len(bpe.encode(r["instruction"])), len(bpe.encode(r["output"]))) for r in asked]
        found[str(vocabulary)] = [(question, question + answer + 1) for question, answer in sizes]
    LENGTHS.write_text(json.dumps(found) + "\n")


def _read(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


if __name__ == "__main__":
    main()

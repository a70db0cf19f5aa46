"""Memory of a step on each rank, by size, method and strategy: the table of docs/scaling.md.

    python bench/memory.py                       # 1, 2, 3 and 7 billion parameters; two minutes
    python bench/memory.py --models 1b 7b --tokens 4096

Nothing is allocated: it is what the plan of a training says of these students (full tuning:
float32 master weights, products in bfloat16; LoRA, rank 16 in all linear layers: a base held in
bfloat16; QLoRA: in 4 bits), for AdamW and a packed row of so many supervised tokens.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from train_child import Vocabulary, chosen, recipe_of
from train_rows import SHAPES, Shape, Task, Way

STUDENTS = {name: SHAPES[name] for name in ("1b", "2b", "3b")} | {
    "7b": Shape("7b", 4096, 32, 32, 32, 11008, 32000)
}
"""The size ladder; and the network of Llama 2 7B (source: its config.json), its head untied."""

METHODS = ("full", "lora", "qlora")
FSDP = (2, 4, 8)
CARDS = (24, 40, 80, 141)
"""GB, of 10^9 bytes, of usual GPUs."""

BESIDE = 1.5 * 2**30
"""Bytes that CUDA, its libraries and gaps between tensors take beside what is counted."""


def model_of(shape: Shape, method: str) -> Any:
    """A student without numbers, its method attached."""
    from heed.models.architectures import Llama
    from heed.models.memory import hold_in_few_bits

    llama = Llama(
        hidden=shape.hidden, layers=shape.layers, heads=shape.heads, kv_heads=shape.kv_heads,
        ffn=shape.ffn, context=4096, rope_theta=1e4, tied=shape.name != "7b", init_std=0.02,
    )  # fmt: skip
    with torch.device("meta"):
        model = llama.build(Vocabulary(shape.vocabulary))
        if method != "full":
            model.to(torch.bfloat16)
        if method == "qlora":
            hold_in_few_bits(model, "NF4")
        chosen(f"method/{method}").adapter.attach(model)
    return model


def estimates(shape: Shape, method: str, tokens: int, *, again: bool) -> dict[str, Any]:
    """What each rank needs, by strategy and ranks."""
    from heed.training.footprint import divided_step, of_model

    task = Task(Way("x", "heed", "bf16"), "toy", 1, 64, tokens, method=method, tokens=tokens)
    recipe = recipe_of(task)
    trainer = replace(chosen("trainer/gpu"), activation_checkpointing=again)
    model = model_of(shape, method)
    alone = of_model(model, recipe, trainer)
    first = max(0, alone.gradients - alone.optimiser)  # of several rows, before there are moments
    found = {"alone": alone, "ddp": replace(alone, exchanged=first)}
    if method != "qlora":
        for ranks in FSDP:
            found[f"fsdp {ranks}"] = divided_step(alone, model, recipe, trainer, ranks)
    return found


def card(size: int) -> str:
    """The smallest GPU that holds it."""
    return next((f"{gb}" for gb in CARDS if size + BESIDE <= gb * 1e9), "-")


def rows(names: Sequence[str], tokens: int) -> Iterator[str]:
    """The lines of the table: GiB and the smallest GPU."""
    columns = ["alone", "ddp", *(f"fsdp {ranks}" for ranks in FSDP)]
    yield f"| student, method | blocks | {' | '.join(columns)} |"
    yield "|---" * (len(columns) + 2) + "|"
    for name in names:
        for method in METHODS:
            for again in (False, True):
                found = estimates(STUDENTS[name], method, tokens, again=again)
                cells = [_cell(found.get(column)) for column in columns]
                kept = "again" if again else "kept"
                yield f"| {name} {method} | {kept} | {' | '.join(cells)} |"
                print(f"  {name} {method} {kept}", file=sys.stderr, flush=True)


def _cell(found: Any) -> str:
    return "refused" if found is None else f"{found.total / 2**30:.1f} ({card(found.total)})"


def main(given: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(STUDENTS), choices=STUDENTS)
    parser.add_argument("--tokens", type=int, default=2048, help="of a row, and of its document")
    asked = parser.parse_args(given)
    for line in rows(asked.models, asked.tokens):
        print(line, flush=True)


if __name__ == "__main__":
    main()

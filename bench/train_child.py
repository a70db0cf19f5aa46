"""One measurement of the training benchmark, in a process of its own.

    python bench/train_child.py '<task as JSON>'

The last line it prints is its result as JSON. Only what is timed is imported: heed's step needs
torch, transformers and lightning (and peft or bitsandbytes for such a method); TRL needs itself.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from train_rows import END, PAD, SHAPES, Row, Task, rows_of, task_of

ROOT = Path(__file__).parents[1]


class Marks:
    """Clocks and counters at the end of every optimiser step.

    Args:
        device: Waited for before a clock is read.
    """

    def __init__(self, device: str):
        self.device = device
        self.found: list[list[float]] = []
        self.tokens = self.supervised = 0

    def count(self, tokens: int, supervised: int) -> None:
        """More tokens that were trained on."""
        self.tokens += tokens
        self.supervised += supervised

    def step(self) -> None:
        """An optimiser step has ended."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        clocks = [time.perf_counter(), time.process_time()]
        self.found.append([*clocks, self.tokens, self.supervised])


class Vocabulary:
    """As much of a tokenizer as a fresh student needs."""

    eos_token_id, pad_token_id = END, PAD

    def __init__(self, size: int):
        self.size = size

    def __len__(self) -> int:
        return self.size


def student(task: Task) -> Any:
    """The same random weights for every engine."""
    from heed.models.architectures import Llama

    shape = SHAPES[task.shape]
    context = max(1024, task.tokens)
    llama = Llama(
        hidden=shape.hidden,
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        ffn=shape.ffn,
        context=context,
        rope_theta=10000.0,
        tied=True,
        init_std=0.02,
    )
    torch.manual_seed(0)
    with torch.device(task.device):
        model = llama.build(Vocabulary(shape.vocabulary))
    model.config._attn_implementation = task.way.attention
    return model.train()


def recipe_of(task: Task) -> Any:
    """The recipe of heed, by the project's own YAML where there is a choice."""
    from heed.data.treatment import Treatment
    from heed.training.optim import LearningRate
    from heed.training.rule import Last
    from heed.training.run import Recipe

    return Recipe(
        teacher=NoRows(),
        method=chosen(f"method/{task.method}"),
        lr=LearningRate(name="bench", peak=2e-5, schedule="constant", warmup_steps=0, final=0.0),
        data=Treatment(
            max_tokens=max(1024, task.tokens),
            over_long="drop",
            on_bad_row="error",
            duplicates="keep",
            loss_on="every_turn",
            validation_share=0.0,
            drop_contaminated=False,
            packing="best_fit",
            limit=None,
            examples_per_step=task.examples_per_step,
            epochs=None,
            steps=task.steps + 1,
            micro_tokens=max(task.micro_tokens, 1024, task.tokens),
        ),
        optim=chosen("optim/adamw"),
        checkpoint=Last(),
        precision={"fp32": "32-true", "bf16": "bf16-mixed", "bf16-true": "bf16-true"}[
            task.way.precision
        ],
        seed=0,
    )


def chosen(option: str) -> Any:
    """A component by the project's own YAML, without Hydra."""
    import yaml

    from heed.core.component import build

    return build(yaml.safe_load((ROOT / "conf" / f"{option}.yaml").read_text()))


class NoRows:
    """The teacher of a recipe whose examples are there already."""

    name = "lengths"

    def rows(self, on_bad: Any = None) -> Iterator[Any]:
        """None."""
        return iter(())

    def digest(self) -> str:
        """Nothing changes."""
        return ""

    def events(self) -> dict[str, int]:
        """None."""
        return {}


def encoded(rows: Sequence[Row]) -> list[Any]:
    """Rows as heed's examples."""
    from heed.data.dataset import Encoded

    return [
        Encoded(str(i), row.ids, [n >= row.asked for n in range(len(row.ids))])
        for i, row in enumerate(rows)
    ]


def in_plan_order(task: Task) -> list[Row]:
    """The rows in the order in which heed takes them, so that each step of another has the same."""
    from heed.data.plan import step_indices

    rows = rows_of(task)
    steps = step_indices(len(rows), recipe_of(task).data, seed=0)
    return [rows[i] for step in steps for i in step]


def run_heed(task: Task, marks: Marks) -> list[float]:
    """The step of heed, with its data and Trainer; returns the losses."""
    import lightning

    from heed.models.likelihood import StudentLoss
    from heed.training.datamodule import PlannedData
    from heed.training.module import Tuning

    losses = []

    class Watch(lightning.Callback):
        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int
        ) -> None:
            marks.count(batch.seen, batch.tokens)
            marks.step()
            losses.append(module.row["loss"])

    recipe, model = recipe_of(task), student(task)
    recipe.method.store(model)
    recipe.method.attach(model)
    if recipe.precision == "bf16-true":
        model.to(torch.bfloat16)
    device = "gpu" if task.device == "cuda" else "cpu"
    settings = replace(chosen(f"trainer/{device}"), threads=task.threads)
    module = Tuning(StudentLoss(model), recipe, steps=task.steps + 1)
    trainer = settings.build(precision=recipe.precision, callbacks=[Watch()])
    trainer.fit(module, datamodule=PlannedData(encoded(rows_of(task)), recipe, pad=PAD))
    return losses


def autocast(task: Task) -> Any:
    """bfloat16 for products, or nothing."""
    return torch.autocast(task.device, torch.bfloat16, enabled=task.way.precision == "bf16")


def run_bare(task: Task, marks: Marks) -> list[float]:
    """A loop in plain torch over heed's model and plan."""
    from heed.data.plan import plan
    from heed.models.likelihood import StudentLoss
    from heed.training.datamodule import Steps

    recipe, model, losses = recipe_of(task), student(task), []
    recipe.method.attach(model)
    examples = encoded(rows_of(task))
    planned = list(plan(examples, recipe.data, ranks=1, seed=0))
    groups = recipe.method.adapter.groups(model.named_parameters())
    optimizer, loss_of = recipe.optim.build(groups, recipe.lr), StudentLoss(model)
    for step in Steps(examples, planned, pad=PAD):
        total = 0.0
        with autocast(task):
            for batch in step.micro:
                here = type(batch)(*(tensor.to(task.device) for tensor in batch))
                loss = loss_of(here)[0] / step.tokens
                loss.backward()
                total += loss.item()
        losses.append(_move(model, optimizer, total))
        marks.count(step.seen, step.tokens)
        marks.step()
    return losses


def run_padded(task: Task, marks: Marks) -> list[float]:
    """A plain loop: batches padded on the right, and the model's own loss over all positions."""
    model, losses = student(task), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
    rows, size = in_plan_order(task), task.examples_per_step
    for start in range(0, len(rows), size):
        step, total = rows[start : start + size], 0.0
        supervised = sum(len(row.ids) - row.asked for row in step)
        for first in range(0, len(step), task.way.rows):
            batch = padded(step[first : first + task.way.rows], task.device)
            with autocast(task):
                loss = model(**batch, num_items_in_batch=supervised, use_cache=False).loss
            loss.backward()
            total += loss.item()
        losses.append(_move(model, optimizer, total))
        marks.count(sum(len(row.ids) for row in step), supervised)
        marks.step()
    return losses


def _move(model: Any, optimizer: Any, loss: float) -> float:
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss


def padded(rows: Sequence[Row], device: str) -> dict[str, torch.Tensor]:
    """Rows side by side, padded on the right; what is not supervised has the label -100."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), longest), PAD)
    labels = torch.full((len(rows), longest), -100)
    for place, row in enumerate(rows):
        tokens = torch.tensor(row.ids)
        ids[place, : len(tokens)] = tokens
        labels[place, row.asked : len(tokens)] = tokens[row.asked :]
    batch = {"input_ids": ids, "attention_mask": (ids != PAD).long(), "labels": labels}
    return {name: tensor.to(device) for name, tensor in batch.items()}


def matmul_rate(device: str, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Operations per second (on a CPU: per CPU second) of a large product of matrices."""
    size = 8192 if device == "cuda" else 1024
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best, until = 0.0, time.perf_counter() + seconds
    clock = time.perf_counter if device == "cuda" else time.process_time
    one @ other
    while time.perf_counter() < until:
        if device == "cuda":
            torch.cuda.synchronize()
        started = clock()
        one @ other
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * size**3 / (clock() - started))
    return best


def peak_memory(device: str) -> int:
    """Bytes: most that tensors took on CUDA, most that the process held elsewhere."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.exists():
        held = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(held.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(task: Task) -> dict[str, Any]:
    """Do a task; see `train_table.Measured` for what the result says."""
    torch.set_num_threads(task.threads)
    if task.way.engine == "matmul":
        kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
        return {name: matmul_rate(task.device, dtype) for name, dtype in kinds.items()}
    marks = Marks(task.device)
    if task.way.engine == "trl":
        from train_trl import run_trl as run
    else:
        run = {"heed": run_heed, "bare": run_bare, "padded": run_padded}[task.way.engine]
    found = run(task, marks)
    extra: dict[str, Any] = found if isinstance(found, dict) else {"losses": found}
    peak = peak_memory(task.device)  # before anything else is computed
    if task.tokens:
        cuda = task.device == "cuda"
        extra["device"] = torch.cuda.get_device_name() if cuda else "cpu"
        extra["matmul"] = matmul_rate(task.device, torch.bfloat16)
    return {"marks": marks.found, "peak": peak} | extra


if __name__ == "__main__":
    result = measure(task_of(sys.argv[1]))
    print(json.dumps(result))

"""One rank of a measurement of `scaling.py`; begun with the environment of a process group.

    RANK=0 WORLD_SIZE=1 ... python bench/scaling_rank.py '<task as JSON>' ddp

The last line it prints is its result as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from train_child import PAD, Marks, chosen, encoded, matmul_rate, peak_memory, recipe_of, student
from train_rows import Task, rows_of, task_of


def settings_of(task: Task, strategy: str, ranks: int) -> Any:
    """The trainer of a rank."""
    device = "gpu" if task.device == "cuda" else "cpu"
    again = task.way.checkpointing
    changes = {"threads": task.threads, "devices": ranks, "strategy": strategy}
    return replace(chosen(f"trainer/{device}"), activation_checkpointing=again, **changes)


def attached(task: Task, recipe: Any, device: str) -> Any:
    """A student of random weights with the recipe's method."""
    model = student(replace(task, device=device))
    recipe.method.store(model)
    recipe.method.attach(model)
    return model.to(torch.bfloat16) if recipe.precision == "bf16-true" else model


def said(task: Task, recipe: Any, settings: Any) -> int | None:
    """Bytes that heed says a step needs on each rank; None for what cannot be made on paper."""
    from heed.training.footprint import of_model

    if recipe.method.weights.fixed:
        return None
    # a row's length is what is met, not what is allowed
    longest = max(len(row.ids) for row in rows_of(task))
    shorter = replace(recipe, data=replace(recipe.data, max_tokens=longest))
    return of_model(attached(task, recipe, "meta"), shorter, settings).total


def held_now(device: str) -> int:
    """Bytes that the process holds before there is a student; on CUDA only tensors count."""
    if device == "cuda":
        return 0
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def run(task: Task, strategy: str) -> dict[str, Any]:
    """Train as one rank; what it took, and what it trained on."""
    import lightning

    from heed.core import ranks
    from heed.models.blocks import engaged
    from heed.models.likelihood import StudentLoss
    from heed.training.datamodule import PlannedData
    from heed.training.module import Tuning

    torch.set_num_threads(task.threads)
    ranks.join(task.device)
    marks, own, losses = Marks(task.device), [], []

    class Watch(lightning.Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            if task.device == "cuda":  # the whole student was there before it was divided
                torch.cuda.reset_peak_memory_stats()

        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int
        ) -> None:
            marks.count(batch.seen, batch.tokens)
            marks.step()
            losses.append(module.row["loss"])
            supervised = sum(len(row.targets) for row in batch.micro)
            own.append([supervised, sum(len(row.input_ids) for row in batch.micro)])

    recipe, settings = recipe_of(task), settings_of(task, strategy, ranks.world())
    paper = said(task, recipe, settings) if ranks.leads() else None
    ranks.everybody(None)
    attached(task, recipe, "meta")  # what is imported for it is there now
    before = held_now(task.device)
    model = attached(task, recipe, task.device)
    module = Tuning(StudentLoss(model), recipe, steps=task.steps + 1)
    trainer = settings.build(precision=recipe.precision, callbacks=[Watch()])
    with engaged(model, activation_checkpointing=task.way.checkpointing, compile=False):
        trainer.fit(module, datamodule=PlannedData(encoded(rows_of(task)), recipe, pad=PAD))
    peak = peak_memory(task.device) - before
    found = {"marks": marks.found, "peak": peak, "own": own, "losses": losses}
    if ranks.leads():
        cuda = task.device == "cuda"
        found["said"] = paper
        found["device"] = torch.cuda.get_device_name() if cuda else "cpu"
        found["matmul"] = matmul_rate(task.device, torch.bfloat16) if cuda else None
    ranks.everybody(None)  # nobody leaves while another still talks to him
    ranks.leave()
    return found


def end_with_parent() -> None:
    """End as soon as who began us is gone, however it went."""

    def wait() -> None:
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    print(json.dumps(run(task_of(sys.argv[1]), sys.argv[2])))

"""TRL's SFTTrainer in the training benchmark, and whether a setting of it trains correctly."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from train_child import Marks, in_plan_order, peak_memory, student
from train_rows import END, PAD, SHAPES, Row, Task


def run_trl(task: Task, marks: Marks) -> dict[str, Any]:
    """Train by TRL; returns its losses, and what it did to the documents."""
    from datasets import Dataset, disable_progress_bars
    from transformers import TrainerCallback
    from trl import SFTTrainer

    disable_progress_bars()

    class Counted(SFTTrainer):
        """Counts the tokens that go in, padding left out."""

        def compute_loss(self, model: Any, inputs: dict[str, Any], *other: Any, **more: Any) -> Any:
            mask = inputs.get("attention_mask")
            real = inputs["input_ids"].numel() if mask is None else int(mask.sum())
            marks.count(real, int((inputs["labels"][:, 1:] != -100).sum()))
            self.seen = inputs
            return super().compute_loss(model, inputs, *other, **more)

    class Watch(TrainerCallback):
        """Marks the end of each step."""

        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.step()

    rows = in_plan_order(task)
    columns = {
        "input_ids": [row.ids for row in rows],
        "labels": [[-100] * row.asked + row.ids[row.asked :] for row in rows],
    }
    with tempfile.TemporaryDirectory() as folder:
        trainer = Counted(
            model=student(task),
            args=settings(task, folder, rows),
            train_dataset=Dataset.from_dict(columns),
            processing_class=tokenizer(task),
            callbacks=[Watch()],
        )
        trainer.train()
    peak = peak_memory(task.device)  # before documents are looked at alone
    losses = [row["loss"] for row in trainer.state.log_history if "grad_norm" in row]
    whole = {tuple(row.ids) for row in rows}
    prepared = trainer.train_dataset["input_ids"]
    pieces = [piece for ids in prepared for piece in documents(ids)]
    cut = sum(tuple(piece) not in whole for piece in pieces)
    return {"losses": losses, "cut": cut, "mixed": mixed(trainer, task), "peak": peak}


def settings(task: Task, folder: str, rows: Sequence[Row]) -> Any:
    """TRL's arguments: its defaults, but for what the way says and what only writes files."""
    from trl import SFTConfig

    way = task.way
    packed = way.packing in ("bfd", "wrapped")
    given: dict[str, Any] = {"max_length": None} if way.packing == "flat" else {}
    micro = task.examples_per_step // way.rows
    if packed:  # as many tokens to a step as without packing
        length = max(1024, task.tokens)
        mean = sum(len(row.ids) for row in rows) / len(rows)
        micro = max(1, round(task.examples_per_step * mean / length / way.rows))
        given = {"packing": True, "packing_strategy": way.packing, "max_length": length}
    return SFTConfig(
        output_dir=folder,
        per_device_train_batch_size=way.rows,
        gradient_accumulation_steps=micro,
        max_steps=task.steps + 1,
        bf16=way.precision == "bf16",
        gradient_checkpointing=way.checkpointing,
        padding_free=way.packing == "flat",
        train_sampling_strategy=way.sampling,
        use_cpu=task.device == "cpu",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **given,
    )


def tokenizer(task: Task) -> Any:
    """As many words as the student has tokens; nothing is spelt with it."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(SHAPES[task.shape].vocabulary)}
    words["<pad>"], words["<end>"] = words.pop(f"w{PAD}"), words.pop(f"w{END}")
    spelt = Tokenizer(models.WordLevel(words, unk_token="<pad>"))  # noqa: S106
    special = {"pad_token": "<pad>", "eos_token": "<end>", "unk_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=spelt, **special)


def documents(ids: Sequence[int]) -> list[list[int]]:
    """A row cut after every end of a document, padding left out.

    Example:
        >>> documents([5, 6, 1, 7, 1, 8])
        [[5, 6, 1], [7, 1], [8]]
    """
    found: list[list[int]] = [[]]
    for token in ids:
        if token == PAD:
            continue
        found[-1].append(token)
        if token == END:
            found.append([])
    return [piece for piece in found if piece]


def mixed(trainer: Any, task: Task) -> float:
    """By how much the log-probabilities of a batch differ from those of its documents alone.

    In float32 and with the way's own attention, over the last batch that was trained on: rounding
    gives about 1e-5, documents that see each other more than 1e-2.
    """
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).eval()
    model.gradient_checkpointing_disable()
    inputs = {k: v for k, v in trainer.seen.items() if k != "labels"} | {"use_cache": False}
    worst = 0.0
    with torch.no_grad(), torch.autocast(task.device, enabled=False):
        together = model(**inputs).logits.log_softmax(-1)
        for row, ids in enumerate(inputs["input_ids"].tolist()):
            start = 0
            for piece in documents(ids):
                here = torch.tensor([piece], device=together.device)
                alone = model(input_ids=here, use_cache=False).logits[0].log_softmax(-1)
                beside = together[row, start : start + len(piece)]
                worst = max(worst, float((alone - beside).abs().max()))
                start += len(piece)
    return worst

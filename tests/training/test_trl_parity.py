"""The same student, rows and step by TRL's SFTTrainer: equal losses and gradient norms."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from heed.data.encode import Encoded
from heed.data.plan import step_indices
from heed.methods.adapters import LoRA
from heed.methods.method import Method
from heed.methods.weights import Plain
from heed.models.likelihood import StudentLoss
from heed.training.datamodule import PlannedData
from heed.training.module import Tuning

STEPS, ROWS, MICRO, RANK = 20, 4, 2, 16
LENGTHS = [
    (3, 13), (2, 24), (6, 41), (2, 33), (2, 34), (6, 55), (4, 29), (17, 61), (11, 38), (9, 15),
    (5, 47), (28, 44), (8, 9), (13, 52), (3, 70), (21, 26), (7, 31), (40, 48), (4, 90), (10, 36),
    (2, 5), (15, 77), (6, 12), (33, 66),
]  # fmt: skip
"""Tokens of the prompt and of the whole, over 8, of questions and answers of AlpacaEval."""


def rows_of(lengths: list[tuple[int, int]]) -> list[Encoded]:
    draw = np.random.default_rng(0)
    return [
        Encoded(str(i), draw.integers(2, 300, whole).tolist(), [n >= asked for n in range(whole)])
        for i, (asked, whole) in enumerate(lengths)
    ]


@pytest.fixture
def heeds(recipe_of, around, train_quietly):
    """heed's losses and gradient norms; gives the recipe and the fresh adapter's weights too."""

    def run(loaded, method):
        recipe = recipe_of(
            steps=STEPS, epochs=None, examples_per_step=ROWS * MICRO, max_tokens=128, peak=3e-3,
            micro_tokens=200, clip_norm=0.5, beta2=0.95, **method,
        )  # fmt: skip
        attached = recipe.method.attach(loaded.model)
        fresh = {n: p.detach().clone() for n, p in attached.named_parameters() if p.requires_grad}
        module = Tuning(StudentLoss(loaded.model), recipe, steps=STEPS)
        return recipe, fresh, train_quietly(module, PlannedData(rows_of(LENGTHS), recipe, pad=1))

    return run


@pytest.fixture
def train_quietly(around):
    def run(module, data) -> list[list[float]]:
        import warnings

        import lightning

        class Rows(lightning.Callback):
            def __init__(self):
                self.found: list[list[float]] = []

            def on_train_batch_end(self, trainer, module, *_):
                self.found.append([module.row["loss"], module.row["grad_norm"]])

        kept = Rows()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module.train()
            around.trainer.build(precision="32-true", callbacks=[kept]).fit(module, datamodule=data)
        return kept.found

    return run


def trls(recipe, base: Path, folder: Path, fresh: dict | None) -> list[list[float]]:
    """TRL's losses and gradient norms, over the rows of heed's plan in the plan's order."""
    rows = rows_of(LENGTHS)
    order = [i for step in step_indices(len(rows), recipe.data, seed=recipe.seed) for i in step]
    assert len(order) == STEPS * ROWS * MICRO
    if fresh:
        save_file(fresh, folder / "adapter.safetensors")
    given = {
        "student": str(base),
        "scratch": str(folder / "trl"),
        "rows": ROWS,
        "micro": MICRO,
        "steps": STEPS,
        "rank": RANK,
        "adapter": str(folder / "adapter.safetensors") if fresh else None,
        "lr": recipe.lr.peak,
        "beta1": recipe.optim.beta1,
        "beta2": recipe.optim.beta2,
        "eps": recipe.optim.eps,
        "clip_norm": recipe.optim.clip_norm,
        "data": [
            {
                "input_ids": rows[i].ids,
                "labels": [
                    t if m else -100 for t, m in zip(rows[i].ids, rows[i].mask, strict=True)
                ],
            }
            for i in order
        ],
    }
    (folder / "given.json").write_text(json.dumps(given))
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("trl_steps.py"), folder / "given.json"],
        env=os.environ
        | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


METHODS = {
    "full": {},
    "lora": {
        "method": Method(
            name="lora",
            weights=Plain(),
            adapter=LoRA(rank=RANK, alpha=2.0 * RANK, dropout=0.0, layers="all-linear"),
            noise=None,
        )
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_loss_and_gradient_norm_of_20_steps_are_those_of_trl(
    loaded, saved_base, heeds, tmp_path, method: str
):
    recipe, fresh, ours = heeds(loaded, METHODS[method])
    theirs = trls(recipe, saved_base, tmp_path, fresh if method == "lora" else None)
    assert len(ours) == len(theirs) == STEPS
    worst = np.abs(np.array(ours) / np.array(theirs) - 1).max(axis=0)
    assert worst.max() < 1e-4
    losses, norms = np.array(ours).T
    assert losses[0] - losses[-1] > 0.05  # the weights moved, so the later steps say something
    assert norms.max() > recipe.optim.clip_norm  # and gradients were clipped

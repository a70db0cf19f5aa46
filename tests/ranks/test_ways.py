"""Every method, precision and way to run a block gives on two ranks what it gives on one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import run_ranks
from scenes import exported, losses

from heed.core import ranks
from heed.core.compose import compose_component
from heed.core.types import ChatTemplate
from heed.models.student import load
from heed.training import fit as fits
from heed.training.callbacks import Metrics
from heed.training.fit import fit

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

CONF = Path(__file__).resolve().parents[2] / "conf"
PLAIN = ("dora", "freeze", "freeze_but_embeddings", "freeze_but_first", "full", "lora", "lora_plus",
         "pissa", "rslora")  # fmt: skip
IN_BITS = ("int8_lora", "qlora")
OTHERWISE = ("bf16-mixed", "recomputed", "bf16-base", "new-tokens", "noise")
TOKENS = ("<|im_start|>", "<|im_end|>", "<|user|>")
CASES = [(name, strategy) for name in (*PLAIN, *OTHERWISE) for strategy in ("ddp", "fsdp")]
CASES += [(name, "ddp") for name in IN_BITS]


@pytest.fixture(scope="module")
def chatml(template) -> ChatTemplate:
    start, end, role = TOKENS
    return replace(
        template, user=f"{start}{role}\n{{content}}{end}\n", assistant=f"{start}assistant\n",
        end_of_turn=end, special_tokens=TOKENS,
    )  # fmt: skip


def play(
    name: str, strategy: str, root: Path, base: Path, around: Any, recipe_of: Callable[..., Any],
    templates: dict[str, ChatTemplate],
) -> Any:  # fmt: skip
    method = name if name in (*PLAIN, *IN_BITS) else "lora" if name != "bf16-mixed" else "full"
    choices = ["data.epochs=1", "data.steps=null", f"method={method}", "model.new_tokens=refuse"]
    choices += ["noise=neftune"] * (name == "noise")
    recipe = recipe_of(
        method=compose_component(CONF, "train", choices).method, eps=1e-4, max_tokens=128,
        precision="bf16-mixed" if name.startswith("bf16") else "32-true",
    )  # fmt: skip
    more = {"dtype": "bfloat16"} if name == "bf16-base" else {}
    new = name == "new-tokens"
    more |= {"new_tokens": "train"} if new else {}
    loaded = load(str(base), name="tiny", template=templates["new" if new else "known"], **more)
    settings = replace(
        around.trainer, strategy=strategy, activation_checkpointing=name == "recomputed"
    )
    around = replace(around, trainer=settings, callbacks={"metrics": Metrics(every_steps=1)})
    directory = root / f"{name}-{strategy}-{ranks.world()}"
    return fit(recipe, loaded, around, directory)


def play_all(cases: list[tuple[str, str]], *rest: Any) -> list[Any]:
    fits.check_fresh = lambda *_: 0.0  # in a process of our own
    return [play(*case, *rest) for case in cases]


@pytest.fixture(scope="module")
def played(wide_base, around, recipe_of, template, chatml, tmp_path_factory):
    root = tmp_path_factory.mktemp("methods")
    rest = (root, wide_base, around, recipe_of, {"known": template, "new": chatml})
    alone = [(name, "ddp") for name in dict.fromkeys(name for name, _ in CASES)]
    told = {}
    for world, cases in ((1, alone), (2, CASES)):
        records = run_ranks(world, partial(play_all, cases, *rest))[0]
        told |= {(*case, world): r for case, r in zip(cases, records, strict=True)}
    return root, told


@pytest.mark.parametrize(("name", "strategy"), CASES)
def test_two_ranks_end_where_one_does(played, name: str, strategy: str):
    root, told = played
    one, two = root / f"{name}-ddp-1", root / f"{name}-{strategy}-2"
    want, got = losses(one), losses(two)
    assert len(want) == 3
    assert list(want) == list(got)
    low = name.startswith("bf16")
    if name != "noise":  # each rank draws its own
        torch.testing.assert_close(
            list(got.values()), list(want.values()), rtol=2e-3 if low else 2e-5, atol=0
        )
        tensors, others = exported(one), exported(two)
        assert tensors.keys() == others.keys()
        for key, tensor in tensors.items():
            assert others[key].dtype == tensor.dtype
            torch.testing.assert_close(others[key], tensor, rtol=0, atol=5e-3 if low else 1e-5)
    record, alone = told[name, strategy, 2], told[name, "ddp", 1]
    for key in ("events", "parameters", "parameters_trained"):
        assert record[key] == alone[key], key
    assert record["reload_difference"] <= (5e-2 if low or name in IN_BITS else 1e-5)

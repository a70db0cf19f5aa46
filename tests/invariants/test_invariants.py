"""Promises of the whole road, on a tiny student: the recipe decides, and nothing else."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
import torch

from heed.core.component import build, plain
from heed.core.files import read_jsonl
from heed.core.types import Request
from heed.data.encode import encode_all
from heed.data.plan import step_indices
from heed.methods.adapters import Group, LoRA
from heed.methods.method import Method
from heed.methods.weights import Plain
from heed.models.generate import generate
from heed.models.likelihood import continuation_nats
from heed.models.student import load
from heed.training.fit import fit

LORA = Method(
    name="lora",
    weights=Plain(),
    noise=None,
    adapter=LoRA(rank=4, alpha=8.0, dropout=0.0, layers="all-linear"),
)
SMOOTH = {"eps": 1.0, "peak": 3.0, "clip_norm": None, "epochs": 3}
"""With eps = 1 AdamW does not blow up the last bits of a gradient that is nearly zero."""


@pytest.fixture
def tune(around, saved_base, template, tmp_path):
    """Fit the tiny student; gives it with the losses of its steps."""

    def run(recipe):
        directory = tmp_path / str(len(list(tmp_path.iterdir())))
        loaded = load(str(saved_base), name="tiny", template=template)
        fit(recipe, loaded, around, directory)
        return loaded, [row["loss"] for row in read_jsonl(directory / "metrics.jsonl")]

    return run


def weights(model) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("changes", [{}, {"method": LORA, "peak": 4.0}], ids=["full", "lora"])
def test_cut_is_whole(recipe_of, tune, changes: dict):
    small, losses = tune(recipe_of(micro_tokens=64, **(SMOOTH | changes)))
    large, same_losses = tune(recipe_of(micro_tokens=8192, **(SMOOTH | changes)))
    assert losses == pytest.approx(same_losses, rel=1e-4)
    assert max(losses) - min(losses) > 0.3  # it really moved
    torch.testing.assert_close(weights(small.model), weights(large.model), atol=1e-4, rtol=1e-3)


def test_packed_is_unpacked(recipe_of, tune, student):
    """Against transformers' own loss, one document at a time, with labels of -100 elsewhere."""
    recipe = recipe_of(**SMOOTH)
    packed, losses = tune(recipe)
    alone = student.fresh()
    examples = encode_all(recipe.teacher, alone.template, alone.tokenizer, recipe.data).examples
    optimizer, expected = (
        recipe.optim.build([Group(list(alone.model.parameters()), 1.0)], recipe.lr),
        [],
    )
    for chosen in step_indices(len(examples), recipe.data, seed=recipe.seed):
        tokens = sum(examples[i].supervised for i in chosen)
        expected.append(0.0)
        for i in chosen:
            ids, mask = torch.tensor([examples[i].ids]), torch.tensor([examples[i].mask])
            mean = alone.model.train()(ids, labels=ids.where(mask, -100)).loss
            share = mean * examples[i].supervised / tokens
            share.backward()
            expected[-1] += share.item()
        optimizer.step()
        optimizer.zero_grad()
    assert losses == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(weights(packed.model), weights(alone.model), atol=1e-4, rtol=1e-3)


ELSEWHERE = """
import json, sys
from pathlib import Path
import torch
from heed.core.component import build
from heed.training.fit import Surroundings, fit

torch.set_num_threads(1)
node = build(json.loads(sys.argv[1]))
around = Surroundings(node["trainer"], {}, node["tracker"])
loaded = node["student"].fresh()
record = fit(node["recipe"], loaded, around, Path(sys.argv[2]))
print(record["final_loss_nats_per_token"].hex())
"""


def test_the_same_seed_is_the_same_run_in_another_process(recipe_of, around, student, tmp_path):
    from heed.playground.students import WordTokenizer
    from heed.playground.teachers import PlayTeacher

    teacher = PlayTeacher(name="clear", style="clear", world=7)
    ours = replace(student, tokenizer=WordTokenizer())
    ours = replace(ours, template=replace(student.template, end_of_turn="<end>", user="{content}",
                                          assistant="<assistant>", between=""))  # fmt: skip
    recipe = recipe_of(teacher=teacher, steps=3, epochs=None)
    tracker = around.tracker
    parts = {"student": ours, "recipe": recipe, "trainer": around.trainer, "tracker": tracker}
    node = plain(parts)
    assert build(node) == parts
    loaded = ours.fresh()
    here = fit(recipe, loaded, around, tmp_path / "here")["final_loss_nats_per_token"]
    command = [sys.executable, "-c", ELSEWHERE, json.dumps(node), str(tmp_path / "there")]
    env = os.environ | {"PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "1"}
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    assert out.split()[-1] == here.hex()
    files = [tmp_path / place / "model" / "model.safetensors" for place in ("here", "there")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_n_prompts_are_n_answers_in_their_order_before_and_after_tuning(recipe_of, tune, student):
    tuned, _ = tune(recipe_of(epochs=4, peak=1e-2, method=LORA))
    asked = [
        student.template.prompt(f"Name thing {i % 7}." + " please" * (i % 5)) for i in range(41)
    ]

    def said(loaded, prompts, batch_tokens):
        found = dict(
            generate(loaded, prompts, max_new_tokens=12, batch_tokens=batch_tokens, max_rows=64)
        )
        return [found[place] for place in range(len(prompts))]

    for loaded in (student.fresh(), tuned):
        answers = said(loaded, asked, 300)
        assert len(answers) == len(asked)
        assert answers[:9] == [said(loaded, [p], 1)[0] for p in asked[:9]]
        assert Counter(answers) == Counter(said(loaded, asked[::-1], 999))


def test_tuning_makes_the_teachers_responses_likelier_than_before(recipe_of, tune, student, toy):
    asked = [
        Request(student.template.prompt(row.messages[0].content), row.messages[1].content)
        for row in toy.rows()
    ]
    tuned, losses = tune(recipe_of(epochs=4, peak=1e-2))
    before, after = (
        sum(found.nats for found in continuation_nats(loaded, asked))
        for loaded in (student.fresh(), tuned)
    )
    assert after < 0.7 * before
    assert losses[-1] < losses[0]

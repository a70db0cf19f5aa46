"""Tokens that the base never saw: an adapter learns their rows and no others, or does not begin."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from heed.core.errors import RunError
from heed.core.files import read_json
from heed.core.identity import short_hash
from heed.methods.adapters import LoRA
from heed.methods.method import Method
from heed.methods.weights import Plain
from heed.models.student import Loaded, load
from heed.training.checkpoint import load_student
from heed.training.fit import fit

LORA = Method(
    name="lora",
    weights=Plain(),
    noise=None,
    adapter=LoRA(rank=2, alpha=4.0, dropout=0.0, layers="attention"),
)
START, END, ROLE = "<|im_start|>", "<|im_end|>", "<|user|>"


@pytest.fixture(scope="module")
def chatml(template):
    return replace(
        template,
        user=f"{START}{ROLE}\n{{content}}{END}\n",
        assistant=f"{START}assistant\n",
        end_of_turn=END,
        special_tokens=(START, END, ROLE),
    )


@pytest.fixture(scope="module")
def base(saved_base, chatml, tmp_path_factory) -> Path:
    """A base that has the template's tokens, its end of text among them, and never saw them."""
    grown = load(str(saved_base), name="ladder", template=chatml, new_tokens="train")
    grown.tokenizer.eos_token = END
    with torch.no_grad():  # what nothing but weight decay has moved
        grown.model.get_input_embeddings().weight[300:303] *= 1e-3
    path = tmp_path_factory.mktemp("ladder")
    grown.model.save_pretrained(path)
    grown.tokenizer.save_pretrained(path)
    return path


def embedding(loaded: Loaded) -> torch.Tensor:
    return loaded.model.get_input_embeddings().weight.detach().clone()


@pytest.fixture(scope="module", params=["added", "unseen"])
def tuned(request, recipe_of, around, saved_base, base, chatml, tmp_path_factory):
    """One step of LoRA: directory, the student, its embedding before, the record."""
    path = saved_base if request.param == "added" else base
    loaded = load(str(path), name="ladder", template=chatml, new_tokens="train")
    before, directory = embedding(loaded), tmp_path_factory.mktemp("run")
    recipe = recipe_of(method=LORA, steps=1, epochs=None, max_tokens=128)
    return directory, loaded, before, fit(recipe, loaded, around, directory)


def test_one_step_moves_the_rows_of_the_unseen_tokens_and_no_others(tuned):
    _, loaded, before, record = tuned
    after = embedding(loaded)
    moved = [i for i in range(len(after)) if not torch.equal(after[i], before[i])]
    assert moved == sorted(loaded.tokenizer.convert_tokens_to_ids([START, END, ROLE]))
    a_layer = 2 * (32 + 32) + 2 * (32 + 16) + 2 * (32 + 16) + 2 * (32 + 32)  # q, k, v, o
    assert record["parameters_trained"] == 3 * 32 + 2 * a_layer


def test_a_student_with_new_tokens_is_reloaded_as_it_was_trained(tuned):
    directory, loaded, _, record = tuned
    again = load_student(directory / "model", loaded.loading)
    assert record["reload_difference"] < 1e-5
    assert torch.equal(embedding(again), embedding(loaded))
    assert again.tokenizer.get_vocab() == loaded.tokenizer.get_vocab()
    assert again.stop_ids == loaded.stop_ids


def test_the_record_names_what_was_learned_and_why(tuned):
    directory, loaded, _, record = tuned
    assert record["template"] == short_hash(loaded.template)
    assert set(record["preflight"]["learned"]) == {START, END, ROLE}
    assert record["events"]["tokens of the template that are learned"] == 3
    (rows,) = read_json(directory / "model" / "adapter_config.json")[
        "trainable_token_indices"
    ].values()
    assert sorted(rows) == [300, 301, 302]


def test_a_base_that_never_saw_its_own_end_of_text_is_refused_by_name(
    recipe_of, around, base, chatml, tmp_path
):
    loaded = load(str(base), name="ladder", template=chatml)
    pattern = r"never have seen 3 of .*'<\|im_end\|>': .*'<\|user\|>': .*model\.new_tokens=train"
    with pytest.raises(RunError, match=pattern):
        fit(recipe_of(method=LORA, max_tokens=128), loaded, around, tmp_path)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("32-true", "float32"),
        ("32-true", "bfloat16"),
        ("bf16-mixed", "float32"),
        ("bf16-mixed", "bfloat16"),
        ("bf16-true", "bfloat16"),  # with float32 weights it is refused: test_masters.py
    ],
)
def test_rows_are_learned_in_every_precision(
    recipe_of, around, student, chatml, tmp_path, precision, dtype, tied
):
    shape = replace(student.architecture, tied=tied)
    made = replace(student, architecture=shape).fresh()
    made.model.save_pretrained(tmp_path / "base")
    made.tokenizer.save_pretrained(tmp_path / "base")
    loading = {"name": "low", "template": chatml, "dtype": dtype, "new_tokens": "train"}
    loaded = load(str(tmp_path / "base"), **loading)
    before = embedding(loaded)
    recipe = recipe_of(method=LORA, steps=1, epochs=None, max_tokens=128, precision=precision)
    record = fit(recipe, loaded, around, tmp_path / "run")
    after = embedding(load_student(tmp_path / "run" / "model", loaded.loading))
    moved = [i for i in range(len(after)) if not torch.equal(after[i], before[i].to(after.dtype))]
    assert moved == sorted(loaded.tokenizer.convert_tokens_to_ids([START, END, ROLE]))
    assert record["reload_difference"] < 5e-2

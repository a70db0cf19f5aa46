"""The proofs before training refuse what could not be trained exactly or would never stop."""

from dataclasses import replace

import pytest
import torch

from heed.core.errors import RunError
from heed.data.encode import encode_all
from heed.methods.adapters import Full, LoRA
from heed.methods.method import Method
from heed.models import attention, likelihood
from heed.training.preflight import both_losses, preflight

LORA = LoRA(rank=4, alpha=8.0, dropout=0.0, layers="all-linear")


def by(adapter) -> Method:
    return Method(name="some", adapter=adapter)


@pytest.fixture
def examples(recipe_of, toy, loaded):
    return encode_all(toy, loaded.template, loaded.tokenizer, recipe_of().data).examples


@pytest.mark.parametrize("adapter", [LORA, Full()], ids=["lora", "full"])
def test_a_sound_student_passes_and_what_was_proved_is_told(loaded, examples, adapter, recipe_of):
    proved = preflight(loaded, examples, recipe_of(method=by(adapter)))
    assert proved.packed_difference < 1e-5
    assert proved.ends_supervised == 1
    assert proved.base_loss == pytest.approx(torch.log(torch.tensor(300.0)).item(), rel=0.1)


def test_documents_that_see_each_other_are_noticed(loaded, examples, monkeypatch, recipe_of):
    def as_one(lengths):
        return attention.group_documents(lengths.sum()[None])

    monkeypatch.setattr(likelihood, "group_documents", as_one)
    with pytest.raises(RunError, match=r"'tiny': the packed loss is .* but the model's own is"):
        preflight(loaded, examples, recipe_of(method=by(Full())))


@pytest.mark.parametrize("factor", [0.5, 1.1, float("nan")])
def test_a_model_that_changes_its_logits_after_the_head_is_refused(
    loaded, examples, factor, recipe_of
):
    forward = loaded.model.forward

    def scaled(**inputs):
        found = forward(**inputs)
        found.logits = found.logits * factor
        return found

    loaded.model.forward = scaled
    with pytest.raises(RunError, match="or the model changes its logits after the head"):
        preflight(loaded, examples, recipe_of(method=by(Full())))


def test_a_stop_token_that_cannot_be_learned_is_refused(student, examples, recipe_of):
    foreign = replace(student, template=replace(student.template, end_of_turn="<|pad|>")).fresh()
    with pytest.raises(RunError, match=r"ends with '<\|pad\|>'.*LoRA.*embeddings.*method=full"):
        preflight(foreign, examples, recipe_of(method=by(LORA)))
    assert (
        preflight(foreign, examples, recipe_of(method=by(Full()))).ends_supervised == 1
    )  # the end of text counts too


def test_examples_that_were_cut_have_no_supervised_end(recipe_of, toy, loaded):
    data = replace(recipe_of().data, max_tokens=56, over_long="cut")
    found = encode_all(toy, loaded.template, loaded.tokenizer, data)
    cut = found.events["cut: over-long, no end of turn"]
    assert 0 < cut < len(found.examples)
    recipe = replace(recipe_of(method=by(Full())), data=data)
    share = preflight(loaded, found.examples, recipe).ends_supervised
    assert share == pytest.approx(1 - cut / len(found.examples), abs=0.1)
    assert share < 1


def test_the_proof_leaves_the_student_as_it_was(loaded, examples):
    loaded.model.train()
    before = {name: p.clone() for name, p in loaded.model.named_parameters()}
    both_losses(loaded, examples[:3])
    assert loaded.model.training
    assert all(torch.equal(before[name], p) for name, p in loaded.model.named_parameters())

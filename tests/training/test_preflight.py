"""The proofs before training refuse what could not be trained exactly or would never stop."""

from dataclasses import replace

import pytest
import torch

from heed.core.errors import RunError
from heed.data.encode import Encoded, encode_all
from heed.methods.adapters import Full, LoRA
from heed.methods.method import Method
from heed.methods.weights import Plain
from heed.models import attention, likelihood
from heed.models.head import logits_of
from heed.training import own_loss
from heed.training.own_loss import TOLERANCE, both_losses, neighbour_effect
from heed.training.preflight import preflight

LORA = LoRA(rank=4, alpha=8.0, dropout=0.0, layers="all-linear")


def by(adapter) -> Method:
    return Method(name="some", weights=Plain(), noise=None, adapter=adapter)


@pytest.fixture
def examples(recipe_of, toy, loaded):
    return list(encode_all(toy, loaded.template, loaded.tokenizer, recipe_of().data).examples)


@pytest.mark.parametrize("adapter", [LORA, Full()], ids=["lora", "full"])
def test_a_sound_student_passes_and_what_was_proved_is_told(loaded, examples, adapter, recipe_of):
    proved = preflight(loaded, examples, recipe_of(method=by(adapter)))
    assert proved.packed_difference < 1e-5
    assert proved.ends_supervised == 1
    assert proved.base_loss == pytest.approx(torch.log(torch.tensor(300.0)).item(), rel=0.1)


class AsOne(attention.Documents):
    """All documents of a row taken for a single one."""

    def __init__(self, lengths):
        super().__init__(lengths.sum()[None])


def test_documents_that_see_each_other_are_noticed(loaded, examples, monkeypatch, recipe_of):
    monkeypatch.setattr(likelihood, "Documents", AsOne)
    with pytest.raises(RunError, match=r"'tiny': the packed loss is .*Give data\.packing=none"):
        preflight(loaded, examples, recipe_of(method=by(Full()))).settle("block")


@pytest.mark.parametrize("strength", [1e-3, 1e-2])
def test_documents_that_hardly_see_each_other_are_noticed_too(
    loaded, examples, monkeypatch, recipe_of, strength
):
    """Too little to be seen in the loss, but there is no such thing as a little isolation."""
    attend = attention.one_by_one

    def leak(q, k, v, documents, scores, **how):
        return attend(q, k, v, documents, scores, **how) + strength * v.mean(0).mean()

    monkeypatch.setattr(attention, "one_by_one", leak)
    few = sorted(examples, key=lambda e: len(e.ids))[-4:]
    packed, own = both_losses(loaded, few)
    assert float(packed.sum()) == pytest.approx(float(own.sum()), rel=1e-3)
    with pytest.raises(RunError, match=r"change by up to .* nats with its neighbours"):
        preflight(loaded, examples, recipe_of(method=by(Full()))).settle("block")


def test_a_neighbour_before_and_one_behind_are_both_looked_at(loaded, examples, monkeypatch):
    attend = attention.one_by_one
    assert neighbour_effect(loaded, examples[:4]) == 0

    def first_token_everywhere(q, k, v, documents, scores, **how):
        return attend(q, k, v, documents, scores, **how) + v[:1].mean()

    def last_token_everywhere(q, k, v, documents, scores, **how):
        return attend(q, k, v, documents, scores, **how) + v[-1:].mean()

    for leak in (first_token_everywhere, last_token_everywhere):
        monkeypatch.setattr(attention, "one_by_one", leak)
        assert neighbour_effect(loaded, examples[:4]) > 1e-3


def test_the_longest_example_is_among_those_that_are_compared(
    loaded, examples, monkeypatch, recipe_of
):
    """A window that only the longest example reaches beyond would not be noticed without it."""
    seen = []
    row_of = own_loss.flat_row
    monkeypatch.setattr(own_loss, "flat_row", lambda e, pad: seen.extend(e) or row_of(e, pad=pad))
    long = examples[0]._replace(
        ids=[7] * 100 + examples[0].ids, mask=[False] * 100 + examples[0].mask
    )
    preflight(loaded, [*examples * 2, long], recipe_of(method=by(Full())))
    assert long in seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_one_token_of_many_whose_loss_is_not_the_models_own_is_enough(
    loaded, examples, monkeypatch, recipe_of, dtype
):
    """A mean over all tokens would hide what a window takes from the last few of the longest."""
    loaded.model.to(dtype)
    assert preflight(loaded, examples, recipe_of(method=by(Full()))).packed_difference < 0.1

    def last_row_off(model, output, hidden):
        found = logits_of(model, output, hidden).clone()
        found[-1] = found[-1] * (1.02 if dtype == torch.float32 else 3)
        return found

    monkeypatch.setattr(likelihood, "logits_of", last_row_off)
    packed, own = both_losses(loaded, sorted(examples, key=lambda e: len(e.ids))[:4])
    assert ((packed - own).abs() > TOLERANCE[dtype]).sum() == 1
    if dtype == torch.float32:
        assert float(packed.sum()) == pytest.approx(float(own.sum()), rel=1e-3)
    with pytest.raises(RunError, match=r"one token's differs by up to"):
        preflight(loaded, examples, recipe_of(method=by(Full()))).settle("block")


@pytest.mark.parametrize("packing", ["best_fit", "none"])
def test_a_loss_that_is_not_the_models_own_is_refused(
    loaded, examples, monkeypatch, packing, recipe_of
):
    monkeypatch.setattr(likelihood, "logits_of", lambda m, o, h: logits_of(m, o, h) * 1.1)
    with pytest.raises(RunError, match=r"but the model's own is .*Choose another model"):
        preflight(loaded, examples, recipe_of(method=by(Full()), packing=packing)).settle("block")


def test_packing_none_is_advised_only_where_it_mends_the_loss(
    loaded, examples, monkeypatch, recipe_of
):
    def off_if_packed(model, output, hidden):
        found = logits_of(model, output, hidden)
        return found * 1.1 if len(found) > max(e.supervised for e in examples) else found

    monkeypatch.setattr(likelihood, "logits_of", off_if_packed)
    with pytest.raises(RunError, match=r"but the model's own is .*Give data.packing=none\."):
        preflight(loaded, examples, recipe_of(method=by(Full()))).settle("block")
    assert preflight(loaded, examples, recipe_of(method=by(Full()), packing="none")).alone


@pytest.mark.parametrize("packing", ["best_fit", "none"])
def test_a_model_that_sees_what_it_is_to_predict_is_refused_however_it_is_packed(
    loaded, examples, packing, recipe_of
):
    for layer in loaded.model.model.layers:
        layer.self_attn.is_causal = False
    with pytest.raises(
        RunError, match=r"LlamaForCausalLM\) is not causal[^\n]*Choose another model"
    ):
        preflight(loaded, examples, recipe_of(method=by(Full()), packing=packing)).settle("block")


def test_a_loss_that_is_no_number_is_refused(loaded, examples, recipe_of):
    loaded.model.lm_head.register_forward_hook(lambda module, given, out: out * float("nan"))
    with pytest.raises(RunError, match="the model's own is nan"):
        preflight(loaded, examples, recipe_of(method=by(Full()))).settle("block")


def test_what_a_model_does_after_its_head_is_trained_as_it_is(loaded, examples, recipe_of):
    forward = loaded.model.forward

    def scaled(**inputs):
        found = forward(**inputs)
        found.logits = found.logits * 0.5
        return found

    plain = preflight(loaded, examples, recipe_of(method=by(Full()))).base_loss
    loaded.model.forward = scaled
    proved = preflight(loaded, examples, recipe_of(method=by(Full())))
    assert proved.packed_difference < 1e-5
    assert proved.base_loss != pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize(
    ("packing", "backend", "why", "events"),
    [
        ("best_fit", True, None, {}),
        ("none", True, "data.packing=none", {}),
        ("none", False, "data.packing=none", {}),
        (
            "best_fit",
            False,
            "LlamaForCausalLM does not let its attention be replaced",
            {"trained unpacked: LlamaForCausalLM does not let its attention be replaced": 24},
        ),
    ],
)
def test_why_documents_stand_alone_is_told_and_counted_where_nobody_asked_for_it(
    loaded, examples, recipe_of, packing, backend, why, events
):
    loaded.model._supports_attention_backend = backend
    recipe = recipe_of(method=by(Full()), packing=packing)
    proved = preflight(loaded, examples, recipe)
    assert proved.alone == why
    assert proved.events(len(examples), recipe) == events
    assert proved.packed_difference < 1e-5


def test_a_stop_token_that_cannot_be_learned_is_refused(student, examples, recipe_of):
    foreign = replace(student, template=replace(student.template, end_of_turn="<|pad|>")).fresh()
    with pytest.raises(
        RunError, match=r"never have seen 1 .*'<\|pad\|>'.*LoRA.*embeddings.*method=full"
    ):
        preflight(foreign, examples, recipe_of(method=by(LORA))).settle("block")
    assert (
        preflight(foreign, examples, recipe_of(method=by(Full()))).ends_supervised == 1
    )  # the end of text counts too


def cut(example: Encoded) -> Encoded:
    return example._replace(ids=example.ids[:-1], mask=example.mask[:-1])


@pytest.mark.parametrize("over_long", ["drop", "cut_at_turn"])
def test_examples_without_a_supervised_end_are_refused(loaded, examples, recipe_of, over_long):
    recipe = recipe_of(method=by(Full()), over_long=over_long)
    with pytest.raises(RunError, match=r"only 75\.0% of the examples end with a supervised stop"):
        preflight(loaded, [cut(e) for e in examples[:6]] + examples[6:], recipe).settle("block")


def test_windows_of_a_text_need_no_supervised_end(loaded, examples, recipe_of):
    recipe = recipe_of(method=by(Full()), over_long="window")
    proved = preflight(loaded, [cut(e) for e in examples[:6]] + examples[6:], recipe)
    assert proved.ends_supervised == 0.75


def test_what_follows_the_last_supervised_turn_does_not_matter(loaded, examples, recipe_of):
    """A user's last word, or an assistant's turn of weight 0, stands after it unsupervised."""
    longer = [e._replace(ids=[*e.ids, 7, 9], mask=[*e.mask, False, False]) for e in examples]
    assert preflight(loaded, longer, recipe_of(method=by(Full()))).ends_supervised == 1


def test_the_proof_leaves_the_student_as_it_was(loaded, examples):
    loaded.model.train()
    before = {name: p.clone() for name, p in loaded.model.named_parameters()}
    both_losses(loaded, examples[:3])
    neighbour_effect(loaded, examples[:3])
    assert loaded.model.training
    assert all(torch.equal(before[name], p) for name, p in loaded.model.named_parameters())

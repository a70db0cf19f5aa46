"""Each proof on what will be trained fails where what it proves does not hold."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from heed.core.errors import RunError
from heed.data.encode import encode_all
from heed.methods.adapters import Full, LoRA
from heed.methods.method import Method
from heed.methods.weights import Plain
from heed.models import attention, likelihood
from heed.models.student import load
from heed.training import proofs
from heed.training.checkpoint import check_reload, load_student, save_student
from heed.training.checks import Check, finite
from heed.training.fit import fit
from heed.training.preflight import Writing, preflight, sharing, with_attached
from heed.training.proofs import (
    EXACT,
    RELOADED,
    SANE,
    SPELT,
    base_sanity,
    cuts,
    exact_gradient,
    plain_loss,
    reloadable,
    spelt,
    stirred,
)

LORA = LoRA(rank=4, alpha=8.0, dropout=0.1, layers="all-linear")


def by(adapter) -> Method:
    return Method(name="some", weights=Plain(), noise=None, adapter=adapter)


@pytest.fixture
def based(saved_base, template):
    return load(str(saved_base), name="tiny", template=template)


@pytest.fixture
def examples(recipe_of, toy, loaded):
    return list(encode_all(toy, loaded.template, loaded.tokenizer, recipe_of().data).examples)


def writing_of(loaded, adapter, folder: Path) -> Writing:
    attached = adapter.attach(loaded.model)

    def save(path: Path) -> None:
        save_student(loaded, attached, adapter, path, card="")

    def differs(path: Path) -> float:
        return check_reload(loaded, load_student(path, loaded.loading), [5, 6, 7, 8])

    return Writing(save, differs, folder)


@pytest.mark.parametrize("adapter", [LORA, Full()], ids=["lora", "full"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sound_student_passes_every_proof_and_is_as_it_was(
    based, examples, recipe_of, tmp_path, adapter, dtype
):
    based.model.to(dtype)
    proved = preflight(based, examples, recipe_of(method=by(adapter)))
    writing = writing_of(based, adapter, tmp_path)
    before = {name: p.clone() for name, p in based.model.named_parameters()}
    drawn = torch.get_rng_state(), np.random.get_state()[1].copy()
    based.model.train()
    proved = with_attached(proved, based, examples, recipe_of(), writing)
    assert [check.name for check in proved.checks if check.state == "ok"][-2:] == [EXACT, RELOADED]
    assert not proved.failures
    assert all(torch.equal(before[n], p) for n, p in based.model.named_parameters())
    assert all(p.grad is None for p in based.model.parameters())
    assert torch.equal(drawn[0], torch.get_rng_state())
    assert np.array_equal(drawn[1], np.random.get_state()[1])
    assert based.model.training
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("alone", [False, True])
def test_the_gradient_of_a_sound_student_does_not_depend_on_the_cut(based, examples, alone):
    Full().attach(based.model)
    check = exact_gradient(based, examples[:8], alone=alone)
    assert check.state == "ok"
    assert ("1x8, 2x4, 8x1" in check.line) is not alone
    assert float(check.line.split("differ by ")[1].split()[0]) < 1e-5


class AsOne(attention.Documents):
    """All documents of a row taken for a single one."""

    def __init__(self, lengths):
        super().__init__(lengths.sum()[None])


def test_documents_that_see_each_other_change_the_gradient(based, examples, monkeypatch):
    Full().attach(based.model)
    monkeypatch.setattr(likelihood, "Documents", AsOne)
    check = exact_gradient(based, examples[:8], alone=False)
    assert check.state == "block"
    assert "the step would depend on how it fits into memory" in check.line


def test_a_mean_of_means_is_not_the_mean(based, examples, monkeypatch):
    """What transformers' default does to micro-batches of different lengths."""

    class OfMeans(likelihood.StudentLoss):
        def forward(self, batch):
            nats, tokens = super().forward(batch)
            return nats / tokens * 20, tokens

    Full().attach(based.model)
    monkeypatch.setattr(proofs, "StudentLoss", OfMeans)
    assert exact_gradient(based, examples[:8], alone=False).state == "block"


def test_a_gradient_that_is_no_number_is_refused(based, examples):
    Full().attach(based.model)
    based.model.lm_head.register_forward_hook(lambda module, given, out: out * float("nan"))
    assert exact_gradient(based, examples[:4], alone=False).state == "block"


def test_of_a_large_gradient_an_even_choice_is_compared(based, examples, monkeypatch):
    Full().attach(based.model)
    monkeypatch.setattr(proofs, "COMPARED", 5000)
    moving, whole = proofs._compared_parameters(based.model)
    assert not whole
    assert len(moving) >= 1
    assert sum(p.numel() for p in moving) <= 5000 or len(moving) == 1
    assert f"over {len(moving)} tensors" in exact_gradient(based, examples[:4], alone=False).line


@pytest.mark.parametrize("many", [2, 3, 5, 8])
def test_every_cut_has_every_example_once(examples, many):
    for rows in cuts(examples[:many], alone=False).values():
        assert [e for row in rows for e in row] == examples[:many]


def test_a_save_that_loses_the_updates_is_noticed_before_the_training(based, tmp_path):
    writing = writing_of(based, LORA, tmp_path)

    def loses(path: Path) -> None:
        zeroed = [p for n, p in based.model.named_parameters() if "lora_B" in n]
        held = [p.clone() for p in zeroed]
        with torch.no_grad():
            for p in zeroed:
                p.mul_(0.5)
            writing.save(path)
            for p, was in zip(zeroed, held, strict=True):
                p.copy_(was)

    assert reloadable(based.model, *writing).state == "ok"
    check = reloadable(based.model, loses, writing.differs, tmp_path)
    assert check.state == "block"
    assert "logits differ from memory" in check.line


def test_a_method_that_cannot_be_saved_is_told_with_its_own_words(based, tmp_path):
    writing = writing_of(based, LORA, tmp_path)

    def refuses(path: Path) -> None:
        raise RunError("no way to write this")

    check = reloadable(based.model, refuses, writing.differs, tmp_path)
    assert (check.state, check.line) == ("block", "no way to write this")
    assert list(tmp_path.iterdir()) == []


def test_what_is_too_large_to_be_written_twice_is_left_to_the_end(based, tmp_path, monkeypatch):
    monkeypatch.setattr(proofs, "WRITTEN", 10)
    Full().attach(based.model)
    assert reloadable(based.model, None, None, tmp_path).state == "left"


def test_zeros_are_stirred_inside_the_block_only():
    zero, other = torch.zeros(3, 4), torch.ones(2)
    with stirred([zero, other]):
        assert zero.all()
        assert torch.equal(other, torch.ones(2))
    assert not zero.any()


def test_random_weights_are_no_red_flag_where_a_base_is_made_of_them(loaded, based, examples):
    assert base_sanity(loaded, examples[:3], 5.7).state == "ok"
    check = base_sanity(based, examples[:3], 5.7)
    assert check.state == "warn"
    assert "guessing costs 5.70" in check.line


def test_a_base_that_reads_either_kind_of_text_is_sane(based, examples):
    assert base_sanity(based, examples[:3], 2.0).state == "ok"
    assert base_sanity(based, examples[:3], 0.01).state == "warn"
    assert base_sanity(based, examples[:3], float("nan")).state == "block"


def test_plain_loss_is_that_of_the_tokens_without_supervision(based, examples):
    example = examples[3]
    ids = torch.tensor([example.ids])
    with torch.no_grad():
        logs = based.model(ids).logits[0, :-1].log_softmax(-1)
    nats = -logs.gather(1, ids[0, 1:, None])[:, 0]
    asked = ~torch.tensor(example.mask[1:])
    assert plain_loss(based, [example]) == pytest.approx(float(nats[asked].mean()), rel=1e-4)
    whole = example._replace(mask=[True] * len(example.ids))
    assert plain_loss(based, [whole]) is None


def test_tokens_and_mask_are_held_against_the_source(loaded, toy, examples):
    assert spelt(loaded, toy, examples).line == "24 of 24 examples"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda e: e._replace(mask=[*e.mask[1:], True]), "takes loss on its prompt"),
        (lambda e: e._replace(mask=[False, *e.mask[:-1]]), "part of its response without loss"),
        (lambda e: e._replace(mask=[*e.mask[:-1], False]), "part of its response without loss"),
        (lambda e: e._replace(ids=[9, *e.ids[1:]]), "behind other tokens"),
        (lambda e: e._replace(ids=[*e.ids[:-1], 9]), "spells"),
    ],
)
def test_one_wrong_example_is_named(loaded, toy, examples, change, why):
    check = spelt(loaded, toy, [*examples[:5], change(examples[5]), *examples[6:]])
    assert check.state == "block"
    assert "1 of 24 examples do not, the first: toy/5" in check.line
    assert why in check.line


def test_another_template_than_that_of_the_examples_is_noticed(loaded, toy, examples):
    loaded.template = replace(loaded.template, assistant="Answer: ")
    assert spelt(loaded, toy, examples).state == "block"


def test_plain_text_has_no_template_to_be_held_against(loaded, teacher_of, recipe_of):
    texts = teacher_of(["red green blue"] * 3, name="text")
    found = encode_all(texts, loaded.template, loaded.tokenizer, recipe_of().data).examples
    assert spelt(loaded, texts, found).state == "left"


@pytest.mark.parametrize(
    ("found", "dropped", "state"), [(0, False, "ok"), (3, True, "ok"), (3, False, "warn")]
)
def test_shared_texts_are_told_and_dropped_ones_do_no_harm(found, dropped, state):
    overlap = {"examples_found": found, "prompts_looked_for": 520}
    check = sharing(overlap, dropped=dropped)
    assert check.state == state
    assert f"{found} examples" in check.line
    assert sharing(None, dropped=False).state == "left"


@pytest.fixture
def broken(monkeypatch):
    """Documents of one row see each other: two proofs fail."""
    monkeypatch.setattr(likelihood, "Documents", AsOne)


def test_all_failures_stand_on_one_screen_and_nothing_is_trained(
    broken, based, recipe_of, around, tmp_path
):
    with pytest.raises(RunError) as refused:
        fit(recipe_of(method=by(LORA)), based, around, tmp_path)
    told = str(refused.value)
    assert "2 of 12 proofs failed, so nothing was trained" in told
    assert "the packed loss is" in told
    assert EXACT in told
    assert told.endswith("preflight=warn.")
    assert not (tmp_path / "metrics.jsonl").exists()


def test_with_warn_the_training_goes_on_and_its_record_says_so(
    broken, based, recipe_of, around, tmp_path, capsys
):
    record = fit(recipe_of(method=by(LORA)), based, replace(around, preflight="warn"), tmp_path)
    assert record["preflight"]["mode"] == "warn"
    assert len(record["preflight"]["failed"]) == 2
    events = [e for e in record["events"] if e.startswith("trained although preflight failed")]
    assert len(events) == 2
    assert capsys.readouterr().err.count("  BLOCK fails:") == 2
    assert (tmp_path / "model").is_dir()


def test_an_example_that_does_not_fit_is_refused_beside_what_else_is_wrong(
    loaded, examples, recipe_of
):
    long = examples[0]._replace(id="toy/99", ids=[7] * 300, mask=[False] * 299 + [True])
    proved = preflight(loaded, [*examples, long], recipe_of())
    names = [check.line for check in proved.failures]
    assert len(names) == 2  # it does not end with a stop token either
    assert "256 positions, but the longest example needs 300" in names[0]
    apart = preflight(loaded, examples, recipe_of(), None, [examples[0], long])
    (line,) = [check.line for check in apart.failures]
    assert "256 positions, but the longest example needs 300" in line
    only = preflight(loaded, [long], recipe_of())
    assert only.base_loss is None
    assert {c.name for c in only.checks if c.state == "left"} >= {SANE, SPELT}


def test_the_record_holds_a_line_a_proof_and_no_number_that_json_cannot(
    loaded, examples, recipe_of
):
    loaded.model.lm_head.register_forward_hook(lambda module, given, out: out * float("nan"))
    record = preflight(loaded, examples, recipe_of()).record("block")
    assert record["base_loss"] is None
    assert all(set(Check._fields) == set(check) for check in record["checks"])
    assert finite(float("inf")) is finite(None) is None
    assert finite(1.5) == 1.5

"""The loss on examples kept apart is exact, is logged, and changes nothing."""

from pathlib import Path

import pytest
import torch
import yaml
from forked import run_ranks

from heed.core.files import read_jsonl
from heed.data.encode import encode_all
from heed.models.likelihood import StudentLoss
from heed.tracking.tracker import LocalOnly
from heed.training.callbacks import Metrics, ValidationLoss
from heed.training.fit import Surroundings, fit
from heed.training.validation import Validation

SHARE = 0.4
CONF = Path(__file__).resolve().parents[2] / "conf"


def by_hand(loaded, examples) -> float:
    """Nats per supervised token, one document at a time, from the model's own logits."""
    nats = tokens = 0
    for example in examples:
        ids = torch.tensor([example.ids])
        with torch.no_grad():
            logs = loaded.model.eval()(ids).logits[0, :-1].log_softmax(-1)
        picked = logs.gather(1, ids[0, 1:, None])[torch.tensor(example.mask[1:])]
        nats, tokens = nats - float(picked.sum()), tokens + len(picked)
    return nats / tokens


@pytest.mark.parametrize(("packing", "micro"), [("best_fit", 64), ("best_fit", 999), ("none", 64)])
def test_the_loss_is_the_mean_over_all_tokens_however_rows_are_cut(
    toy, loaded, recipe_of, packing: str, micro: int
):
    recipe = recipe_of(validation_share=SHARE, packing=packing, micro_tokens=micro)
    apart = encode_all(toy, loaded.template, loaded.tokenizer, recipe.data).validation
    found = Validation(apart, recipe.data, 1, "32-true")
    loss = found.measure(StudentLoss(loaded.model), 0)
    assert loss == pytest.approx(by_hand(loaded, apart), rel=1e-5)
    assert found.tokens == sum(e.supervised for e in apart)


def test_it_is_measured_in_the_precision_of_the_training(toy, loaded, recipe_of):
    recipe = recipe_of(validation_share=SHARE)
    apart = encode_all(toy, loaded.template, loaded.tokenizer, recipe.data).validation
    student, kinds = StudentLoss(loaded.model), []
    for precision in ("32-true", "bf16-mixed"):
        hook = loaded.model.model.layers[0].mlp.up_proj.register_forward_hook(
            lambda _, given, made: kinds.append(made.dtype)
        )
        Validation(apart, recipe.data, 1, precision).measure(student, 0)
        hook.remove()
    assert list(dict.fromkeys(kinds)) == [torch.float32, torch.bfloat16]


def test_ranks_share_the_rows_and_find_the_same_to_the_last_bit(toy, loaded, recipe_of):
    recipe = recipe_of(validation_share=SHARE, packing="none")
    apart = encode_all(toy, loaded.template, loaded.tokenizer, recipe.data).validation
    student = StudentLoss(loaded.model)

    def measure() -> tuple[int, float]:
        rows, real = [], student.token_nats
        student.token_nats = lambda row: rows.append(row) or real(row)
        loss = Validation(apart, recipe.data, 1, "32-true").measure(student, 0)
        return len(rows), loss

    ((most, loss),) = run_ranks(1, measure)
    told = run_ranks(3, measure)
    assert most == len(apart)
    assert sum(rows for rows, _ in told) == most, "each row is read by one of them"
    assert min(rows for rows, _ in told) >= most // 3
    assert {found for _, found in told} == {loss}


@pytest.mark.parametrize("training", [True, False])
def test_measuring_leaves_the_student_as_it_was(toy, loaded, recipe_of, training: bool):
    recipe = recipe_of(validation_share=SHARE)
    apart = encode_all(toy, loaded.template, loaded.tokenizer, recipe.data).validation
    student = StudentLoss(loaded.model).train(training)
    before = torch.random.get_rng_state()
    Validation(apart, recipe.data, 1, "32-true").measure(student, 0)
    assert all(module.training == training for module in student.modules())
    assert all(p.grad is None for p in student.parameters())
    assert torch.equal(torch.random.get_rng_state(), before)


def fitted(student, recipe, around: Surroundings, directory: Path, watchers):
    loaded = student.fresh()
    settings = Surroundings(around.trainer, watchers, LocalOnly())
    return loaded, fit(recipe, loaded, settings, directory)


@pytest.mark.parametrize(
    ("watchers", "steps"),
    [({"v": ValidationLoss(every_steps=2)}, [0, 2, 4, 5]), ({}, [0, 5])],
    ids=["every second step", "nobody asks"],
)
def test_the_loss_is_written_before_the_training_every_few_steps_and_after_it(
    student, recipe_of, around, tmp_path, watchers, steps: list[int]
):
    recipe = recipe_of(validation_share=SHARE, epochs=None, steps=5)
    loaded, record = fitted(student, recipe, around, tmp_path, watchers)
    rows = [r for r in read_jsonl(tmp_path / "metrics.jsonl") if "validation_loss" in r]
    assert [row["step"] for row in rows] == steps
    apart = encode_all(recipe.teacher, loaded.template, loaded.tokenizer, recipe.data).validation
    assert rows[-1]["validation_loss"] == pytest.approx(by_hand(loaded, apart), rel=1e-5)
    assert rows[0]["validation_loss"] == pytest.approx(by_hand(student.fresh(), apart), rel=1e-5)
    assert record["validation"] == {
        "examples": len(apart),
        "supervised_tokens": rows[0]["validation_tokens"],
        "loss_before": rows[0]["validation_loss"],
        "loss_after": rows[-1]["validation_loss"],
    }


def test_measuring_more_often_gives_the_same_student(student, recipe_of, around, tmp_path):
    recipe = recipe_of(validation_share=SHARE, epochs=None, steps=4)
    often = {"m": Metrics(every_steps=1), "v": ValidationLoss(every_steps=1)}
    one, _ = fitted(student, recipe, around, tmp_path / "one", often)
    two, _ = fitted(student, recipe, around, tmp_path / "two", {"m": Metrics(every_steps=1)})
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_no_example_of_the_validation_is_trained_on(student, recipe_of, around, tmp_path):
    recipe = recipe_of(validation_share=SHARE)
    _, record = fitted(student, recipe, around, tmp_path, {})
    kept = record["events"]["kept apart for validation"]
    assert record["examples"] == 24 - kept
    assert record["data"]["validation_examples"] == kept > 0


def test_without_a_share_nothing_is_written(student, recipe_of, around, tmp_path):
    watchers = {"v": ValidationLoss(every_steps=1)}
    _, record = fitted(student, recipe_of(), around, tmp_path, watchers)
    assert record["validation"] is None
    assert not (tmp_path / "metrics.jsonl").exists()


def test_as_shipped_measuring_costs_little_beside_the_training():
    def shipped(name: str) -> dict:
        return yaml.safe_load((CONF / name).read_text())

    every = shipped("callbacks/default.yaml")["validation"]["every_steps"]
    trained = every * shipped("data/responses.yaml")["examples_per_step"]
    measured = 0.02 * 52_000  # a fiftieth of the largest set beside the project
    assert measured / 3 < 0.05 * trained, "no gradients: a third of the work"

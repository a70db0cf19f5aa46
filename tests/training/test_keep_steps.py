"""Kept steps: the training does not notice them, and each is a whole student of its own."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from heed.core.errors import ConfigError
from heed.core.files import read_jsonl
from heed.methods.adapters import Full, LoRA
from heed.methods.method import Method
from heed.methods.weights import Plain
from heed.models.student import load
from heed.training.callbacks import KeepSteps, kept_on_disk, step_directory
from heed.training.checkpoint import load_student
from heed.training.fit import fit

LORA = Method(
    name="lora",
    weights=Plain(),
    noise=None,
    adapter=LoRA(rank=4, alpha=8.0, dropout=0.1, layers="all-linear"),
)
FULL = Method(name="full", weights=Plain(), noise=None, adapter=Full())
STEPS = 6  # 24 examples, 8 a step, 2 epochs


@pytest.fixture(scope="module")
def fitted(recipe_of, around, saved_base, template, tmp_path_factory):
    """Fit once per method and kept steps; gives the directory, the student and the record."""
    made = {}

    def run(method: Method, *keep: int, epochs: int = 2):
        key = (method.name, keep, epochs)
        if key not in made:
            directory = tmp_path_factory.mktemp("run")
            (directory / "steps/77/model").mkdir(parents=True)  # of a training broken off
            loaded = load(str(saved_base), name="tiny", template=template)
            watchers = {**around.callbacks, "keep": KeepSteps(steps=keep)}
            record = fit(
                recipe_of(method=method, epochs=epochs),
                loaded,
                replace(around, callbacks=watchers),
                directory,
            )
            made[key] = (directory, loaded, record)
        return made[key]

    return run


def weights(loaded) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in loaded.model.parameters()])


@pytest.mark.parametrize("method", [LORA, FULL], ids=["lora", "full"])
def test_a_training_that_keeps_steps_ends_with_the_same_bits(fitted, method: Method):
    plain, keeping = fitted(method), fitted(method, 2, 3, 99)
    assert torch.equal(weights(plain[1]), weights(keeping[1]))
    rows = [read_jsonl(one[0] / "metrics.jsonl") for one in (plain, keeping)]
    for one, other in zip(*rows, strict=True):
        assert one | {"seconds": 0} == other | {"seconds": 0}


@pytest.mark.parametrize("method", [LORA, FULL], ids=["lora", "full"])
def test_a_kept_step_is_the_student_of_that_step_in_the_layout_of_the_last(fitted, method: Method):
    directory, loaded, record = fitted(method, 2, 3, 99)
    assert record["kept_steps"] == kept_on_disk(directory) == [2, 3]
    kept = {step: step_directory(directory, step) for step in (2, 3)}
    names = [{path.name for path in p.iterdir()} for p in (*kept.values(), directory / "model")]
    assert names[0] == names[1] == names[2]
    two, three = (weights(load_student(path, loaded.loading)) for path in kept.values())
    last = weights(load_student(directory / "model", loaded.loading))
    assert not torch.equal(two, three)
    assert not torch.equal(three, last)


def test_a_kept_step_equals_the_end_of_a_training_of_so_many_steps(fitted):
    kept = load_student(step_directory(fitted(FULL, 2, 3, 99)[0], 3), fitted(FULL)[1].loading)
    assert torch.equal(weights(kept), weights(fitted(FULL, epochs=1)[1]))  # 3 steps, constant lr


def test_what_a_broken_off_training_kept_is_gone(fitted):
    assert not (fitted(FULL)[0] / "steps").exists()
    assert fitted(FULL)[2]["kept_steps"] == []


def test_steps_that_do_not_come_are_told_of_and_not_kept(fitted, capsys):
    directory = fitted(LORA, STEPS, STEPS + 1)[0]
    assert kept_on_disk(directory) == []
    told = " ".join(capsys.readouterr().err.split())
    assert f"not kept: the student after step {STEPS}, {STEPS + 1}" in told
    assert f"ends with step {STEPS}" in told


@pytest.mark.parametrize("given", [(3, 2), (2, 2)])
def test_steps_out_of_order_or_twice_are_refused(given: tuple[int, ...]):
    with pytest.raises(ConfigError, match=r"Give \[2"):
        KeepSteps(steps=given)


def test_only_whole_students_are_found(tmp_path: Path):
    step_directory(tmp_path, 10).mkdir(parents=True)
    step_directory(tmp_path, 9).mkdir(parents=True)
    (tmp_path / "steps/11").mkdir()
    assert kept_on_disk(tmp_path) == [9, 10]

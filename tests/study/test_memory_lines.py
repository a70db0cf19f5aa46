"""The plan says what a step needs and what there is; used-up memory is one screen with numbers."""

import re
from types import SimpleNamespace

import pytest
import torch

from heed.core.errors import RunError
from heed.models import memory
from heed.models.memory import GIB
from heed.study.memory import loading_memory, memory_lines, scoring_memory, training_memory

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def lines(student, recipe, around) -> list[str]:
    return memory_lines(student, recipe, around.trainer)


def test_a_step_that_fits_is_one_line(student, recipe_of, around, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 64 * GIB)
    (line,) = lines(student, recipe_of(), around)
    for part in ("weights", "gradients", "optimiser", "activations", "64.0 GiB are free (cpu)"):
        assert part in line


def test_a_step_that_does_not_fit_is_warned_of_with_what_needs_less(
    student, recipe_of, around, monkeypatch
):
    monkeypatch.setattr(memory, "free_memory", lambda device: 1)
    said = lines(student, recipe_of(micro_tokens=4096), around)
    assert said[1].startswith("WARNING: that is ")
    advised = "\n".join(said[2:])
    assert re.search(
        r"trainer\.activation_checkpointing=true: about [\d.]+ GiB \(the same", advised
    )
    assert re.search(r"method=qlora: about [\d.]+ GiB \(another run\)", advised)


def test_what_is_not_known_is_said(student, recipe_of, around, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: None)
    assert "what is free is not known" in lines(student, recipe_of(), around)[0]

    def fails(self):
        raise NotImplementedError("odd kernel")

    monkeypatch.setattr("heed.models.student.Scratch.skeleton", fails)
    (line,) = lines(student, recipe_of(), around)
    assert line.startswith("memory of a step: unknown, ")
    assert "odd kernel" in line


@pytest.mark.parametrize("error", [FULL, RuntimeError("can't allocate memory: 5"), MemoryError()])
def test_memory_that_is_used_up_in_training_is_one_screen(student, recipe_of, around, error):
    recipe = recipe_of()
    with pytest.raises(RunError) as caught, training_memory(student, recipe, around.trainer):
        raise error
    said = str(caught.value)
    assert "the memory of cpu is used up in the training of 'tiny'" in said
    assert "weights" in said
    assert "method=qlora: about" in said
    assert len(said.splitlines()) < 12


def test_memory_that_is_used_up_before_a_scoring_is_one_screen():
    said = pytest.raises(RunError, match=r"while run x is loaded to be scored.*trainer=cpu")
    with said, loading_memory("run x"):
        raise FULL


def test_memory_that_is_used_up_in_a_scoring_is_one_screen(loaded):
    backend = SimpleNamespace(batch_tokens=131072)
    with pytest.raises(RunError) as caught, scoring_memory(loaded, backend):
        raise FULL
    said = str(caught.value)
    pair = 2 * 2 * 2 * 8 * 4  # keys and values, layers, heads, width, bytes
    assert f"take {memory.in_gib(131072 * pair)} GiB" in said
    assert "suite.backend.batch_tokens=16384" in said


def test_a_backend_that_holds_its_own_memory_is_not_told_of_ours(loaded):
    said = pytest.raises(RunError, match=r"its weights take [\d.]+ GiB\.")
    with said, scoring_memory(loaded, SimpleNamespace()):
        raise FULL


@pytest.mark.parametrize("error", [RuntimeError("shapes"), ValueError("x"), RunError("said")])
def test_other_errors_pass(student, recipe_of, around, loaded, error):
    training = training_memory(student, recipe_of(), around.trainer)
    with pytest.raises(type(error), match=str(error)), training:
        raise error
    with pytest.raises(type(error), match=str(error)), scoring_memory(loaded, None):
        raise error

"""Rows are filled up where kernels are built by shape; what fills them changes nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heed.data.encode import Encoded
from heed.data.pack import flat_row
from heed.models import likelihood
from heed.models.likelihood import StudentLoss
from heed.models.shapes import STEP, half_precision, whole_number
from heed.models.sharing import why_alone


@given(st.integers(1, 2000))
def test_few_sizes_are_asked_for_and_none_is_smaller(rows: int):
    half = torch.zeros(1, dtype=torch.bfloat16)
    full = whole_number(rows, half)
    assert rows <= full < rows + STEP
    assert full % STEP == 0
    assert whole_number(rows, half.float()) == rows


def test_autocast_is_half_precision_whatever_the_weights_are():
    weights = torch.zeros(3)
    assert not half_precision(weights)
    with torch.autocast("cpu", torch.bfloat16):
        assert half_precision(weights)
        assert whole_number(3, weights) == STEP


def seen(row, model, monkeypatch, whole) -> tuple[torch.Tensor, dict[str, torch.Tensor], set[int]]:
    """Loss and gradient, and how many tokens went through the blocks."""
    monkeypatch.setattr(likelihood, "whole_number", whole)
    sizes: set[int] = set()
    hook = model.model.layers[0].mlp.register_forward_pre_hook(
        lambda _, given: sizes.add(given[0].shape[1])
    )
    model.zero_grad()
    nats, _ = StudentLoss(model)(row)
    nats.backward()
    hook.remove()
    return nats, {n: p.grad.clone() for n, p in model.named_parameters()}, sizes


def test_what_fills_a_row_changes_neither_loss_nor_gradient(student, monkeypatch):
    model = student.fresh().model
    assert why_alone(model) is None  # a look at the model, which is made once
    ids = torch.randint(2, 300, (60,), generator=torch.Generator().manual_seed(0)).tolist()
    examples = [Encoded("a", ids[:40], [n > 9 for n in range(40)]),
                Encoded("b", ids[40:], [n > 3 for n in range(20)])]  # fmt: skip
    row = flat_row(examples, pad=1)
    nats, gradient, sizes = seen(row, model, monkeypatch, lambda rows, _: rows)
    filled, other, more = seen(row, model, monkeypatch, lambda rows, _: rows + 37)
    assert (sizes, more) == ({60}, {97})
    torch.testing.assert_close(filled, nats, rtol=1e-6, atol=1e-6)
    for name, found in other.items():
        torch.testing.assert_close(found, gradient[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("packed", [False, True])
def test_packed_rows_are_filled_up_under_autocast(student, monkeypatch, packed):
    model = student.fresh().model
    assert why_alone(model) is None
    examples = [Encoded(n, [5, 6, 7, 8], [False, True, True, True]) for n in "ab"[: 1 + packed]]
    with torch.autocast("cpu", torch.bfloat16):
        *_, sizes = seen(flat_row(examples, pad=1), model, monkeypatch, whole_number)
    assert sizes == {STEP if packed else 4}

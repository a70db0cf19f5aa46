"""Properties of the key and value slots: rows come and go, and none disturbs another."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MambaConfig, MambaForCausalLM

from heed.core.errors import RunError
from heed.models.slots import Slots


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, eos_token_id=1, bos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def filled(model, rows: int, width: int) -> Slots:
    """A cache after reading `rows` random texts of `width` tokens."""
    cache = Slots(model)
    with torch.no_grad():
        model(torch.randint(2, 50, (rows, width)), past_key_values=cache)
    cache.columns.stop = width
    return cache


def used(cache: Slots) -> list[torch.Tensor]:
    """A copy of all keys and values in use."""
    part = slice(cache.columns.start, cache.columns.stop)
    return [t[:, :, part].clone() for layer in cache.layers for t in (layer.keys, layer.values)]


def test_making_room_keeps_what_is_in_use_and_says_how_far_it_moved(model):
    cache = filled(model, 3, 7)
    cache.columns.start = 2
    before = used(cache)
    assert cache.reserve(2) == 2
    assert cache.columns.start == 0
    assert cache.columns.width == 5
    assert cache.capacity > 5
    for old, new in zip(before, used(cache), strict=True):
        assert torch.equal(old, new)
    assert cache.reserve(0) == 0  # there is room now


def test_buffers_are_copied_rarely(model):
    cache = filled(model, 1, 4)
    copies = 0
    for _ in range(400):
        columns = cache.capacity
        cache.reserve(0)
        copies += cache.capacity != columns
        with torch.no_grad():
            model(torch.tensor([[5]]), past_key_values=cache)
        cache.columns.stop += 1
    assert cache.columns.width == 404
    assert copies < 20  # growing by half each time; the library's own cache copies 400 times


def test_a_newcomer_ends_where_the_others_end_and_leaves_them_alone(model):
    cache, newcomer = filled(model, 3, 7), filled(model, 1, 4)
    before, new = used(cache), used(newcomer)
    cache.place([1], newcomer)
    for old, now, came in zip(before, used(cache), new, strict=True):
        assert torch.equal(now[[0, 2]], old[[0, 2]])
        assert torch.equal(now[1, :, 3:], came[0])


def test_selected_rows_are_whole_and_in_order(model):
    cache = filled(model, 4, 5)
    before = used(cache)
    cache.select(torch.tensor([3, 1]))
    for old, now in zip(before, used(cache), strict=True):
        assert torch.equal(now, old[[3, 1]])


def test_a_model_that_keeps_another_state_is_refused_with_a_way_out():
    model = MambaForCausalLM(MambaConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1))
    with pytest.raises(RunError, match=r"MambaForCausalLM keeps .*backend=vllm"):
        Slots(model)

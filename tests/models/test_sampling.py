"""Tokens are drawn as often as they are likely, and never from outside of the chosen set."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from heed.models.sampling import Picker, Sampling, drawn

LOGITS = torch.tensor([[2.0, -1.0, 0.5, 1.0, -3.0]])


def frequencies(temperature: float, top_p: float, draws: int = 20_000) -> np.ndarray:
    """How often each token is drawn over evenly spread numbers."""
    uniform = ((np.arange(draws) + 0.5) / draws).tolist()
    found = drawn(LOGITS.expand(draws, -1), uniform, temperature, top_p)
    return np.bincount(found.numpy(), minlength=5) / draws


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_as_often_as_they_are_likely(temperature: float):
    expected = (LOGITS[0].double() / temperature).softmax(-1).numpy()
    assert frequencies(temperature, 1.0) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("top_p", "kept"), [(0.3, [0]), (0.7, [0, 3]), (0.9, [0, 2, 3])])
def test_the_smallest_set_that_reaches_the_share_is_drawn_from(top_p: float, kept: list[int]):
    chances = LOGITS[0].double().softmax(-1).numpy()
    expected = np.array([chances[i] if i in kept else 0 for i in range(5)])
    assert frequencies(1.0, top_p) == pytest.approx(expected / expected.sum(), abs=1e-4)


@given(
    st.lists(st.floats(-30, 30), min_size=2, max_size=20),
    st.floats(0, 1, exclude_max=True),
    st.floats(0.05, 3),
    st.floats(0.01, 1),
)
def test_what_is_drawn_has_a_chance_and_more_of_it_with_a_lower_temperature(
    logits, uniform, temperature, top_p
):
    given = torch.tensor([logits])
    (token,) = drawn(given, [uniform], temperature, top_p).tolist()
    ordered = sorted((given[0].double() / temperature).softmax(-1).tolist(), reverse=True)
    chance = float((given[0].double() / temperature).softmax(-1)[token])
    before = sum(c for c in ordered if c > chance)
    assert chance > 0
    assert before < top_p or chance == ordered[0]


def test_a_number_at_the_very_end_takes_the_last_token_that_may_be_drawn():
    logits = torch.tensor([[0.0, 0.0, float("-inf")]])
    assert drawn(logits, [1 - 2**-53], 1.0, 1.0).tolist() == [1]


def test_no_generator_is_used_for_the_likeliest_token_and_one_for_each_prompt():
    logits = torch.zeros(3, 50)
    logits[:, 7] = 1
    assert Picker(None, [[1], [2], [3]])(logits, [0, 1, 2]).tolist() == [7, 7, 7]
    sampling = Sampling(temperature=1.0, top_p=1.0, seed=0)
    one, two = Picker(sampling, [[1], [2]]), Picker(sampling, [[2]])
    assert one(logits[:2], [0, 1]).tolist()[1] == two(logits[:1], [0]).tolist()[0]


def test_answers_of_several_numbers_at_once_are_those_of_one_number_at_a_time():
    sampling = Sampling(temperature=1.0, top_p=1.0, seed=3)
    encoded, numbers = [[1], [2], [1], [2], [1]], [0, 0, 1, 1, 2]
    logits = torch.zeros(5, 1000)
    ways = [sampling.numbered(number) for number in numbers]
    together = Picker(ways, encoded)(logits, range(5)).tolist()
    for number in range(3):
        places = [place for place in range(5) if numbers[place] == number]
        alone = Picker(sampling.numbered(number), [encoded[place] for place in places])
        found = alone(logits[: len(places)], range(len(places))).tolist()
        assert found == [together[place] for place in places]
    assert len(set(together)) == 5
    assert Picker([], [])(logits[:0], []).tolist() == []


def test_ways_that_differ_in_more_than_their_number_are_refused():
    ways = [Sampling(temperature=t, top_p=1.0, seed=3) for t in (1.0, 0.5)]
    with pytest.raises(AssertionError, match="number alone"):
        Picker(ways, [[1], [2]])


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.1}])
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValidationError):
        Sampling(**{"temperature": 1.0, "top_p": 1.0, "seed": 0, **wrong})

"""Which step is taken: a pure function of the steps done and the losses measured."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.errors import ConfigError, RunError
from heed.training.choosing import refuse_impossible
from heed.training.rule import AtStep, Best, Last

LOSSES = st.lists(st.sampled_from([0.5, 1.0, 1.5, 2.0]), min_size=1, max_size=12)


@given(LOSSES, st.integers(1, 5))
def test_the_best_is_the_earliest_of_the_lowest_measured_losses(values: list[float], every: int):
    losses = {0: 0.0} | dict(enumerate(values, 1))
    steps = len(values)
    own = {n: v for n, v in losses.items() if n and (n % every == 0 or n == steps)}
    taken = Best(every_steps=every, patience=None).taken(steps, steps, losses)
    assert taken in own
    assert all(own[taken] < v for n, v in own.items() if n < taken)
    assert all(own[taken] <= v for n, v in own.items())


@given(LOSSES, st.integers(1, 4), st.integers(1, 3))
def test_patience_is_counted_in_measurements_since_the_best(values, every: int, patience: int):
    """Walked step by step, as a training does; ended where the reference ends."""
    best, since, steps = float("inf"), 0, 20
    rule, losses = Best(every_steps=every, patience=patience), {}
    for step, value in enumerate(values, 1):
        losses[step] = value
        if step % every == 0:
            since = 0 if value < best else since + 1
            best = min(best, value)
        ends = step % every == 0 and since >= patience
        assert rule.ends(step, steps, losses) == ends
        if ends:
            return


def test_what_others_measure_does_not_change_the_choice():
    rule = Best(every_steps=4, patience=1)
    plain = {4: 2.0, 8: 1.5}
    more = plain | {0: 0.1, 3: 0.2, 6: 0.3, 7: 0.1}
    assert rule.taken(8, 20, plain) == rule.taken(8, 20, more) == 8
    assert rule.ends(8, 20, plain) is rule.ends(8, 20, more) is False


def test_without_patience_or_choice_a_training_goes_to_its_end():
    worse = {step: float(step) for step in range(1, 9)}
    assert not Best(every_steps=1, patience=None).ends(8, 20, worse)
    assert not Last().ends(8, 20, worse)
    assert Last().taken(8, 20, worse) == 8
    assert not any(Last().measures(step, 8) for step in range(9))


def test_a_step_that_is_asked_for_is_the_last():
    rule = AtStep(step=3)
    assert [rule.ends(done, 9, {}) for done in (1, 2, 3)] == [False, False, True]
    assert rule.taken(3, 9, {}) == 3


def test_the_whole_command_is_checked_before_anything_loads(recipe_of):
    best = Best(every_steps=5, patience=None)
    with pytest.raises(ConfigError, match=r"data\.validation_share: no examples are kept apart"):
        recipe_of(checkpoint=best)
    assert recipe_of(checkpoint=best, validation_share=0.1).checkpoint is best
    with pytest.raises(ConfigError, match=r"checkpoint\.step: the training has 4 steps"):
        recipe_of(checkpoint=AtStep(step=5), steps=4, epochs=None)
    recipe_of(checkpoint=AtStep(step=4), steps=4, epochs=None)


def test_a_run_of_another_rule_is_another_run(recipe_of, student):
    from heed.training.run import Run

    ids = {
        Run(student=student, recipe=recipe_of(checkpoint=rule, validation_share=0.1)).id
        for rule in (
            Last(),
            AtStep(step=2),
            Best(every_steps=5, patience=None),
            Best(every_steps=5, patience=2),
        )
    }
    assert len(ids) == 4


def test_a_rule_that_the_data_allow_is_not_refused():
    for rule in (Last(), AtStep(step=6), Best(every_steps=50, patience=None)):
        refuse_impossible(SimpleNamespace(rule=rule), 6, kept_apart=True)
    best = SimpleNamespace(rule=Best(every_steps=50, patience=None))
    with pytest.raises(RunError, match="none"):
        refuse_impossible(best, 6, kept_apart=False)

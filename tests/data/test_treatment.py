"""A data treatment that contradicts itself is refused when it is made."""

import pytest

from heed.core.errors import ConfigError
from heed.data.treatment import Treatment

GOOD = {
    "max_tokens": 64, "over_long": "drop", "on_bad_row": "error", "duplicates": "keep",
    "loss_on": "every_turn", "validation_share": 0.0, "drop_contaminated": False,
    "packing": "best_fit", "limit": None, "examples_per_step": 4, "epochs": 1, "steps": None,
    "micro_tokens": 64,
}  # fmt: skip


@pytest.mark.parametrize("both", [{"epochs": 1, "steps": 5}, {"epochs": None, "steps": None}])
def test_exactly_one_of_epochs_and_steps_says_how_long(both: dict):
    with pytest.raises(ConfigError, match="exactly one of them says how long"):
        Treatment(**(GOOD | both))


def test_a_row_that_could_not_hold_the_longest_example_is_refused():
    with pytest.raises(ConfigError, match=r"Give data\.micro_tokens at least 64"):
        Treatment(**(GOOD | {"micro_tokens": 63}))

"""Recorded preferences of the real judge, and what was judged."""

from pathlib import Path

import pytest

from heed.data.preferences import keys_of, outputs_of, read_preferences


@pytest.mark.shared
def test_the_real_matrix_is_read_whole(shared_data: Path):
    found = read_preferences(shared_data / "alpaca_eval/ae2_preference_matrix.csv.gz", "0 to 1")
    assert len(found) == 58
    assert {len(column) for column in found.values()} == {805}
    assert found["gemma-2b-it"]["0"] == 0.00001
    assert found["NullModel"]["0"] == 0.99001


@pytest.mark.shared
def test_what_was_judged_is_read_by_instruction(shared_data: Path):
    assert len(outputs_of(shared_data / "alpaca_eval/outputs/phi-2.jsonl.gz")) == 803


@pytest.mark.shared
def test_every_judged_instruction_has_a_key_of_the_table(shared_data: Path):
    keys = keys_of(shared_data / "alpaca_eval/instructions.jsonl.gz")
    table = read_preferences(shared_data / "alpaca_eval/ae2_preference_matrix.csv.gz", "0 to 1")
    assert set(keys.values()) == set(table["gemma-2b-it"])

"""A profile counts the steps after the first few, and is a table in the run."""

from dataclasses import replace
from pathlib import Path

import pytest

from heed.training.fit import fit
from heed.training.profile import Profile


@pytest.mark.parametrize(("skip", "steps"), [(0, 3), (2, 1)])
def test_the_steps_behind_the_first_are_profiled(
    skip, steps, recipe_of, around, loaded, tmp_path: Path, capsys
):
    watchers = {"profile": Profile(skip=skip, rows=5)}
    fit(recipe_of(), loaded, replace(around, callbacks=watchers), tmp_path)
    table = (tmp_path / "profile.txt").read_text()
    assert table.startswith(f"{steps} optimiser steps\n")
    assert "aten::" in table
    printed = capsys.readouterr().err
    assert f"{steps} steps profiled" in printed
    shares = [float(line.split("%")[0]) for line in printed.splitlines() if " calls  " in line]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 100


def test_a_training_that_is_shorter_than_what_is_skipped_writes_no_table(
    recipe_of, around, loaded, tmp_path: Path
):
    fit(recipe_of(), loaded, replace(around, callbacks={0: Profile(skip=9, rows=5)}), tmp_path)
    assert not (tmp_path / "profile.txt").exists()

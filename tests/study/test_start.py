"""A command runs its cell here, one of several in a process of its own."""

import pytest
from stubs import CONF, a_cell

from heed.core.compose import compose_component
from heed.core.errors import ConfigError
from heed.study import apart, run_cell, start
from heed.study.study import Sweep


@pytest.mark.parametrize(("several", "where"), [(False, "here"), (True, "apart")])
def test_one_of_several_cells_has_a_process_of_its_own(tmp_path, monkeypatch, several, where):
    cell, ran = a_cell(tmp_path), []
    monkeypatch.setattr(start, "one_of_several", lambda: several)
    monkeypatch.setattr(run_cell, "run_cell", lambda cell: ran.append(("here", cell)))
    monkeypatch.setattr(apart, "run_apart", lambda cell: ran.append(("apart", cell)) or 0.5)
    assert start.start(cell) == (0.5 if several else None)
    assert ran == [(where, cell)]


@pytest.mark.parametrize(("chosen", "named"), [(["study=playground"], "playground"), ([], "none")])
def test_a_study_is_for_heeds_own_sweeper(chosen, named):
    command = compose_component(CONF, "sweep", chosen)
    assert isinstance(command, Sweep)
    with pytest.raises(ConfigError, match=rf"here: {named}.*Leave hydra/sweeper out"):
        start.needs_sweeper(command)

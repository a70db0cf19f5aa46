"""What the tests of the study share: a finished cell."""

import pytest
from tiny import Finished, run_twice_at_once


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The tiny cell, run by two processes at once; tests that change it take a copy."""
    return run_twice_at_once(tmp_path_factory.mktemp("outputs"))

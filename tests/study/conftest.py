"""What the tests of the study share: a finished cell."""

import os
import shutil

import pytest
from filelock import FileLock
from tiny import Finished, cell, run_twice_at_once

from heed.core.files import read_json, write_json


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The tiny cell, run by two processes at once; tests that change it take a copy.

    Of several test processes the first makes it; the others copy what it was then.
    """
    own, shared = tmp_path_factory.mktemp("finished"), tmp_path_factory.getbasetemp().parent
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return run_twice_at_once(own)
    kept, told = shared / "finished", shared / "finished.json"
    with FileLock(shared / "finished.lock"):
        if not told.exists():
            made = run_twice_at_once(own)
            shutil.copytree(own, kept)
            write_json(told, {"root": str(own), "printed": made.printed})
            return made
    first = read_json(told)
    shutil.copytree(kept, own, dirs_exist_ok=True)
    printed = [
        (code, *(text.replace(first["root"], str(own)) for text in texts))
        for code, *texts in first["printed"]
    ]
    return Finished(own, cell(own), printed)

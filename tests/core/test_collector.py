"""What is imported is not searched for garbage; everything else is, as before."""

import gc
import subprocess
import sys

import pytest

from heed.core.collector import loading

ENDING = """
import gc
from heed.core.collector import loading
with loading():
    import colorsys
made, ended = gc.get_freeze_count(), []
assert made, "what was imported is set aside"
import atexit
class Late: pass
kept = [Late() for _ in range(1000)]
atexit._run_exitfuncs()
assert gc.get_freeze_count() >= made + 1000, "all is set aside at the end"
"""


@pytest.fixture(autouse=True)
def as_it_was():
    """No other test has its objects set aside by these, and what stays is set aside as it was."""
    yield
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.enable()


def test_a_block_that_imports_is_not_searched_and_its_modules_stay_out(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    before, searches = gc.get_freeze_count(), []
    note = lambda phase, _: searches.append(phase)  # noqa: E731
    gc.callbacks.append(note)
    try:
        with loading():
            import colorsys  # noqa: F401

            kept = [[] for _ in range(200_000)]
            assert not searches
            assert not gc.isenabled()
    finally:
        gc.callbacks.remove(note)
    assert len(kept) == 200_000
    assert gc.isenabled()
    assert gc.get_freeze_count() > before


def test_a_block_that_imports_nothing_sets_nothing_aside():
    before = gc.get_freeze_count()
    with loading():
        import sys as again  # noqa: F401
    assert gc.get_freeze_count() == before
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off_and_an_error_turns_it_on_again():
    with pytest.raises(ImportError), loading():
        import no_such_module_of_anybody  # noqa: F401
    assert gc.isenabled()
    gc.disable()
    with loading():
        pass
    assert not gc.isenabled()


def test_at_the_end_of_the_process_everything_is_set_aside():
    made = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr

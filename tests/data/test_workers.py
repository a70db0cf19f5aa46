"""Work spread over threads comes back in order, and its failures come back too."""

import itertools
import os
import threading

import pytest

from heed.data.workers import PARALLELISM, in_order, tokenizer_unthreaded


def squared(number: int) -> tuple[int, int]:
    if number == 13:
        raise ValueError("thirteen")
    return number * number, threading.get_ident()


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("count", [0, 2, 12])
def test_results_come_in_the_order_of_the_work(workers: int, count: int):
    found = list(in_order(squared, iter(range(count)), workers))
    assert [value for value, _ in found] == [n * n for n in range(count)]
    assert threading.get_ident() not in {place for _, place in found}


def test_pieces_of_work_are_done_at_the_same_time():
    both = threading.Barrier(2, timeout=60)  # breaks if one has to end before the other begins
    assert len(list(in_order(lambda _: both.wait(), iter(range(4)), 2))) == 4


@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_work_raises_is_raised_here(workers: int):
    with pytest.raises(ValueError, match="thirteen"):
        list(in_order(squared, iter(range(20)), workers))


def test_no_more_is_read_than_the_workers_need():
    read: list[int] = []
    works = (read.append(n) or n for n in itertools.count(14))
    results = in_order(squared, works, 2)
    next(results)
    results.close()
    assert len(read) < 6


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_a_failure_to_read_on_comes_behind_the_results_of_what_was_read(workers: int):
    def works():
        yield from range(4)
        raise KeyError("no fifth")

    results = in_order(squared, works(), workers)
    assert [next(results)[0] for _ in range(4)] == [0, 1, 4, 9]
    with pytest.raises(KeyError, match="no fifth"):
        next(results)


@pytest.mark.parametrize("before", [None, "true"])
def test_the_tokenizer_starts_no_threads_while_ours_work(
    before: str | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv(PARALLELISM, raising=False)
    if before is not None:
        monkeypatch.setenv(PARALLELISM, before)
    with tokenizer_unthreaded():
        assert os.environ[PARALLELISM] == "false"
    assert os.environ.get(PARALLELISM) == before

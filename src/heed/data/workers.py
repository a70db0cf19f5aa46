"""Work spread over threads, with the results in the order of the work.

Threads and not processes: nearly all the time is spent inside the tokenizer, which lets other
threads run meanwhile. Rows need not be copied to another process and tokens not back, which cost a
fifth of the speed, and nothing outlives a process that is killed.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Work = TypeVar("Work")
Done = TypeVar("Done")


PARALLELISM = "TOKENIZERS_PARALLELISM"


@contextmanager
def tokenizer_unthreaded() -> Iterator[None]:
    """The tokenizer spells a batch in the thread that asks, and starts none of its own.

    Each of our threads takes a batch; threads of threads are in each other's way and cost a fifth
    of the speed. The tokenizer looks at this variable at every call.
    """
    before = os.environ.get(PARALLELISM)
    os.environ[PARALLELISM] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[PARALLELISM]
        else:
            os.environ[PARALLELISM] = before


def in_order(
    function: Callable[[Work], Done], works: Iterator[Work], workers: int
) -> Generator[Done, None, None]:
    """Apply a function to each piece of work; the results come in the same order.

    Args:
        function: Depends on nothing but its argument, and changes nothing.
        works: Read in the caller's thread, as far ahead as the workers need, no further.
        workers: Threads beside the caller's. One is worth it too: the same work in the main
            thread, whose heap is shared with everything else, took a fifth longer.

    Raises:
        Exception: whatever the function or the iterator raises; the iterator's comes after the
            results of everything that it gave before.
    """
    pool = ThreadPoolExecutor(workers)
    try:
        under_way: deque[Future[Done]] = deque()
        failures: list[Exception] = []
        for work in _until_failure(works, failures):
            under_way.append(pool.submit(function, work))
            if len(under_way) > workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
        for failure in failures:
            raise failure
    finally:
        pool.shutdown(cancel_futures=True)


def _until_failure(works: Iterator[Work], failures: list[Exception]) -> Iterator[Work]:
    """The works up to the first failure of their iterator, which is kept to be raised later."""
    try:
        yield from works
    except Exception as error:
        failures.append(error)

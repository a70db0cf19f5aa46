"""What torch's allocator gave while something ran."""

from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity, profile


def most(run: Callable[[], Any]) -> int:
    """Most bytes that were given at a time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    given = sorted(
        (event.start_ns(), event.nbytes())
        for event in seen.profiler.kineto_results.events()
        if event.name() == "[memory]"
    )
    alive = peak = 0
    for _, size in given:
        alive += size
        peak = max(peak, alive)
    return peak

import os
import subprocess
import sys

import pytest
import torch

from heed.training.processor import use_processor

FAULTS = """
import resource, sys, torch
from heed.training.processor import use_processor
use_processor(1, sys.argv[1])
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    for _ in range(10):
        torch.ones(16 * 2**20)
work()
before = faults()
work()
print((faults() - before) * resource.getpagesize() // 2**20)
"""


def asked_again(device: str, **environment: str) -> int:
    """MiB that ten tensors of 64 MiB, one after another, asked the system for a second time."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    line = [sys.executable, "-c", FAULTS, device]
    return int(subprocess.check_output(line, env=clean | environment, text=True))


@pytest.mark.slow
def test_memory_of_tensors_that_ended_is_kept():
    assert asked_again("cuda") >= 320  # what glibc does by itself, and may where a GPU computes
    assert asked_again("cpu") < 64


@pytest.mark.slow
def test_an_allocator_that_was_set_by_hand_is_left_as_it_is():
    assert asked_again("cpu", MALLOC_MMAP_THRESHOLD_="1048576") >= 320


def test_threads_are_what_was_asked_and_torchs_choice_otherwise():
    before = torch.get_num_threads()
    try:
        use_processor(2, "cpu")
        assert torch.get_num_threads() == 2
        use_processor(None, "cpu")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)

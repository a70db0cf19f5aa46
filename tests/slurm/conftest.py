"""One SLURM for all tests that ask for it."""

from collections.abc import Iterator

import pytest
from cluster import Cluster, lacking


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A SLURM of one node; tests that ask for it skip where none can be started."""
    if reason := lacking():
        pytest.skip(reason)
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()

"""Tensors that ranks have written in pieces are whole again, on any number of ranks, or refused."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked import run_ranks
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from heed.core import ranks
from heed.core.files import digest_file
from heed.training import pieces
from heed.training.pieces import Pieces, common_directory, write_pieces

WORLDS = (1, 2, 3)
NAME = "weights.safetensors"
RANDOM = 12
"""Sets of tensors of random shapes and types."""


class Odd(torch.nn.Module):
    """Parameters of as many rows as ranks, of fewer, and of numbers that they do not share."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(5)
        for rows in (1, 2, 5, 7):
            self.register_parameter(
                f"rows{rows}", torch.nn.Parameter(torch.randn(rows, 3, generator=draw))
            )
        self.vector = torch.nn.Parameter(torch.randn(4, generator=draw))


def wholes(number: int) -> dict[str, torch.Tensor]:
    """A set of tensors, of which names that begin with `cut` are to be divided."""
    random = np.random.default_rng(number)
    types = (torch.float32, torch.bfloat16, torch.int64, torch.uint8)
    found: dict[str, torch.Tensor] = {}
    for index in range(6):
        shape = random.integers(1, 6, size=random.integers(1, 4)).tolist()
        made = torch.from_numpy(random.integers(0, 99, size=shape)).to(types[index % 4])
        found[f"{'cut' if index < 4 else 'kept'}{index}"] = made
    return found | {"step": torch.tensor(3.0), "turned": torch.arange(6.0).reshape(2, 3).T}


def write_all(root: Path) -> dict[str, dict[str, str]]:
    """Write every set as this rank; the digests of each."""
    mesh = init_device_mesh("cpu", (ranks.world(),))
    digests = {}
    for number in range(RANDOM):
        tensors = {
            name: distribute_tensor(whole, mesh, [Shard(0)]) if name.startswith("cut") else whole
            for name, whole in wholes(number).items()
        }
        folder = root / str(number)
        digests[str(number)] = in_common(folder, tensors)
    module = fully_shard(Odd(), mesh=mesh)
    parts = dict(module.named_parameters())
    assert all(isinstance(part, DTensor) for part in parts.values())
    digests["odd"] = in_common(root / "odd", parts)
    row = torch.ones(4)
    digests["whole"] = in_common(root / "whole", {"a": row, "b": row, "c": row[1:]})
    return digests


def in_common(folder: Path, tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    with common_directory(folder) as beside:
        return write_pieces(beside, NAME, tensors)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[int, tuple[Path, list[Any]]]:
    """What groups of one, two and three ranks have written: where, and what each rank was told."""
    found = {}
    for world in WORLDS:
        root = tmp_path_factory.mktemp(f"by{world}")
        found[world] = root, run_ranks(world, partial(write_all, root))
    return found


@pytest.mark.parametrize("world", WORLDS)
def test_what_was_cut_is_whole_again_to_the_last_bit(written, world: int):
    root, told = written[world]
    expected = {str(number): wholes(number) for number in range(RANDOM)}
    expected["odd"] = {n: p.detach() for n, p in Odd().named_parameters()}
    for name, tensors in expected.items():
        read = Pieces(root / name, NAME, told[0][name])
        assert sorted(read) == sorted(tensors)
        assert len(read) == len(tensors)
        for key, tensor in tensors.items():
            assert read[key].dtype == tensor.dtype
            assert read[key].shape == tensor.shape
            assert torch.equal(read[key], tensor), (name, key)


@pytest.mark.parametrize("world", WORLDS)
def test_every_rank_knows_the_digest_of_every_file(written, world: int):
    root, told = written[world]
    for of_rank in told:
        assert of_rank == told[0]
    for name, digests in told[0].items():
        there = {path.name: digest_file(path) for path in (root / name).iterdir()}
        assert digests == there


@pytest.mark.parametrize("world", WORLDS)
def test_each_rank_writes_its_part_and_the_leader_what_is_not_divided(written, world: int):
    root, told = written[world]
    names = [f"weights-{rank}-of-{world}.safetensors" for rank in range(world)]
    assert sorted(told[0]["0"]) == names
    for rank, name in enumerate(names):
        with safe_open(root / "0" / name, framework="pt") as file:
            keys = set(file.keys())
        assert {key for key in keys if key.startswith("cut")} == {f"cut{i}" for i in range(4)}
        assert ({"kept4", "kept5", "step", "turned"} <= keys) == (rank == 0)
    held = sum((root / "odd" / name).stat().st_size for name in told[0]["odd"])
    assert held < 4 * sum(p.numel() for p in Odd().parameters()) + 1000 * world, "nothing is twice"


@pytest.mark.parametrize("world", WORLDS)
def test_what_nobody_has_divided_is_one_file_with_its_own_name(written, world: int):
    root, told = written[world]
    assert list(told[0]["whole"]) == [NAME]
    read = Pieces(root / "whole", NAME, told[-1]["whole"])
    assert {key: read[key].tolist() for key in read} == {
        "a": [1.0] * 4, "b": [1.0] * 4, "c": [1.0] * 3,
    }  # fmt: skip


@given(st.integers(1, 14), st.integers(0, 40), st.randoms(use_true_random=False))
def test_pieces_are_put_together_in_the_order_of_the_ranks_not_of_their_names(
    tmp_path_factory, world: int, rows: int, random
):
    folder, whole = tmp_path_factory.mktemp("many"), torch.arange(rows)
    digests = {"optimizer-0-of-1.safetensors": "of another"}
    for rank, part in enumerate(whole.tensor_split(world)):
        path = folder / f"weights-{rank}-of-{world}.safetensors"
        save_file({"a": part.clone()}, path)
        digests[path.name] = digest_file(path)
    shuffled = list(digests.items())
    random.shuffle(shuffled)
    assert torch.equal(Pieces(folder, NAME, dict(shuffled))["a"], whole)


@pytest.fixture
def by_two(written, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A copy of what two ranks have written, to be damaged."""
    root, told = written[2]
    for path in (root / "0").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path, told[0]["0"]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_byte_that_has_changed_is_refused(by_two, rank: int):
    folder, digests = by_two
    path = folder / f"weights-{rank}-of-2.safetensors"
    said = bytearray(path.read_bytes())
    said[-1] ^= 1
    path.write_bytes(said)
    with pytest.raises(ValueError, match=rf"weights-{rank}-of-2\.safetensors is not what was wri"):
        Pieces(folder, NAME, digests)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_file_that_is_gone_is_refused(by_two, rank: int):
    folder, digests = by_two
    (folder / f"weights-{rank}-of-2.safetensors").unlink()
    with pytest.raises(OSError, match=rf"weights-{rank}-of-2"):
        Pieces(folder, NAME, digests)


def test_a_name_that_nobody_has_written_is_refused(by_two):
    folder, digests = by_two
    with pytest.raises(ValueError, match=r"no file of optimizer\.safetensors was written"):
        Pieces(folder, "optimizer.safetensors", digests)
    with pytest.raises(KeyError, match="no such tensor"):
        Pieces(folder, NAME, digests)["no such tensor"]


def share_a_folder(path: Path) -> tuple[str, bool, list[str]]:
    """Write into one folder; the others' last step is slow, and the leader's even more."""
    real = pieces.whole_directory

    @contextmanager
    def slow(where: Path) -> Iterator[Path]:
        with real(where) as beside:
            yield beside
            time.sleep(0.2)

    pieces.whole_directory = slow
    with common_directory(path) as beside:
        time.sleep(0.1 * ranks.rank())
        (beside / f"{ranks.rank()}").write_text("")
        hidden = not path.exists()
    return beside.name, hidden, sorted(one.name for one in path.iterdir())


def test_a_common_directory_has_its_name_when_all_have_left_it_and_not_before(tmp_path: Path):
    told = run_ranks(3, partial(share_a_folder, tmp_path / "made"))
    assert len({beside for beside, _, _ in told}) == 1, "all write to the same"
    assert [rest for _, *rest in told] == [[True, ["0", "1", "2"]]] * 3
    assert [one.name for one in tmp_path.iterdir()] == ["made"]


def end_within(path: Path, rank: int, how: str) -> None:
    with common_directory(path) as beside:
        (beside / f"{ranks.rank()}").write_text("")
        if ranks.rank() == rank and how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if ranks.rank() == rank:
            raise ZeroDivisionError


@pytest.mark.parametrize("how", ["killed", "raises"])
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("before", [False, True])
def test_a_rank_that_ends_within_leaves_what_was_there(rank, how, before, tmp_path: Path):
    path = tmp_path / "made"
    if before:
        path.mkdir()
        (path / "old").write_text("old")
    with pytest.raises(AssertionError, match="rank 0 of 2"):  # the other one notices, too
        run_ranks(2, partial(end_within, path, rank, how))
    assert path.exists() == before
    assert [one.name for one in path.glob("*")] == ["old"] * before
    assert not list(tmp_path.glob(".made.*")) or (rank, how) == (0, "killed")

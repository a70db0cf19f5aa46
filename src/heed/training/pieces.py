"""Tensors in safetensors files, whole or in pieces: each rank writes what it holds.

A tensor that is divided among ranks is cut along its first dimension, in the order of the ranks;
any number of ranks, also one, puts the pieces together again. (torch's own format for such
checkpoints has an index that is unpickled, so a file could run code when it is read.)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import compress
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from heed.core.files import digest_file, whole_directory
from heed.core.ranks import everybody, from_leader, leads, rank, world


def write_pieces(folder: Path, name: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Write what this rank holds, through to the disk; all ranks call.

    Args:
        folder: Where.
        name: Of the file, `weights.safetensors`; in pieces it becomes `weights-0-of-2.safetensors`.
        tensors: The same names on every rank; what is not divided is written by the leader alone.

    Returns:
        The digest of each file, by its name, for all ranks.
    """
    divided = any(isinstance(tensor, DTensor) for tensor in tensors.values())
    own = {
        key: tensor.to_local() if isinstance(tensor, DTensor) else tensor
        for key, tensor in tensors.items()
        if leads() or isinstance(tensor, DTensor)
    }
    written = {}
    if leads() or divided:
        stem, _, kind = name.rpartition(".")
        path = folder / (f"{stem}-{rank()}-of-{world()}.{kind}" if divided else name)
        save_file(_apart(own), path)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        written[path.name] = digest_file(path)
    return {key: digest for one in everybody(written) for key, digest in one.items()}


class Pieces(Mapping[str, Tensor]):
    """The tensors of a checkpoint, whole and on the CPU; one is read when it is asked for."""

    def __init__(self, folder: Path, name: str, digests: Mapping[str, str]):
        """Look at the files.

        Args:
            folder: Where.
            name: Of the file, as it was given to `write_pieces`.
            digests: What `write_pieces` returned.

        Raises:
            ValueError: a file is not what was written.
            OSError: one is gone.
        """
        stem, _, kind = name.rpartition(".")
        found = [one for one in digests if one == name or one.startswith(f"{stem}-")]
        found.sort(key=lambda one: int(one.split("-")[1]) if one != name else 0)
        if not found:
            raise ValueError(f"no file of {stem}.{kind} was written")
        for one in found:
            if digest_file(folder / one) != digests[one]:
                raise ValueError(f"{one} is not what was written")
        self.files = [safe_open(folder / one, framework="pt") for one in found]
        self.keys_of = [frozenset(file.keys()) for file in self.files]

    def __getitem__(self, key: str) -> Tensor:
        held = (key in own for own in self.keys_of)
        parts = [file.get_tensor(key) for file in compress(self.files, held)]
        if not parts:
            raise KeyError(key)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(key for own in self.keys_of for key in sorted(own)))

    def __len__(self) -> int:
        return len(frozenset().union(*self.keys_of))


@contextmanager
def common_directory(path: Path) -> Iterator[Path]:
    """`whole_directory` for all ranks: one that all may write to; whole when all have left it."""
    with ExitStack() as stack:
        beside = stack.enter_context(whole_directory(path)) if leads() else None
        yield from_leader(beside)
        everybody(None)
    everybody(None)  # it has its name


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Tensors on the CPU, none of which shares memory with another, as the format wants it."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        here = tensor.detach().cpu().contiguous()
        place = here.untyped_storage().data_ptr()
        whole = here.untyped_storage().nbytes() == here.nbytes
        found[name] = here if whole and place not in seen else here.clone()
        seen.add(place)
    return found

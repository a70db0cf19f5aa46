"""The GPUs of this machine, and which of them a process may use; counted without torch."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from heed.core.errors import RunError

VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
BY_BUS = "PCI_BUS_ID"
SHOWN = "HEED_SHOWN_GPUS"
"""What a sweep was shown, for its jobs on this machine: submitit hides all GPUs from them."""

ALL = "all"
"""The same of a sweep from which none was kept."""

DRIVER = Path("/proc/driver/nvidia/gpus")
"""Where NVIDIA's driver lists the GPUs of the machine, a folder for each, named by its bus."""

ANSWER_SECONDS = 60.0
"""`nvidia-smi` may take so long: many, where it has to load the driver first."""


@dataclass(frozen=True)
class Gpu:
    """One GPU of this machine.

    Attributes:
        name: Of its model.
        uuid: What names it to CUDA, whatever the order; "" where the driver does not tell.
        slices: The same of the slices (MIG) that it is cut into.
    """

    name: str
    uuid: str
    slices: tuple[str, ...] = ()


def gpus() -> list[Gpu]:
    """The GPUs of this machine in the order of their buses, counted without torch."""
    program = shutil.which("nvidia-smi")
    if program is not None:
        with suppress(subprocess.TimeoutExpired):
            done = subprocess.run(  # noqa: S603 (it is NVIDIA's)
                [program, "-L"], capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
            )
            if done.returncode == 0:
                return parsed(done.stdout)
    return from_driver(DRIVER)


def parsed(listing: str) -> list[Gpu]:
    """What `nvidia-smi -L` prints.

    Example:
        >>> parsed("GPU 0: NVIDIA H200 (UUID: GPU-1f-2a)")
        [Gpu(name='NVIDIA H200', uuid='GPU-1f-2a', slices=())]
    """
    found: list[Gpu] = []
    for line in listing.splitlines():
        if gpu := re.match(r"GPU \d+: (.*) \(UUID: (\S+)\)", line):
            found.append(Gpu(gpu[1], gpu[2]))
        elif part := re.match(r"\s+MIG .*\(UUID: (\S+)\)", line):
            last = found[-1]
            found[-1] = Gpu(last.name, last.uuid, (*last.slices, part[1]))
    return found


def from_driver(folder: Path) -> list[Gpu]:
    """What the driver lists; the order of names is that of buses.

    Args:
        folder: `DRIVER`.
    """
    found = []
    for about in sorted(folder.glob("*/information")):
        lines = about.read_text(errors="replace").splitlines()
        known = {key.strip(): value.strip() for key, _, value in (s.partition(":") for s in lines)}
        uuid = known.get("GPU UUID", "")
        hidden = "?" in uuid  # the driver is idle, and has not asked it yet
        found.append(Gpu(known.get("Model", ""), "" if hidden else uuid))
    return found


def allowed(found: Sequence[Gpu], visible: str | None, order: str | None) -> list[str]:
    """What names the GPUs to CUDA that a process may use; of one that is cut, its slices.

    CUDA takes the entries of CUDA_VISIBLE_DEVICES up to the first that names nothing, and none at
    all where one comes twice. An index is taken in the order of the buses, as `nvidia-smi` counts;
    CUDA itself counts the fastest first unless it is told otherwise.

    Args:
        found: All of the machine.
        visible: CUDA_VISIBLE_DEVICES; None: all.
        order: CUDA_DEVICE_ORDER.

    Raises:
        RunError: an index, and the two orders may differ.

    Example:
        >>> two = [Gpu("H200", "GPU-a"), Gpu("H200", "GPU-b")]
        >>> allowed(two, "1,0", None), allowed(two, "0,-1,1", None), allowed(two, "", None)
        (['GPU-b', 'GPU-a'], ['GPU-a'], [])
    """
    names = [(gpu.slices or (gpu.uuid or str(place),)) for place, gpu in enumerate(found)]
    if visible is None:
        return [one for of_gpu in names for one in of_gpu]
    chosen: list[str] = []
    for entry in (part.strip() for part in visible.split(",")):
        named = _named(entry, found, names)
        if not named:
            break
        if entry.isdecimal() and len({gpu.name for gpu in found}) > 1 and order != BY_BUS:
            raise RunError(
                f"{VISIBLE}={visible}: the GPUs of this machine differ, and CUDA counts them by "
                f"speed where nvidia-smi counts by place, so {entry} may be another than meant. "
                f"Give {ORDER}={BY_BUS} as well, or the names that nvidia-smi -L shows (GPU-...)."
            )
        if set(named) & set(chosen):
            return []
        chosen += named
    return chosen


def _named(entry: str, found: Sequence[Gpu], names: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """What one entry of CUDA_VISIBLE_DEVICES stands for; nothing where it names no GPU.

    CUDA takes the beginning of a UUID for it if no other begins so.
    """
    if entry.isdecimal():
        return names[int(entry)] if int(entry) < len(names) else ()
    if not entry.startswith(("GPU-", "MIG-")):
        return ()
    whole = [names[place] for place, gpu in enumerate(found) if gpu.uuid.startswith(entry)]
    parts = [(part,) for gpu in found for part in gpu.slices if part.startswith(entry)]
    fits = [*whole, *parts]
    return fits[0] if len(fits) == 1 else ()


def places(found: Sequence[Gpu]) -> dict[str, str]:
    """The index of each GPU by its name, counted as `nvidia-smi` does; none where one is cut.

    Libraries that read CUDA_VISIBLE_DEVICES themselves may know only indices there (vLLM before
    0.24). What CUDA counts on a machine with slices depends on its version; names hold there too.

    Args:
        found: All of the machine.

    Example:
        >>> places([Gpu("H200", "GPU-a"), Gpu("H200", "GPU-b")])
        {'GPU-a': '0', 'GPU-b': '1'}
    """
    if any(gpu.slices for gpu in found):
        return {}
    return {gpu.uuid or str(place): str(place) for place, gpu in enumerate(found)}

"""GPUs are counted as the driver lists them, and CUDA_VISIBLE_DEVICES is read as CUDA reads it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.errors import RunError
from heed.study import gpus as module
from heed.study.gpus import BY_BUS, Gpu, allowed, from_driver, gpus, parsed, places

A, B, C = (Gpu("NVIDIA H200", f"GPU-{x}0-1234-5678") for x in "abc")
SLOW = Gpu("Tesla T4", "GPU-d0-1234-5678")
CUT = Gpu("NVIDIA A100", "GPU-e0-1234-5678", ("MIG-1a", "MIG-2b"))
THREE = (A, B, C)
LISTING = """\
GPU 0: NVIDIA H200 (UUID: GPU-a0-1234-5678)
GPU 1: NVIDIA A100 (UUID: GPU-e0-1234-5678)
  MIG 3g.20gb     Device  0: (UUID: MIG-1a)
  MIG 3g.20gb     Device  1: (UUID: MIG-2b)
GPU 2: Tesla T4 (Rev. 2) (UUID: GPU-d0-1234-5678)
"""
ABOUT = "Model: \t\t {}\nIRQ:   \t\t 53\nGPU UUID: \t {}\nBus Type: \t PCIe\n"


def fake_smi(folder: Path, code: str, monkeypatch) -> None:
    """A machine whose `nvidia-smi` is a script."""
    folder.mkdir(exist_ok=True)
    script = folder / "nvidia-smi"
    script.write_text(f"#!/bin/sh\n{code}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def lists_driver(folder: Path, *found: tuple[str, str, str]) -> Path:
    for bus, name, uuid in found:
        (folder / bus).mkdir(parents=True)
        (folder / bus / "information").write_text(ABOUT.format(name, uuid))
    return folder


def test_the_listing_of_nvidia_smi_is_read_with_slices_and_odd_names():
    assert parsed(LISTING) == [A, CUT, Gpu("Tesla T4 (Rev. 2)", SLOW.uuid)]
    assert parsed("No devices found.\n") == []


def test_the_driver_is_asked_where_nvidia_smi_is_not_or_fails_or_hangs(tmp_path, monkeypatch):
    driver = lists_driver(
        tmp_path / "gpus",
        ("0000:41:00.0", "NVIDIA H200", B.uuid),
        ("0000:04:00.0", "NVIDIA H200", A.uuid),
    )
    monkeypatch.setattr(module, "DRIVER", driver)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.2)
    assert gpus() == [A, B]
    for code in ("echo 'NVIDIA-SMI has failed'; exit 9", "exec sleep 20"):
        fake_smi(tmp_path / "bin", code, monkeypatch)
        assert gpus() == [A, B]
    fake_smi(tmp_path / "bin", f"cat <<'X'\n{LISTING}X", monkeypatch)
    assert len(gpus()) == 3


def test_without_a_driver_there_are_none(tmp_path):
    assert from_driver(tmp_path / "none") == []


def test_a_gpu_that_is_not_named_yet_goes_by_its_place(tmp_path):
    hidden = ("0000:04:00.0", "NVIDIA H200", "GPU-????????-????-????-????-????????????")
    (found,) = from_driver(lists_driver(tmp_path, hidden))
    assert found == Gpu("NVIDIA H200", "")
    assert allowed([found], None, None) == allowed([found], "0", None) == ["0"]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [A, B, C]),
        ("", []),
        ("0,1,2", [A, B, C]),
        ("2, 0", [C, A]),
        ("0,-1,1", [A]),
        ("1,7,0", [B]),  # up to the first that names nothing
        ("NoDevFiles", []),
        ("1,1", []),  # twice: CUDA takes none
        ("GPU-b0-1234-5678", [B]),
        ("GPU-c,GPU-a", [C, A]),  # the beginning of a name is enough
        ("GPU-", []),  # of several
        ("GPU-z", []),
    ],
)
def test_the_visible_ones_are_those_that_cuda_would_take(visible: str | None, expected):
    assert allowed(THREE, visible, None) == [gpu.uuid for gpu in expected]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [A.uuid, *CUT.slices]),
        ("1", list(CUT.slices)),
        (CUT.uuid, list(CUT.slices)),
        ("MIG-2b,0", ["MIG-2b", A.uuid]),
        (f"MIG-2b,{CUT.uuid}", []),  # one of them twice
    ],
)
def test_a_gpu_that_is_cut_stands_for_its_slices(visible: str | None, expected: list[str]):
    assert allowed((A, CUT), visible, BY_BUS) == expected


def test_a_gpu_has_a_place_unless_one_beside_it_is_cut():
    """What CUDA counts where one is cut is not settled: a name holds there, too."""
    assert places((A, SLOW, B)) == {A.uuid: "0", SLOW.uuid: "1", B.uuid: "2"}
    assert places((Gpu("NVIDIA H200", ""), B)) == {"0": "0", B.uuid: "1"}
    assert places((A, CUT)) == {}


def test_an_index_among_gpus_that_differ_is_refused_unless_the_order_is_that_of_the_buses():
    with pytest.raises(RunError, match=r"differ.*so 1 may be another.*CUDA_DEVICE_ORDER=PCI_BUS"):
        allowed((A, SLOW), "1", None)
    assert allowed((A, SLOW), "1", BY_BUS) == [SLOW.uuid]
    assert allowed((A, SLOW), SLOW.uuid, None) == [SLOW.uuid]


@given(st.text(st.sampled_from("0123 ,-GPUab"), max_size=12))
def test_whatever_is_typed_names_each_of_the_machine_at_most_once(typed: str):
    found = allowed(THREE, typed, None)
    assert len(set(found)) == len(found)
    assert set(found) <= {gpu.uuid for gpu in THREE}

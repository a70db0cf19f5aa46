"""The machinery of the scaling benchmark at toy size, and its arithmetic; no speed is asked."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from bench_script import BENCH, script

from heed.study.group import LOOPBACK

PROJECT = Path(__file__).parents[2]


bench, paper = script("scaling"), script("memory")
rows = sys.modules["train_rows"]
TOY = rows.Task(rows.Way("toy", "heed", "fp32"), "toy", steps=1, examples_per_step=4)


def said(rank: int, tokens: int, seconds: float, own: list[int], peak: int = 2**20) -> dict:
    marks = [[5.0, 1.0, 10, 5], [5.0 + seconds, 1.0 + seconds / 2, 10 + tokens, 5]]
    lead = {"said": 3 * 2**20, "device": "NVIDIA H200", "matmul": 1.0} if rank == 0 else {}
    return {"marks": marks, "own": [[one, one] for one in own], "peak": peak} | lead


def group(ranks: int, tokens: int, strategy: str = "ddp", **more) -> object:
    found = bench.Group(replace(TOY, **more), ranks, strategy)
    own = [[30, 10]] if ranks == 1 else [[30, 10], [10, 10]]
    found.runs = [
        [said(r, tokens, 2.0 - r, own[r % 2], (r + 1) * 2**20) for r in range(ranks)]
        for _ in range(2)
    ]
    return found


def test_a_rate_is_of_all_ranks_by_the_slowest_clock_and_by_all_processors():
    assert group(1, 100).rate(cpu=False) == 50.0
    assert group(2, 100).rate(cpu=False) == 50.0  # 2 seconds, and 1
    assert group(2, 100).rate(cpu=True) == pytest.approx(100 / 1.5)


def test_the_heaviest_rank_is_told_over_the_mean():
    assert group(2, 100).uneven == (1.25, 1.5)  # 30 beside 10, 10 beside 10
    assert group(1, 100).uneven == (1.0, 1.0)
    assert group(2, 100).peak == 2.0, "of the rank that holds most"


def test_mfu_divides_by_all_devices():
    work = rows.work_per_token(rows.SHAPES["toy"], rows.rows_of(TOY))
    assert group(2, 100).mfu == pytest.approx(50.0 * work / (2 * bench.PEAKS["H200"]))


def test_a_table_has_the_ratio_to_one_rank_of_the_same_method_and_tells_failures():
    broken = bench.Group(TOY, 4, "fsdp", failed="RuntimeError: no")
    other = group(1, 400, method="lora")
    lines = bench.table([group(1, 100), other, group(2, 300), broken]).splitlines()
    assert lines[1].split() == ["toy", "full", "1", "50", "100", "1.00", "1", "3", "1.000", "1.000"]
    assert lines[3].split() == [
        "toy",
        "full",
        "2",
        "ddp",
        "150",
        "200",
        "2.00",
        "2",
        "3",
        "1.250",
        "1.500",
    ]
    assert lines[4].split(maxsplit=4)[4] == "failed: RuntimeError: no"
    on_gpu = bench.table([group(1, 100, device="cuda"), group(2, 400, device="cuda")])
    assert on_gpu.splitlines()[0].endswith("MFU")
    assert on_gpu.splitlines()[2].split()[6] == "4.00", "of the clock"


def test_every_number_of_ranks_is_measured_in_every_way_that_is_not_refused():
    asked = bench.arguments(["--methods", "full", "qlora", "--ranks", "1", "2"])
    found = [(one.task.method, one.ranks, one.strategy) for one in bench.groups(asked)]
    full, qlora = ([(n, s) for m, n, s in found if m == name] for name in ("full", "qlora"))
    assert full == [(1, "ddp"), (2, "ddp"), (2, "fsdp")]
    assert qlora == [(1, "ddp"), (2, "ddp")]
    assert bench.arguments(["--device", "cuda"]).models == ["1b", "2b", "3b"]


def test_a_rank_that_fails_ends_the_measurement_of_its_group(monkeypatch, tmp_path):
    code = "import os, sys, time\nif os.environ['RANK'] == '1': raise ValueError('no room')\n"
    (tmp_path / "rank.py").write_text(f"{code}time.sleep(60)")
    monkeypatch.setattr(bench, "RANK", tmp_path / "rank.py")
    found = bench.Group(TOY, 2, "ddp")
    bench.measure([found], 1)
    assert found.failed == "ValueError: no room"
    assert not found.runs


def test_ranks_of_a_measurement_find_each_other_as_heeds_own_do(monkeypatch, tmp_path):
    (tmp_path / "rank.py").write_text("import json, os; print(json.dumps(dict(os.environ)))")
    monkeypatch.setattr(bench, "RANK", tmp_path / "rank.py")
    (told,) = bench.run(bench.Group(TOY, 1, "ddp"))
    assert LOOPBACK.items() <= told.items()
    assert told["CUDA_VISIBLE_DEVICES"] == ""


def test_the_paper_table_names_the_smallest_gpu_with_room_for_cuda_itself():
    assert paper.card(0) == "24"
    assert paper.card(int(24e9 - paper.BESIDE)) == "24"
    assert paper.card(int(24e9 - paper.BESIDE) + 1) == "40"
    assert paper.card(int(141e9)) == "-"


def test_the_paper_table_divides_what_ranks_hold():
    found = paper.estimates(rows.SHAPES["toy"], "full", 64, again=False)
    assert found["ddp"].total == found["alone"].total, "AdamW's moments are more than gradients"
    held = [found[f"fsdp {ranks}"].held for ranks in (2, 4, 8)]
    assert held == sorted(held, reverse=True)


@pytest.mark.slow
def test_the_paper_table_has_a_line_for_each_method_and_refuses_qlora_divided(monkeypatch):
    monkeypatch.setitem(paper.STUDENTS, "toy", rows.SHAPES["toy"])
    lines = list(paper.rows(["toy"], 64))
    assert [line.count("refused") for line in lines[2:]] == [0, 0, 0, 0, 3, 3]


@pytest.mark.slow
def test_the_table_of_the_docs_is_the_one_that_its_command_prints():
    told = (PROJECT / "docs" / "scaling.md").read_text()
    assert "python bench/memory.py" in told
    for line in paper.rows(["1b"], 2048):
        assert line in told


@pytest.mark.slow
def test_the_same_losses_on_one_rank_and_on_two_in_either_way(tmp_path):
    line = [sys.executable, str(BENCH / "scaling.py"), "--models", "toy", "--methods", "full"]
    line += ["--ranks", "1", "2", "--repeats", "1", "--steps", "1", "--examples", "4"]
    out = tmp_path / "found.json"
    done = subprocess.run(
        [*line, "--out", str(out)], capture_output=True, text=True, check=True, timeout=120
    )
    assert "A SHAPE CHECK" in done.stdout
    alone, ddp, fsdp = (one["runs"][0] for one in json.loads(out.read_text()))
    for run in (ddp, fsdp):
        for rank in run:
            assert rank["losses"] == pytest.approx(alone[0]["losses"], rel=1e-5)
        own = [
            sum(supervised for supervised, _ in step)
            for step in zip(*(r["own"] for r in run), strict=True)
        ]
        assert own == [supervised for supervised, _ in alone[0]["own"]]

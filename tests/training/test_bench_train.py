"""The machinery of the training benchmark at toy size, and its arithmetic; no speed is asked."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from bench_script import BENCH, script
from pretend import pretended

bench = script("train")
rows, tables = sys.modules["train_rows"], sys.modules["train_table"]
Row, Shape, Task, Way = rows.Row, rows.Shape, rows.Task, rows.Way
SHAPES, PAD, END, LONGEST = rows.SHAPES, rows.PAD, rows.END, rows.LONGEST
rows_of, task_of, work_per_token = rows.rows_of, rows.task_of, rows.work_per_token
Measured, best_correct, table = tables.Measured, tables.best_correct, tables.table
TOY = Task(Way("x", "heed", "fp32"), "toy", steps=1, examples_per_step=4)


def measured(rate: float = 100.0, peak: int = 2**20, **more) -> Measured:
    """A way that does `rate` tokens, half of them supervised, in each of its 2 CPU seconds."""
    name = more.pop("name", "x")
    task = replace(TOY, way=Way(name, "trl"))
    slow, fast = (
        {"marks": [[5.0, 1.0, 50, 10], [9.0, 3.0, 50 + 2 * r, 10 + r]], "peak": peak} | more
        for r in (rate / 2, 3 * rate)
    )
    middle = {"marks": [[5.0, 1.0, 50, 10], [9.0, 3.0, 50 + 2 * rate, 10 + rate]], "peak": peak}
    return Measured(task, [slow, fast, middle | more])


def test_a_rate_is_the_median_over_repeats_and_leaves_the_first_step_out():
    found = measured(100.0)
    rates = {(s, c): found.rate(supervised=s, cpu=c) for s in (False, True) for c in (False, True)}
    assert rates == {(0, 1): 100.0, (1, 1): 50.0, (0, 0): 50.0, (1, 0): 25.0}
    assert found.speed == 50.0
    assert replace_device(found, "cuda").speed == 25.0


def replace_device(found: Measured, device: str) -> Measured:
    return Measured(replace(found.task, device=device), found.runs)


@pytest.mark.parametrize(
    ("more", "fault"),
    [({}, ""), ({"cut": 1}, "cuts"), ({"mixed": 0.5}, "mixes"), ({"mixed": 1e-5}, ""),
     ({"cut": 2, "mixed": 0.5}, "cuts+mixes")],
)  # fmt: skip
def test_the_best_setting_is_the_fastest_without_a_fault(more: dict, fault: str):
    slow, fast = measured(10.0, name="slow"), measured(90.0, name="fast", **more)
    broken = Measured(TOY, [], "ImportError: no such kernel")
    assert fast.fault == fault
    assert best_correct([slow, broken, fast]) is (slow if fault else fast)


def test_the_verdicts_compare_speed_upwards_and_memory_downwards():
    heed, bare = measured(400.0, 3 * 2**20), measured(420.0)
    peers = {"a": (measured(100.0, 3 * 2**20), 4.0), "b": (measured(200.0, 2 * 2**20), 2.5)}
    found = tables.verdicts(heed, bare, peers)
    assert [round(ratio, 3) for _, ratio, _, _ in found] == [4.0, 2.0, 0.952, 1.0, 1.5]
    assert [reached for *_, reached in found] == [True, False, True, True, False]
    assert [name.split(" / ")[1] for name, *_ in found][:2] == ["a", "b"]


def test_the_share_of_the_matmul_rate_is_work_over_rate():
    work = work_per_token(SHAPES["toy"], rows_of(TOY))
    assert measured(100.0).share({"bf16": 1000 * work, "fp32": 1.0}) == pytest.approx(0.1)


def test_a_table_names_every_way_and_what_failed():
    lines = table(
        [measured(name="one", cut=3), Measured(TOY, [], "out of memory")],
        25.0,
        {"fp32": 1e9, "bf16": 1e9},
    ).splitlines()
    assert lines[1].split()[:6] == ["one", "50", "25", "100", "50", "2.00"]
    assert lines[1].endswith("cuts")
    assert lines[2].split(maxsplit=1)[1] == "failed: out of memory"


def test_the_work_of_a_token_is_what_counting_each_product_gives():
    shape = Shape("x", hidden=8, layers=3, heads=4, kv_heads=2, ffn=5, vocabulary=11)
    rows = [Row([2] * 6 + [END], 4), Row([3] * 2 + [END], 1)]
    products = [(8, 8), (8, 4), (8, 4), (8, 8), (8, 5), (8, 5), (5, 8)]
    total = sum(3 * 2 * a * b * 10 for a, b in products) * 3 + 3 * 2 * 8 * 11 * 5
    for n in (7, 3):  # queries x keys and weights x values, half of each: 2 n n H
        total += 3 * 3 * 2 * n * n * 8
    assert work_per_token(shape, rows) == pytest.approx(total / 10)
    weights = sum(2 * a * b * 10 for a, b in products) * 3 + 2 * 8 * 11 * 5
    frozen = work_per_token(shape, rows, frozen=True)  # none of its own gradient
    assert frozen == pytest.approx((total - weights) / 10)


@pytest.mark.parametrize("name", ["small", "larger"])
def test_the_rows_are_whole_documents_of_real_lengths(name: str):
    rows = rows_of(replace(TOY, shape=name))
    assert len(rows) >= 800
    assert all(row.ids[-1] == END and not {PAD, END} & set(row.ids[:-1]) for row in rows)
    assert max(len(row.ids) for row in rows) <= LONGEST
    assert 150 < np.mean([len(row.ids) for row in rows]) < 300
    assert rows == rows_of(replace(TOY, shape=name))


def test_a_task_survives_its_way_to_another_process():
    assert task_of(replace(TOY, tokens=7, way=bench.DEFAULT).to_json()) == replace(
        TOY, tokens=7, way=bench.DEFAULT
    )


def test_the_grid_has_every_packing_with_every_attention_and_precision():
    found = [(way.packing, way.attention, way.precision) for way in bench.grid(quick=False)[1:]]
    assert len(set(found)) == len(found) == 16
    names = [way.name for way in (*bench.grid(quick=False), *bench.batches())]
    assert len(set(names)) == len(names)
    assert bench.grid(quick=False)[0].checkpointing  # TRL's default computes activations again


def test_the_ladder_has_the_sizes_of_its_name():
    sizes = [(SHAPES[n].body + SHAPES[n].head) / 1e9 for n in ("1b", "2b", "3b")]
    assert sizes == pytest.approx([1.04, 1.92, 3.12], abs=0.01)


def test_what_fails_is_said_and_not_swallowed(monkeypatch):
    monkeypatch.setattr(bench, "CHILD", BENCH / "no_such_file.py")
    (found,) = bench.measure([TOY], 1)
    assert "no_such_file.py" in found.failed
    assert not found.runs


def child(code: str) -> dict:
    blocked = "import sys\nfor n in ('hydra', 'omegaconf', 'wandb', 'lm_eval', 'bitsandbytes'):\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{blocked}    sys.modules[n] = None\n{code}"],
        env=os.environ | {"PYTHONPATH": str(BENCH), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_every_engine_does_the_same_steps_where_hydra_wandb_and_lm_eval_are_missing():
    found = child(
        "import json\nfrom dataclasses import replace\nfrom train_child import *\n"
        "from train_rows import Way\n"
        f"task = task_of({TOY.to_json()!r})\n"
        "ways = [Way(e, e, 'fp32', rows=2) for e in ('heed', 'bare', 'padded', 'trl')]\n"
        "packed = {'rows': 1, 'sampling': 'random'}\n"
        "ways += [Way(p, 'trl', 'fp32', p, **packed) for p in ('bfd', 'wrapped')]\n"
        "print(json.dumps({w.name: measure(replace(task, way=w, steps=2)) for w in ways}))"
    )
    expected = found["bare"]
    assert 0 < expected["marks"][0][2] < expected["marks"][1][2] < expected["marks"][2][2]
    for engine in ("heed", "padded", "trl"):
        assert found[engine]["losses"] == pytest.approx(expected["losses"], rel=1e-5), engine
        assert [m[2:] for m in found[engine]["marks"]] == [m[2:] for m in expected["marks"]]
    assert found["trl"]["cut"] == found["bfd"]["cut"] == 0 < found["wrapped"]["cut"]
    assert (
        max(found["trl"]["mixed"], found["bfd"]["mixed"]) < 1e-4 < 1e-2 < found["wrapped"]["mixed"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_table_of_cuda_runs_at_toy_size(method: str):
    precision = "bf16" if method == "full" else "bf16-true"
    task = replace(TOY, way=Way("x", "heed", precision), method=method, tokens=64)
    found = child(
        "import json\nfrom train_child import *\n"
        f"print(json.dumps(measure(task_of({task.to_json()!r}))))"
    )
    assert found["marks"][1][2] - found["marks"][0][2] == 4 * 64
    assert found["matmul"] > 0
    assert found["device"] == "cpu"


@pytest.mark.parametrize(
    ("engine", "method"), [("heed", "full"), ("heed", "lora"), ("bare", "full"), ("padded", "full")]
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # as where it runs
def test_every_way_but_the_peer_s_runs_on_a_gpu(engine: str, method: str):
    child = script("train_child")
    task = replace(TOY, way=Way(engine, engine, "bf16"), device="cuda", method=method)
    with pretended():
        found = child.measure(task)
    assert len(found["marks"]) == len(found["losses"]) == TOY.steps + 1
    assert found["peak"] == 2**30, "what torch says of the device"

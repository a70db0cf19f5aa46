"""SIGKILL at ten random steps: the training ends as the one that was left alone, bit for bit."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from heed.core.files import read_json, read_jsonl
from heed.training.points import CHECKPOINTS

HERE = Path(__file__).resolve().parent
STEPS, KILLS = 30, 10


def rows(run: Path) -> list[dict]:
    return [row | {"seconds": 0} for row in read_jsonl(run / "metrics.jsonl")]


@pytest.mark.slow
def test_a_training_that_is_killed_ten_times_ends_with_the_same_bits(tmp_path: Path):
    steps = sorted(random.Random(os.urandom(8)).sample(range(2, STEPS - 1), KILLS))
    line = [sys.executable, str(HERE / "killed.py"), str(tmp_path), *map(str, steps)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, capture_output=True, text=True, timeout=200, env=env)
    logs = "".join(path.read_text()[-3000:] for path in tmp_path.glob("*.log"))
    assert done.returncode == 0, f"{steps}: {done.stderr}{logs}"
    assert done.stdout.count("killed") == KILLS
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    assert rows(killed) == rows(alone)
    assert len([row for row in rows(alone) if "loss" in row]) == STEPS
    for part in ("model", "steps/5/model", "steps/20/model"):
        one, other = (
            load_file(run / part / "adapter_model.safetensors") for run in (alone, killed)
        )
        assert one.keys() == other.keys()
        assert all((one[name] == other[name]).all() for name in one)
        assert any(tensor.any() for tensor in one.values())
    fits = [read_json(run / "manifest.json")["fit"] for run in (alone, killed)]
    assert fits[0]["resumed"] == []
    assert len(fits[1]["resumed"]) >= KILLS - 2, "the first may come before the first checkpoint"
    assert fits[0]["plan"] == fits[1]["plan"]
    assert fits[0]["plan"]["micro_batches"] > 2 * STEPS, "steps are cut into micro-batches"
    assert fits[0]["validation"] == fits[1]["validation"]
    assert not (killed / CHECKPOINTS).exists()

"""bitsandbytes is imported without code from the network, whoever asks for it first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from heed.methods.bits import bitsandbytes

FETCHES = """
import os
from pathlib import Path
def get_kernel(*args, **kwargs):
    Path(os.environ["FETCHED"]).write_text("fetched")
    raise RuntimeError("fetched")
"""
ATTACH = """
import sys, torch
from transformers import LlamaConfig, LlamaForCausalLM
from heed.methods.adapters import LoRA
model = LlamaForCausalLM(LlamaConfig(
    vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
    num_attention_heads=1, num_key_value_heads=1))
LoRA(rank=1, alpha=1.0, dropout=0.0, layers="attention").attach(model)
assert "bitsandbytes" in sys.modules
import kernels
assert kernels.get_kernel  # only hidden for the time of the import
"""


@pytest.mark.slow
def test_an_adapter_brings_the_library_in_without_fetching_or_saying_anything(tmp_path: Path):
    """With the line `import peft` first in `LoRA.attach` this fetches, on a processor that can."""
    (tmp_path / "kernels.py").write_text(FETCHES)
    env = os.environ | {"PYTHONPATH": str(tmp_path), "FETCHED": str(tmp_path / "fetched")}
    made = subprocess.run([sys.executable, "-c", ATTACH], capture_output=True, text=True, env=env)
    assert made.returncode == 0, made.stderr
    assert "gemm_4bit_forward" not in made.stderr
    assert not (tmp_path / "fetched").exists()


def test_what_was_hidden_is_as_it_was_and_the_library_is_one():
    before = sys.modules.get("kernels")
    assert bitsandbytes() is sys.modules["bitsandbytes"] is bitsandbytes()
    assert sys.modules.get("kernels") is before

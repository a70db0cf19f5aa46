"""bitsandbytes is imported where it is needed, and without code from the network."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from heed.methods.bits import bitsandbytes, peft

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
from heed.methods.weights import NF4

def model():
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=9, hidden_size=64, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=1, num_key_value_heads=1))

adapter = LoRA(rank=1, alpha=1.0, dropout=0.0, layers="attention")
adapter.attach(model())
assert "bitsandbytes" not in sys.modules
stored = model()
NF4(double_quantise=True).store(stored)
assert "bitsandbytes" in sys.modules
kinds = lambda made: {type(m).__name__ for m in made.modules() if "lora" in type(m).__module__}
assert "Linear4bit" in kinds(adapter.attach(stored))
assert "Linear4bit" not in kinds(adapter.attach(model()))
import kernels
assert kernels.get_kernel  # only hidden for the time of the import
"""


@pytest.mark.slow
def test_the_library_comes_with_weights_in_few_bits_and_fetches_and_says_nothing(tmp_path: Path):
    """With `import peft` in `LoRA.attach` instead of `bits.peft()`, the first adapter brings it."""
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


def test_what_peft_remembers_follows_what_is_imported(monkeypatch: pytest.MonkeyPatch):
    from peft import import_utils

    library = bitsandbytes()
    monkeypatch.delitem(sys.modules, "bitsandbytes")
    peft()
    assert not import_utils.is_bnb_available()
    assert not import_utils.is_bnb_4bit_available()
    assert "bitsandbytes" not in sys.modules
    monkeypatch.setitem(sys.modules, "bitsandbytes", library)
    peft()
    assert import_utils.is_bnb_available()
    assert import_utils.is_bnb_4bit_available()

"""A method is weights x adapter x noise: what goes together, and how it is called."""

from dataclasses import replace
from pathlib import Path

import pytest

from heed.core.compose import compose_component
from heed.core.errors import ConfigError
from heed.core.identity import short_hash
from heed.methods.adapters import Full, LoRA
from heed.methods.method import Method
from heed.methods.noise import NEFTune
from heed.methods.variants import DoRA
from heed.methods.weights import NF4, Int8, Plain

CONF = Path(__file__).parents[2] / "conf"
PLAIN = Method(
    name="lora",
    weights=Plain(),
    adapter=LoRA(rank=2, alpha=4.0, dropout=0.0, layers="attention"),
    noise=None,
)


def composed(*overrides: str) -> Method:
    known = "model.new_tokens=refuse"  # so that a method that freezes the embedding goes too
    return compose_component(CONF, "train", [known, *overrides]).method


@pytest.mark.parametrize("name", sorted(p.stem for p in (CONF / "method").glob("*.yaml")))
def test_noise_goes_with_any_method_and_none_is_the_usual(name: str):
    quiet, noisy = composed(f"method={name}"), composed(f"method={name}", "noise=neftune")
    assert quiet.noise is None
    assert noisy == replace(quiet, noise=NEFTune(alpha=5.0))
    assert short_hash(noisy) != short_hash(quiet)
    assert (quiet.label, noisy.label) == (name, f"{name}+NEFTune")


@pytest.mark.parametrize(
    ("words", "label"),
    [
        (["method=dora", "weights=nf4"], "dora+NF4"),
        (["method=lora", "weights=int8", "noise=neftune"], "lora+Int8+NEFTune"),
        (["method=dora", "weights=nf4", "method.name=dora_nf4"], "dora_nf4"),
        (["method=qlora"], "qlora"),
        (["method=int8_lora"], "int8_lora"),
        (["method=dora"], "dora"),
    ],
)
def test_a_table_says_in_which_form_the_weights_are(words, label):
    assert composed(*words).label == label


@pytest.mark.parametrize(("form", "kind"), [("nf4", NF4), ("int8", Int8)])
def test_a_form_of_the_weights_goes_under_an_adapter_that_leaves_the_base(form, kind):
    made = composed("method=dora", f"weights={form}")
    assert isinstance(made.weights, kind)
    assert isinstance(made.adapter, DoRA)
    assert composed("method=dora").weights == Plain()
    with pytest.raises(ConfigError) as caught:
        composed("method=full", f"weights={form}")
    (mistake,) = caught.value.mistakes
    assert mistake.where == "method.weights"
    assert "Full changes weights of the base" in mistake.why


def test_the_presets_have_the_numbers_of_their_studies():
    ladder, limits = composed("method=lora_size_ladder"), composed("method=lora_limits")
    assert (ladder.adapter.rank, ladder.adapter.alpha) == (16, 32.0)
    assert limits.adapter.rank == 8


def test_what_was_done_is_counted(loaded):
    noisy = replace(PLAIN, noise=NEFTune(alpha=5.0))
    for method in (PLAIN, noisy):
        assert method.store(loaded.model) is None
    PLAIN.attach(loaded.model)
    assert PLAIN.events(loaded.model) == {}


def test_noise_is_attached_after_the_adapter(loaded):
    """peft may wrap the embedding: what it wraps must not be where the noise is."""
    method = replace(PLAIN, noise=NEFTune(alpha=50.0))
    method.attach(loaded.model, [7, 270])
    wrapper = loaded.model.get_input_embeddings()
    assert len(wrapper._forward_hooks) == 1


def test_full_tuning_with_noise_is_a_method(loaded):
    method = Method(name="full", weights=Plain(), adapter=Full(), noise=NEFTune(alpha=5.0))
    assert method.attach(loaded.model) is loaded.model
    assert len(loaded.model.get_input_embeddings()._forward_hooks) == 1

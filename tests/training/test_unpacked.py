"""A fit whose documents cannot share rows learns the same, and the record says so."""

import pytest
import torch

from heed.core.files import read_jsonl
from heed.models.student import load
from heed.training.fit import fit

SMOOTH = {"eps": 1.0, "peak": 3.0, "clip_norm": None, "micro_tokens": 256}
"""With eps = 1 AdamW does not blow up the last bits of a gradient that is nearly zero."""
WHY = "LlamaForCausalLM does not let its attention be replaced"


@pytest.fixture(scope="module")
def fitted(recipe_of, around, saved_base, template, tmp_path_factory):
    """Weights, losses and record of a fit."""

    def run(*, replaceable: bool = True, packing: str = "best_fit"):
        directory = tmp_path_factory.mktemp("run")
        loaded = load(str(saved_base), name="tiny", template=template)
        loaded.model._supports_attention_backend = replaceable
        record = fit(recipe_of(packing=packing, **SMOOTH), loaded, around, directory)
        weights = torch.cat([p.detach().flatten() for p in loaded.model.parameters()])
        return weights, [row["loss"] for row in read_jsonl(directory / "metrics.jsonl")], record

    return run


def test_it_is_counted_and_changes_nothing_that_is_learned(fitted):
    packed, losses, plain = fitted()
    alone, same_losses, record = fitted(replaceable=False)
    assert record["events"][f"trained unpacked: {WHY}"] == 24
    assert record["preflight"]["alone"] == WHY
    assert plain["preflight"]["alone"] is None
    assert not [event for event in plain["events"] if "unpacked" in event]
    assert record["plan"]["micro_batches"] == 24 > plain["plan"]["micro_batches"]
    assert losses == pytest.approx(same_losses, rel=1e-4)
    torch.testing.assert_close(alone, packed, atol=1e-4, rtol=1e-3)


def test_asking_for_it_is_the_same_and_no_event(fitted):
    forced, _, _ = fitted(replaceable=False)
    asked, _, record = fitted(packing="none")
    assert torch.equal(asked, forced)
    assert record["preflight"]["alone"] == "data.packing=none"
    assert not [event for event in record["events"] if "unpacked" in event]


def test_the_manifest_holds_the_plan_that_was_trained(fitted):
    _, losses, record = fitted()
    assert record["plan"]["steps"] == record["optimiser_steps"] == len(losses)
    assert record["plan"]["ranks"] == 1
    assert len(record["plan"]["digest"]) == 12
    assert record["plan"]["supervised_tokens"] == record["supervised_tokens_of_one_epoch"]

"""Rows of a reward model are read together without a trace; `analysis/test_rewards.py` has more."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from heed.core.errors import RunError
from heed.models.reward_model import Origin, RewardScorer, batches


@pytest.mark.parametrize("lengths", [[], [5], [3, 9, 4, 9, 1, 1]])
@pytest.mark.parametrize("most", [1, 10, 1000])
def test_batches_hold_every_row_once_within_the_tokens(lengths: list[int], most: int):
    found = list(batches(lengths, most))
    assert sorted(place for batch in found for place in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= most


def scorer(answer: Any, pad: int | None = None, output: str = "logits") -> RewardScorer:
    """One whose model is a function of the ids and the mask."""
    config = SimpleNamespace(pad_token_id=pad, vocab_size=9)
    config.get_text_config = lambda: config

    class Model:
        device = "cpu"

        def __init__(self) -> None:
            self.config = config

        def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            return SimpleNamespace(**{output: answer(input_ids, attention_mask)})

    made = RewardScorer.__new__(RewardScorer)
    made.model = Model()
    made.origin = Origin("organisation/x", None, "float32", False, output)
    return made


@pytest.mark.parametrize("harm", ["torn", "heads", "sizes"])
def test_a_damaged_reward_model_is_one_screen(tmp_path: Path, loaded, harm: str):
    from transformers import LlamaForSequenceClassification

    made = LlamaForSequenceClassification(loaded.model.config)
    made.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    changes = {"torn": {}, "heads": {"num_attention_heads": 0}, "sizes": {"intermediate_size": 24}}
    if harm == "torn":
        weights.write_bytes(weights.read_bytes()[:-100])
    config.write_text(json.dumps(json.loads(config.read_text()) | changes[harm]))
    with pytest.raises(RunError, match="cannot be read"):
        RewardScorer(Origin(str(tmp_path), None, "float32", False, "logits"), "cpu")


def last(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The last id that the mask shows, as a head's one label."""
    return ids.gather(1, mask.sum(-1, keepdim=True) - 1).float()


@pytest.mark.parametrize("pad", [None, 0])
def test_each_row_has_the_score_of_its_own_last_token(pad: int | None):
    rows = [[3], [1, 2], [5, 6, 7], [8, 1]]
    assert dict(scorer(last, pad).scores(rows, 100)) == {0: 3.0, 1: 2.0, 2: 7.0, 3: 1.0}


def test_padding_is_the_model_s_own_or_stands_in_no_row():
    seen: list[torch.Tensor] = []

    def keep(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        seen.append(ids[mask == 0])
        return last(ids, mask)

    for pad, expected in ((None, 2), (7, 7)):
        dict(scorer(keep, pad).scores([[0, 1], [3, 1, 0]], 100))
        assert seen[-1].tolist() == [expected]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_refused(value: float):
    with pytest.raises(RunError, match="no finite number"):
        list(scorer(lambda ids, _: torch.full((len(ids), 1), value)).scores([[1]], 9))


def test_a_model_s_own_score_may_have_no_second_dimension():
    made = scorer(lambda ids, mask: last(ids, mask)[:, 0], output="score")
    assert dict(made.scores([[3], [4, 5]], 100)) == {0: 3.0, 1: 5.0}

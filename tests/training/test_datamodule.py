"""Properties of the data module: the plan is made once, is the same on every rank, and is kept."""

from types import SimpleNamespace

import pytest
import torch
from forked import run_ranks

from heed.core.errors import RunError
from heed.core.ranks import rank
from heed.data.encode import encode_all
from heed.data.plan import plan, plan_digest
from heed.training.datamodule import PlannedData, Steps, same_plan


@pytest.fixture
def data_of(recipe_of, toy, loaded):
    """The data module of one rank among several."""
    examples = encode_all(toy, loaded.template, loaded.tokenizer, recipe_of().data).examples

    def make(ranks: int = 1, rank: int = 0, alone: bool = False, **changes) -> PlannedData:
        data = PlannedData(examples, recipe_of(**changes), pad=1, alone=alone)
        data.trainer = SimpleNamespace(world_size=ranks, global_rank=rank)
        return data

    return make


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_ranks_share_out_each_step(data_of, ranks: int):
    parts = [
        list(data_of(ranks, rank, micro_tokens=64).train_dataloader()) for rank in range(ranks)
    ]
    whole = list(data_of().train_dataloader())
    for step, *shares in zip(whole, *parts, strict=True):
        assert {share.tokens for share in shares} == {step.tokens}
        assert {share.seen for share in shares} == {step.seen}
        assert len({len(share.micro) for share in shares}) == 1
        targets = [b.targets for share in shares for b in share.micro]
        everything = torch.cat([b.targets for b in step.micro])
        assert torch.equal(torch.cat(targets).sort().values, everything.sort().values)


@pytest.mark.parametrize("how", [{"alone": True}, {"packing": "none"}])
def test_a_student_that_cannot_share_rows_gets_documents_one_by_one(data_of, how: dict):
    data = data_of(**how)
    batches = [batch for step in data.train_dataloader() for batch in step.micro]
    assert {batch.lengths.numel() for batch in batches} == {1}
    assert len(batches) == data.record["micro_batches"] == 24
    assert [step.tokens for step in data.planned] == [step.tokens for step in data_of().planned]
    assert any(b.lengths.numel() > 1 for step in data_of().train_dataloader() for b in step.micro)


def test_what_is_recorded_is_what_is_fed(data_of, recipe_of):
    data = data_of(ranks=2)
    expected = plan(data.examples, recipe_of().data, ranks=2, seed=1)
    assert data.record["digest"] == plan_digest(expected, data.examples)
    assert data.record["steps"] == len(data.train_dataloader().dataset)
    assert data.record["supervised_tokens"] == sum(s.tokens for s in data.train_dataloader())


def test_a_plan_that_begins_in_the_middle_is_fed_from_there(data_of, recipe_of):
    data = data_of(micro_tokens=64)
    treatment = recipe_of(micro_tokens=64).data
    rest = list(plan(data.examples, treatment, ranks=1, seed=1, start=(1, 2)))
    whole = list(Steps(data.examples, data.planned, pad=1))
    for one, other in zip(Steps(data.examples, rest, pad=1), whole[1:], strict=True):
        assert one.tokens == other.tokens
        assert one.seen == other.seen
    first = next(iter(Steps(data.examples, rest, pad=1))).micro
    assert len(first) == len(whole[1].micro) - 2 > 0
    for one, other in zip(first, whole[1].micro[2:], strict=True):
        assert torch.equal(one.input_ids, other.input_ids)


def test_equal_plans_are_let_through():
    assert run_ranks(2, lambda: same_plan("00ff00ff00ff")) == [None, None]


def test_ranks_with_different_plans_do_not_begin():
    def work() -> None:
        said = r"2 different trainings \(digests 00.*0f, 00.*ff\).*one ch"
        with pytest.raises(RunError, match=said):
            same_plan("00ff00ff00ff" if rank() else "00ff00ff000f")

    run_ranks(3, work)

"""What each rank is said to need is what torch's allocator gives it, for DDP and FSDP2.

One process plays rank 0: of a group of one for DDP, and for FSDP2 of a group whose other ranks are
not there and whose exchanges do nothing. Memory does not ask what the numbers are.
"""

import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from allocator import most
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.distributed.fake_pg import FakeStore

from heed.core.compose import compose_component
from heed.methods.adapters import Full, LoRA
from heed.models import memory
from heed.models.architectures import Llama, Vocabulary
from heed.models.blocks import engaged
from heed.models.likelihood import StudentLoss
from heed.models.memory import GIB, Estimate, Row, estimate, nbytes, without_numbers
from heed.study.memory import memory_lines
from heed.training.footprint import divided_step, footprint, lighter, part, row_size, shared_by
from heed.training.strategy import divide, gathered

CONF = Path(__file__).resolve().parents[2] / "conf"
RANKS = 4
SHAPE = {"context": 256, "rope_theta": 1e4, "init_std": 0.02}
WIDE = (Llama(hidden=256, layers=4, heads=8, kv_heads=8, ffn=704, tied=False, **SHAPE), 300)
WORDS = (Llama(hidden=64, layers=6, heads=4, kv_heads=4, ffn=128, tied=True, **SHAPE), 20000)
LORA = LoRA(rank=4, alpha=8.0, dropout=0.0, layers="all-linear")
LENGTH = 32
WITHIN = 0.1
"""Share of the measured peak by which the estimate of a divided step may be off."""


@pytest.fixture
def group():
    """Begin a group in which this process is rank 0."""
    yield lambda kind, ranks, store: dist.init_process_group(
        kind, rank=0, world_size=ranks, store=store
    )
    dist.destroy_process_group()


class Real(Row):
    """A packed row with numbers."""

    def __init__(self, tokens: int):
        super().__init__(tokens, LENGTH)
        self.lengths = torch.full((tokens // LENGTH,), LENGTH)
        self.position_ids = torch.arange(LENGTH).repeat(tokens // LENGTH)
        self.where = torch.arange(tokens - 1)


def made_of(model, adapter, device: str = "cpu"):
    shape, words = model
    with torch.device(device):
        made = shape.build(Vocabulary(words))
        adapter.attach(made)
    return made.train()


def steps_of(net, moving, made, tokens: int, again: bool = False, at_first: list | None = None):
    """A training step of some rows, as the module does it."""
    row, optimizer = Real(tokens), torch.optim.SGD(moving, lr=0.0)

    def step(rows: int = 2) -> None:
        with engaged(made, activation_checkpointing=again, compile=False):
            for number in range(rows):
                waits = number < rows - 1 and isinstance(net, DistributedDataParallel)
                with net.no_sync() if waits else nullcontext():
                    net(row)[0].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=not isinstance(net, DistributedDataParallel))

    first = most(step)
    if at_first is not None:
        at_first.append(first)
    step()  # at its second step DDP makes its buckets again
    return step


def on_paper(model, adapter, tokens: int, recipe, trainer) -> Estimate:
    made = made_of(model, adapter, "meta")
    with without_numbers(made), replace(trainer, compile=False).engaged(made):
        optimiser = {"optimiser": lambda t: 2 * nbytes(t)}
        found = estimate(made, Row(tokens, LENGTH), autocast=False, device="cpu", **optimiser)
        return divided_step(found, made, recipe, trainer, RANKS)


@pytest.mark.parametrize("again", [False, True], ids=["kept", "again"])
@pytest.mark.parametrize("tokens", [32, 512])
@pytest.mark.parametrize("adapter", [Full(), LORA], ids=["full", "lora"])
@pytest.mark.parametrize("model", [WIDE, WORDS], ids=["wide", "words"])
def test_a_divided_step_needs_what_is_said(
    group, recipe_of, around, model, adapter, tokens: int, again: bool
):
    trainer = replace(around.trainer, activation_checkpointing=again)
    said = on_paper(model, adapter, tokens, recipe_of(), trainer)
    group("fake", RANKS, FakeStore())
    made = made_of(model, adapter)
    student = StudentLoss(made)
    divide(student, dist.init_device_mesh("cpu", (RANKS,)))
    held = [p.to_local() for p in student.parameters()]
    moving = [p for p in student.parameters() if p.requires_grad]
    buffers = sum(nbytes(b) for b in made.buffers())
    assert said.weights == pytest.approx(sum(map(nbytes, held)) + buffers, rel=0.01)
    assert said.gradients == pytest.approx(sum(nbytes(p.to_local()) for p in moving), rel=0.01)
    assert said.optimiser == 2 * said.gradients
    found = most(steps_of(student, moving, made, tokens, again))
    assert found == pytest.approx(said.gradients + said.activations + said.exchanged, rel=WITHIN)


@pytest.mark.parametrize("model", [WIDE, WORDS], ids=["wide", "words"])
def test_a_divided_student_is_whole_while_it_answers(group, recipe_of, around, model):
    said = on_paper(model, LORA, 32, recipe_of(), around.trainer)
    group("fake", RANKS, FakeStore())
    student = StudentLoss(made_of(model, LORA))
    divide(student, dist.init_device_mesh("cpu", (RANKS,)))

    def answers() -> None:
        with gathered(student):
            pass

    found = said.weights + said.optimiser + most(answers)
    assert found == pytest.approx(said.whole, rel=WITHIN)


def test_ddp_holds_the_gradients_twice_at_the_first_step_of_several_rows_and_then_once(group):
    group("gloo", 1, dist.HashStore())
    made = made_of(WIDE, Full())
    net = DistributedDataParallel(StudentLoss(made), gradient_as_bucket_view=True)
    moving = list(made.parameters())
    first: list[int] = []
    step = steps_of(net, moving, made, 32, at_first=first)
    gradients = sum(map(nbytes, moving))
    assert most(lambda: step(2)) == pytest.approx(most(lambda: step(1)), rel=WITHIN)
    assert first[0] - most(lambda: step(2)) == pytest.approx(gradients, rel=WITHIN)


def said_for(student, recipe, around, **trainer) -> Estimate:
    return footprint(student, recipe, replace(around.trainer, **trainer))


def test_a_rank_of_ddp_needs_what_one_alone_needs_but_for_buckets_beside_small_moments(
    student, recipe_of, around
):
    recipe = recipe_of(max_tokens=64, examples_per_step=8, micro_tokens=64)
    alone = said_for(student, recipe, around)
    rank = said_for(student, recipe, around, devices=2)
    assert (rank.ranks, rank.strategy, rank.exchanged) == (2, "ddp", 0)
    assert replace(rank, ranks=1, strategy="") == alone, "moments are more than gradients"
    small = replace(recipe, optim=compose_component(CONF, "train", ["optim=adafactor"]).optim)
    rank = said_for(student, small, around, devices=2)
    assert rank.exchanged == rank.gradients - rank.optimiser > 0
    assert said_for(student, small, around, devices=4, nodes=2).exchanged == 0  # one row each


def test_more_ranks_need_less_each_where_the_student_is_divided(student, recipe_of, around):
    recipe = recipe_of(max_tokens=64, examples_per_step=8, micro_tokens=64)
    found = [
        said_for(student, recipe, around, devices=n, strategy="fsdp").held for n in (1, 2, 4, 8)
    ]
    assert found == sorted(found, reverse=True)
    assert found[3] < 0.2 * found[0]


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_a_part_is_that_of_torch(ranks: int):
    for shape in ((7, 3), (8,), (2, 5)):
        assert part(torch.zeros(shape), ranks).shape == torch.zeros(shape).chunk(ranks)[0].shape


def test_a_rank_has_its_share_of_the_examples(recipe_of):
    recipe = recipe_of(max_tokens=64, examples_per_step=8, micro_tokens=4096)
    assert [row_size(recipe, alone=False, ranks=n)[1] for n in (1, 2, 3, 8)] == [512, 256, 192, 64]


def test_who_shares_a_step(around, group, monkeypatch):
    assert shared_by(replace(around.trainer, devices=2, nodes=3)).ranks == 6
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    every = replace(around.trainer, accelerator="gpu", devices="all", nodes=2)
    assert shared_by(every).ranks == 8
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert shared_by(every).ranks == 1
    group("fake", 3, FakeStore())
    assert shared_by(every).ranks == 3, "the group that is there"


def test_the_plan_says_what_each_rank_needs_and_has(student, recipe_of, around, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 8 * GIB)
    recipe = recipe_of(max_tokens=64, examples_per_step=8, micro_tokens=64)
    trainer = replace(around.trainer, devices=4, strategy="fsdp")
    (line,) = memory_lines(student, recipe, trainer)
    assert "GiB on each of 4 ranks (fsdp): weights" in line
    assert re.search(r"exchanged [\d.]+; [\d.]+ while it answers or is written \(rows", line)
    assert line.endswith("; 2.00 GiB are free for each of the 4 here (cpu)")
    (line,) = memory_lines(student, recipe, replace(trainer, nodes=2))
    assert line.endswith("; 2.00 GiB are free for each of the 4 here (cpu)")


def test_a_divided_student_that_does_not_fit_whole_is_warned_of(student, recipe_of, around):
    recipe = recipe_of(max_tokens=64, micro_tokens=64)
    found = said_for(student, recipe, around, devices=8, strategy="fsdp")
    assert replace(found, whole=10 * GIB).total == 10 * GIB
    assert found.total >= found.whole > found.weights + found.optimiser


def test_dividing_is_advised_where_it_can_be(recipe_of, around):
    def advised(recipe, **trainer) -> list[str]:
        return [typed for typed, *_ in lighter(recipe, replace(around.trainer, **trainer))]

    assert "trainer.strategy=fsdp" in advised(recipe_of(), devices=2)
    assert "trainer.strategy=fsdp" not in advised(recipe_of())
    divided = advised(recipe_of(), devices=2, strategy="fsdp")
    assert "trainer.strategy=fsdp" not in divided
    assert "method=qlora trainer.strategy=ddp" in divided  # QLoRA is not divided
    other = compose_component(CONF, "train", ["optim=adafactor"]).optim
    assert "trainer.strategy=fsdp" not in advised(replace(recipe_of(), optim=other), devices=2)

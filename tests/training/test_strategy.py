"""A divided student: whole where it is asked for, and each step that of the undivided one."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import torch
from forked import run_ranks
from lightning.pytorch.plugins.environments import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from heed.core import ranks
from heed.core.errors import RunError
from heed.data.dataset import Encoded
from heed.data.pack import Batch, flat_row
from heed.models.generate import generated_ids
from heed.models.likelihood import StudentLoss
from heed.models.student import Loaded
from heed.training.strategy import (
    arguments_for,
    divide,
    gathered,
    need_same_start,
    plain_tensor,
)

WORLD = 3


def documents(*lengths: int) -> Batch:
    """One row of documents; the last half of each is supervised."""
    made = [
        Encoded(str(i), [(7 * i + 3 * t) % 290 for t in range(n)], [t >= n // 2 for t in range(n)])
        for i, n in enumerate(lengths, 1)
    ]
    return flat_row(made, pad=1)


OF_RANK = (documents(9), documents(5, 12, 8), documents())
"""One document, which takes another way through the model than several; several; none."""


def gradients(student: StudentLoss) -> dict[str, torch.Tensor]:
    found = {n: plain_tensor(p.grad).clone() for n, p in student.named_parameters()}
    student.zero_grad()
    return found


def step_alone(student: StudentLoss, batches: tuple[Batch, ...]) -> dict[str, torch.Tensor]:
    """The gradient of all batches in one process."""
    for batch in batches:
        student(batch)[0].backward()
    return gradients(student)


def step_together(student: StudentLoss, batches: tuple[Batch, ...]) -> dict[str, torch.Tensor]:
    """The same by all ranks, one batch each; FSDP2 averages what is to be summed."""
    (student(batches[ranks.rank()])[0] * ranks.world()).backward()
    return gradients(student)


def outputs(loaded: Loaded, student: StudentLoss) -> dict[str, torch.Tensor]:
    """What a student says when it is asked in the ways in which heed asks."""
    asked, caps = [[5, 6, 7, 8], [9, 10]], {"max_new_tokens": 5, "batch_tokens": 64, "max_rows": 2}
    with torch.no_grad():
        said = dict(generated_ids(loaded, asked, **caps))
        return {
            "loss": student(OF_RANK[1])[0],
            "nats": student.token_nats(OF_RANK[0]),
            "logits": loaded.model(input_ids=torch.tensor(asked[:1])).logits,
            "said": torch.tensor([token for place in range(2) for token in said[place]]),
        }


def tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def same(one: dict[str, Any], two: dict[str, Any], **near: float) -> bool:
    """Whether two have the same names and tensors, none of them divided."""
    if list(one) != list(two) or any(type(t) is DTensor for t in (*one.values(), *two.values())):
        return False
    near = near or {"rtol": 0, "atol": 0}
    return all(torch.allclose(one[name].float(), two[name].float(), **near) for name in one)


def is_divided(student: StudentLoss) -> bool:
    return all(isinstance(p, DTensor) for p in student.parameters())


def hooks(module: torch.nn.Module) -> list[int]:
    return [len(part._state_dict_pre_hooks) for part in module.modules()]


def play(fresh: Callable[[], Any]) -> dict[str, Any]:
    """Divide a student among the ranks that we are in, and look at it from all sides."""
    loaded, other = fresh(), fresh()
    student, whole = (StudentLoss(one.model.eval()) for one in (loaded, other))
    ask = partial(outputs, loaded, student)
    near = {"rtol": 1e-4, "atol": 1e-6}
    before, said, state = tensors(whole), outputs(other, whole), whole.state_dict()
    divide(student, init_device_mesh("cpu", (ranks.world(),)))
    found: dict[str, Any] = {"divided": is_divided(student)}
    held = sum(p.to_local().numel() for p in student.parameters())
    found["held"] = held / sum(p.numel() for p in student.parameters())

    def step(name: str) -> None:
        found[name] = same(step_together(student, OF_RANK), step_alone(whole, OF_RANK), **near)
        found[f"divided after {name}"] = is_divided(student)

    with gathered(student):  # before anything has run, as before a training
        found["weights at first"] = same(tensors(student), before)
    found["divided after the first look"] = is_divided(student)
    step("first step")
    hooked = hooks(student)
    found["divides itself before it is written"] = sum(hooked) > 0
    with gathered(student):
        found["weights"] = same(tensors(student), before)
        found["state_dict"] = same(student.state_dict(), state)
        found["weights after state_dict"] = same(tensors(student), before)
        found["outputs"] = same(ask(), said)
        found["weights after outputs"] = same(tensors(student), before)
        found["state_dict after outputs"] = same(student.state_dict(), state)
    found["divided outside"] = is_divided(student)
    step("step after a look")

    with gathered(student):
        for _ in range(ranks.rank()):
            ask()
    step("step after looks of which each rank has taken as many as it likes")

    try:
        with gathered(student):
            for _ in range(ranks.leads()):
                ask()
            raise ZeroDivisionError
    except ZeroDivisionError:
        found["divided after an error"] = is_divided(student)
    step("step after an error")

    with gathered(torch.nn.ModuleDict({"holder": student})):
        found["weights through a holder"] = same(tensors(student), before)
    parts = [part for part in student.modules() if isinstance(part, FSDPModule)]
    found["blocks"] = len(parts) - 1
    found["frees blocks"] = [
        part._get_fsdp_state()._fsdp_param_group._reshard_after_forward for part in parts[1:]
    ]
    found["hooks"] = hooks(student) == hooked
    return found


@pytest.fixture(scope="module")
def played(student) -> list[dict[str, Any]]:
    student.fresh()  # what it needs is imported once
    return run_ranks(WORLD, partial(play, student.fresh))


def test_a_divided_student_is_its_own_whole_where_it_is_asked_for_and_nowhere_else(played):
    for rank, found in enumerate(played):
        wrong = [name for name, so in found.items() if so is False]
        assert not wrong, (rank, wrong)
        assert sum(so is True for so in found.values()) == 22


def test_the_ranks_hold_a_third_of_it_each_and_free_a_block_when_it_is_done(played, student):
    assert sum(found["held"] for found in played) == pytest.approx(1)
    assert max(found["held"] for found in played) < 0.4
    for found in played:
        assert found["blocks"] == student.architecture.layers
        assert found["frees blocks"] == [True] * student.architecture.layers


def test_where_nothing_is_divided_nothing_happens(loaded):
    student = StudentLoss(loaded.model)
    before, hooks = dict(student.named_parameters()), len(student._state_dict_pre_hooks)
    with gathered(student):
        assert dict(student.named_parameters()).keys() == before.keys()
        assert all(p is before[name] for name, p in student.named_parameters())
        student(OF_RANK[0])[0].backward()
    assert all(p.grad is not None for p in student.parameters()), "it is the student itself"
    assert len(student._state_dict_pre_hooks) == hooks
    with pytest.raises(ZeroDivisionError), gathered(student):
        raise ZeroDivisionError


def differ(fresh: Callable[[], Any], change: str | None, rank: int) -> str | None:
    """What a rank is told of a start where one of them has another number somewhere."""
    model = fresh().model
    frozen, moving = model.get_input_embeddings().weight, model.model.layers[0].mlp.up_proj.weight
    frozen.requires_grad_(False)
    if ranks.rank() == rank and change is not None:
        with torch.no_grad():
            {"moving": moving, "frozen": frozen}[change].view(-1)[:1] += 1e-3
    try:
        need_same_start(StudentLoss(model))
    except RunError as error:
        return str(error)
    return None


def differ_in_all_ways(fresh: Callable[[], Any]) -> list[str | None]:
    cases = [(None, 0), ("moving", 0), ("moving", 2), ("frozen", 1)]
    return [differ(fresh, change, rank) for change, rank in cases]


def test_ranks_that_begin_with_different_students_are_refused_all_of_them(student):
    told = run_ranks(WORLD, partial(differ_in_all_ways, student.fresh))
    for same_start, *others in told:
        assert same_start is None
        for said in others:
            assert said is not None
            assert said.startswith("the ranks begin with 2 different students (digests ")
    assert told[0] == told[1] == told[2], "with the same words"


def test_a_process_alone_is_told_of_no_ranks(monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert arguments_for("ddp") == arguments_for("fsdp") == {"devices": 1}


def told_of_ranks() -> list[dict[str, Any]]:
    found = []
    for name in ("ddp", "fsdp"):
        told = arguments_for(name)
        strategy, (plugin,) = told.pop("strategy"), told.pop("plugins")
        sizes = ("_data_parallel_size", "_tensor_parallel_size")
        told |= {
            "type": type(strategy),
            "waits": strategy._timeout,
            "sizes": [getattr(strategy, size, None) for size in sizes],
            "begun by us": type(plugin) is TorchElasticEnvironment,
        }
        found.append(told)
    return found


@pytest.mark.parametrize(("nodes", "world"), [(1, 2), (2, 4)])
def test_what_lightning_is_told_of_the_ranks(nodes: int, world: int):
    day = timedelta(hours=24)
    always = {
        "devices": world // nodes, "num_nodes": nodes, "waits": day, "begun by us": True,
    }  # fmt: skip
    for ddp, fsdp in run_ranks(world, told_of_ranks, nodes=nodes):
        assert ddp == always | {"type": DDPStrategy, "sizes": [None, None]}
        assert fsdp == always | {"type": ModelParallelStrategy, "sizes": [world, 1]}


def test_a_plain_tensor_is_itself():
    tensor = torch.ones(3)
    assert plain_tensor(tensor) is tensor

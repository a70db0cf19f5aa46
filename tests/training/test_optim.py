"""Properties of the learning rate and the optimiser."""

import io
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from heed.core.component import build
from heed.core.identity import short_hash
from heed.methods.adapters import Group
from heed.training.optim import Adafactor, AdamW, AdamW8bit, LearningRate, WarmupStableDecay

SHAPES = ["linear", "cosine", "sqrt"]
SCHEDULES = [
    "cosine",
    "linear",
    "constant",
    *(WarmupStableDecay(decay_share=d, shape=s) for s in SHAPES for d in (0.01, 0.3, 1.0)),
]
STEP = {"clip_norm": None, "on_non_finite": "stop", "weight_decay": 0.1}
MOMENTS = {"beta1": 0.9, "beta2": 0.95, "eps": 1e-8} | STEP
FACTORS = {"decay_rate": -0.8, "eps": 1e-30, "smallest_scale": 1e-3, "clip_update": 1.0} | STEP
OPTIMIZERS = {
    "adamw": AdamW(**MOMENTS),
    "8bit": AdamW8bit(min_8bit_size=512, paged=False, **MOMENTS),
    "paged": AdamW8bit(min_8bit_size=512, paged=True, **MOMENTS),
    "adafactor": Adafactor(beta1=None, scale_by_weight=False, **FACTORS),
    "adafactor with moment and scale": Adafactor(beta1=0.9, scale_by_weight=True, **FACTORS),
}


def rate(**changes) -> LearningRate:
    rest = {"name": "r", "peak": 1e-3, "schedule": "cosine", "warmup_steps": 0, "final": 0.1}
    return LearningRate(**(rest | changes))


def factors(lr: LearningRate, steps: int) -> list[float]:
    return [lr.factor(step, steps) for step in range(steps)]


CASES = given(
    st.sampled_from(SCHEDULES), st.integers(0, 20), st.integers(1, 60), st.floats(0, 1)
)  # fmt: skip


@CASES
def test_the_rate_rises_to_the_peak_and_then_never_rises(schedule, warmup, steps, final):
    found = factors(rate(schedule=schedule, warmup_steps=warmup, final=final), steps)
    rise, fall = found[:warmup], found[warmup:]
    assert rise == [(step + 1) / warmup for step in range(len(rise))]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(fall))
    assert all(0 < factor <= 1 for factor in rise)
    assert not fall or fall[0] == pytest.approx(1)


@CASES
def test_the_rate_never_falls_below_its_final_share(schedule, warmup, steps, final):
    fall = factors(rate(schedule=schedule, warmup_steps=warmup, final=final), steps)[warmup:]
    floor = 1 if schedule == "constant" else final
    assert all(factor >= floor - 1e-12 for factor in fall)


@CASES
def test_a_step_behind_the_last_would_have_the_final_share(schedule, warmup, steps, final):
    lr = rate(schedule=schedule, warmup_steps=min(warmup, steps - 1), final=final)
    assert lr.factor(steps, steps) == pytest.approx(1 if schedule == "constant" else final)


@given(st.sampled_from(SHAPES), st.floats(0.01, 1), st.integers(0, 30), st.integers(1, 99))
def test_the_peak_is_held_until_the_decay_begins(shape, share, warmup, steps):
    lr = rate(schedule=WarmupStableDecay(decay_share=share, shape=shape), warmup_steps=warmup)
    falling = [s for s in range(warmup, steps) if lr.factor(s, steps) < 1]
    assert falling == list(range(steps - len(falling), steps))  # at the end, without a gap
    decay = min(max(1, round(share * steps)), max(0, steps - warmup))
    assert len(falling) == max(0, decay - 1)  # its first step is still at the peak


def test_the_shapes_of_the_decay_are_what_they_are_called():
    half = {s: WarmupStableDecay(decay_share=0.5, shape=s).left(75, 0, 100) for s in SHAPES}
    quarter = {s: WarmupStableDecay(decay_share=1.0, shape=s).left(25, 0, 100) for s in SHAPES}
    assert half == pytest.approx({"linear": 0.5, "cosine": 0.5, "sqrt": 1 - 0.5**0.5})
    assert quarter == pytest.approx({"linear": 0.75, "cosine": (1 + 0.5**0.5) / 2, "sqrt": 0.5})


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_long_training_ends_at_its_final_share(schedule: str):
    lr = rate(schedule=schedule, warmup_steps=10, final=0.1)
    assert lr.factor(9999, 10_000) == pytest.approx(0.1, abs=1e-3)
    assert lr.factor(5005, 10_000) == pytest.approx(0.55, abs=1e-3)


@pytest.mark.parametrize("rule", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_decay_is_on_matrices_only(rule):
    matrix, vector = (torch.nn.Parameter(torch.ones(*shape)) for shape in [(2, 2), (2,)])
    groups = rule.build([Group([matrix, vector], 1.0)], rate()).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert [[p.shape for p in group["params"]] for group in groups] == [[(2, 2)], [(2,)]]
    alone = rule.build([Group([matrix], 1.0)], rate()).param_groups
    assert len(alone) == 1  # none is empty


def weights(seed: int = 0, dtype=torch.float32) -> list[torch.nn.Parameter]:
    """Two matrices and a vector; the first is large enough for moments of 8 bits."""
    draw = torch.Generator().manual_seed(seed)
    shapes = [(32, 32), (6, 4), (8,)]
    return [torch.nn.Parameter(torch.randn(s, generator=draw).to(dtype)) for s in shapes]


def built(rule, moving, scales=(1.0, 4.0)):
    """An optimiser over two groups of different rates."""
    return rule.build([Group(moving[:1], scales[0]), Group(moving[1:], scales[1])], rate())


def go(optimizer, moving, steps) -> None:
    """Take steps along gradients that depend on the step's number alone."""
    for step in steps:
        draw = torch.Generator().manual_seed(100 + step)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 / (step + 1) * group["scale"]
        for p in moving:
            p.grad = torch.randn(p.shape, generator=draw).to(p.dtype)
        optimizer.step()


@pytest.mark.parametrize("rule", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_saved_optimiser_goes_on_bit_for_bit(rule):
    whole = weights()
    go(built(rule, whole), whole, range(8))
    cut = weights()
    first = built(rule, cut)
    go(first, cut, range(3))
    kept = io.BytesIO()
    torch.save([first.state_dict(), [p.detach() for p in cut]], kept)
    kept.seek(0)
    state, values = torch.load(kept, weights_only=True)
    fresh = [torch.nn.Parameter(value) for value in values]
    second = built(rule, fresh)
    second.load_state_dict(state)
    go(second, fresh, range(3, 8))
    assert all(map(torch.equal, whole, fresh))
    forgot = [torch.nn.Parameter(value.clone()) for value in values]
    go(built(rule, forgot), forgot, range(3, 8))
    assert not all(map(torch.equal, whole, forgot))


@pytest.mark.parametrize("rule", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_each_group_moves_at_its_own_scale(rule):
    """A group at four times the rate goes as far as alone at that rate."""
    both, first, other = weights(), weights(), weights()
    go(built(rule, both), both, range(3))
    go(built(rule, first, (1.0, 1.0)), first, range(3))
    go(built(rule, other, (4.0, 4.0)), other, range(3))
    assert torch.equal(both[0], first[0])
    assert not torch.equal(both[0], other[0])
    assert all(map(torch.equal, both[1:], other[1:]))


def test_the_fused_step_is_that_of_the_formula():
    moving = weights()
    optimizer = built(OPTIMIZERS["adamw"], moving)
    assert all(group["fused"] for group in optimizer.param_groups)
    loop = weights()
    groups = [{k: g[k] for k in ("weight_decay", "scale", "betas", "eps", "lr")} |
              {"params": [loop[i] for i in ids]}
              for g, ids in zip(optimizer.param_groups, [[0], [1], [2]], strict=True)]  # fmt: skip
    go(optimizer, moving, range(20))
    go(torch.optim.AdamW(groups, foreach=False, fused=False), loop, range(20))
    for one, two in zip(moving, loop, strict=True):
        torch.testing.assert_close(one, two, atol=1e-7, rtol=1e-6)


def test_8_bit_moments_go_nearly_where_those_of_32_bits_go():
    moved = {}
    for name in ("adamw", "8bit", "paged"):
        moving = weights()
        go(built(OPTIMIZERS[name], moving), moving, range(20))
        moved[name] = [p.detach() - q.detach() for p, q in zip(moving, weights(), strict=True)]
    assert all(map(torch.equal, moved["8bit"], moved["paged"]))  # pages change no number
    exact, near = moved["adamw"], moved["8bit"]
    errors = [((a - b).norm() / a.norm()).item() for a, b in zip(exact, near, strict=True)]
    assert 1e-4 < errors[0] < 0.1
    assert max(errors[1:]) < 1e-4  # smaller tensors keep 32 bits


def test_what_8_bits_and_pages_do_not_hold_for_is_counted():
    moving = weights()
    small = sum(p.numel() for p in moving[1:])
    event = "weights with moments of 32 bits (optim.min_8bit_size)"
    assert OPTIMIZERS["8bit"].events(moving) == {event: small}
    paged = OPTIMIZERS["paged"].events(moving)
    assert paged.pop(event) == small
    ((why, count),) = paged.items()
    assert "no CUDA device" in why
    assert count == sum(p.numel() for p in moving)
    assert OPTIMIZERS["adamw"].events(moving) == {}
    optimizer = built(OPTIMIZERS["8bit"], moving)
    go(optimizer, moving, range(1))
    kinds = [optimizer.state[p]["state1"].dtype for p in moving]
    assert kinds == [torch.uint8, torch.float32, torch.float32]


def test_pages_leave_the_run_id_and_8_bits_do_not():
    assert short_hash(OPTIMIZERS["8bit"]) == short_hash(OPTIMIZERS["paged"])
    smaller = replace(OPTIMIZERS["8bit"], min_8bit_size=4096)
    assert short_hash(smaller) != short_hash(OPTIMIZERS["8bit"])


def test_adafactor_keeps_rows_and_columns_and_takes_the_schedules_rate():
    moving = weights()
    optimizer = built(OPTIMIZERS["adafactor"], moving, (1.0, 1.0))
    go(optimizer, moving, range(1))
    kept = sum(
        v.numel() for s in optimizer.state.values() for v in s.values() if hasattr(v, "numel")
    )
    assert kept < 32 + 32 + 6 + 4 + 8 + 4
    start = weights()[0]
    step = (moving[0] - start * (1 - 0.1 * 1e-3)).detach()
    assert step.square().mean().sqrt() == pytest.approx(1e-3, rel=0.05)  # at most 1, times the rate


def test_adafactor_keeps_a_first_moment_only_where_it_is_asked_for():
    kept = []
    for name in ("adafactor", "adafactor with moment and scale"):
        moving = weights()
        optimizer = built(OPTIMIZERS[name], moving)
        go(optimizer, moving, range(2))
        kept.append({"exp_avg" in state for state in optimizer.state.values()})
        assert {group["beta1"] for group in optimizer.param_groups} == {OPTIMIZERS[name].beta1}
    assert kept == [{False}, {True}]


def test_scaled_by_the_weight_what_begins_as_zero_hardly_moves():
    far = []
    for scaled in (False, True):
        zero = [torch.nn.Parameter(torch.zeros(8, 8))]
        rule = Adafactor(beta1=None, scale_by_weight=scaled, **FACTORS)
        go(rule.build([Group(zero, 1.0)], rate()), zero, range(5))
        far.append(zero[0].norm().item())
    assert far[1] < far[0] / 100


NAMED = {
    "reference": 2e-4, "gentle": 5e-5, "aggressive": 8e-4, "teachers_paper": 2e-5,
    "limits_paper": 5e-5, "reference_wsd": 2e-4,
    "play_gentle": 1e-3, "play_reference": 5e-3, "play_harsh": 5e-2,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_a_named_rate_is_what_its_source_says(name: str, request):
    folder = request.config.rootpath / "conf" / "lr"
    made = build(yaml.safe_load((folder / f"{name}.yaml").read_text()))
    assert (made.name, made.peak) == (name, NAMED[name])
    assert {path.stem for path in folder.glob("*.yaml")} == NAMED.keys()
    if name == "teachers_paper":
        assert (made.schedule, made.warmup_steps) == ("cosine", 100)


def test_the_three_rates_of_the_ladder_differ_in_the_rate_alone(request):
    folder = request.config.rootpath / "conf" / "lr"
    low, middle, high = (
        build(yaml.safe_load((folder / f"{name}.yaml").read_text()))
        for name in ("gentle", "reference", "aggressive")
    )
    assert replace(low, name="", peak=1.0) == replace(middle, name="", peak=1.0)
    assert replace(high, name="", peak=1.0) == replace(middle, name="", peak=1.0)
    assert middle.peak / low.peak == pytest.approx(high.peak / middle.peak)


def test_the_library_that_rounds_moments_is_a_part_of_the_id_if_it_is_used(monkeypatch):
    before = {name: short_hash(one) for name, one in OPTIMIZERS.items()}
    monkeypatch.setattr("heed.training.optim.version", lambda _: "0.0")
    changed = {name for name, one in OPTIMIZERS.items() if short_hash(one) != before[name]}
    assert changed == {"8bit", "paged"}

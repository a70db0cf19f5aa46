"""Properties of components: strict, every mistake told at once, nothing else ever built."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.component import build, component, is_component, plain
from heed.core.errors import ConfigError, Mistake

LR = "heed.training.optim.LearningRate"
METHOD = {
    "_target_": "heed.methods.method.Method",
    "weights": {"_target_": "heed.methods.weights.Plain"},
    "noise": None,
}
LORA = {
    "_target_": "heed.methods.adapters.LoRA",
    "rank": 8,
    "alpha": 16.0,
    "dropout": 0.0,
    "layers": "all-linear",
}
RATE = {
    "_target_": LR,
    "name": "reference",
    "peak": 1e-3,
    "schedule": "cosine",
    "warmup_steps": 3,
    "final": 0.1,
}


def mistakes(node: object, at: str = "") -> dict[str, Mistake]:
    with pytest.raises(ConfigError) as caught:
        build(node, at)
    return {mistake.where: mistake for mistake in caught.value.mistakes}


@pytest.mark.parametrize("wrong", ["8", True, 8.0, 8.5, None, [8], -1, 0])
def test_what_is_not_a_positive_int_is_refused_and_not_bent(wrong: object):
    assert set(mistakes(LORA | {"rank": wrong})) == {"rank"}


@pytest.mark.parametrize("wrong", ["1e-3", True, None, float("inf"), float("nan"), -1e-3])
def test_what_is_not_a_positive_float_is_refused_and_not_bent(wrong: object):
    assert set(mistakes(RATE | {"peak": wrong})) == {"peak"}


def test_a_whole_number_may_stand_for_a_float_and_becomes_one():
    assert repr(build(RATE | {"peak": 1}).peak) == "1.0"


def test_a_mistyped_key_is_answered_with_the_nearest_one_and_all_valid_ones():
    node = {key: value for key, value in RATE.items() if key != "peak"} | {"peek": 1e-3}
    found = mistakes(node, "lr")
    assert found["lr.peek"].action.startswith("Did you mean 'peak'? Valid keys: name, peak,")
    assert found["lr.peak"].why == "this value is required."


def test_all_mistakes_of_a_config_are_told_at_once():
    node = {
        "lr": RATE | {"peak": "big", "schedule": "cosin", "wramup": 3},
        "method": METHOD | {"name": 3, "adapter": LORA | {"rank": "eight"}},
        "evil": [{"_target_": "os.system", "command": "true"}],
        "seed": "???",
    }
    expected = {"lr.peak", "lr.schedule", "lr.wramup", "method.name", "method.adapter.rank"}
    assert set(mistakes(node)) == expected | {"evil[0]._target_", "seed"}


def test_a_number_out_of_its_range_is_answered_by_the_range():
    found = mistakes(RATE | {"peak": -1.0, "warmup_steps": "many", "schedule": "cosin"}, "lr")
    assert found["lr.peak"].action == "Give lr.peak a value greater than 0."
    assert found["lr.warmup_steps"].action == "Give lr.warmup_steps a value of the right kind."
    assert "one of these: 'cosine', 'linear'" in found["lr.schedule"].action


def test_a_missing_and_a_broken_field_beside_each_other_are_both_told():
    node = METHOD | {"adapter": LORA | {"alpha": "x"}}
    assert set(mistakes(node, "method")) == {"method.name", "method.adapter.alpha"}


HOSTILE = [
    "os.system",
    "builtins.eval",
    "subprocess.Popen",
    "lightning.Trainer",
    "torch.load",
    "heed.core.files.os.remove",
    "heed.core.files.os.system",
    "heed.core.files.shutil.rmtree",
    "heed.core.files.write_text",
    "heed.core.component.build",
    "heed.core.errors.ConfigError",
    "heed.models.student.Loaded",
    "heed.training.run.Method",  # registered, but not there
    "heed.nowhere.Thing",
    "heed.methods.adapters.",
    "heed",
    "heed.",
    ".heed.methods.adapters.Full",
    "heed..core.files",
    "heedless.methods.adapters.Full",
    "",
    None,
    3,
    ["heed.methods.adapters.Full"],
    {"_target_": "heed.methods.adapters.Full"},
]


@pytest.mark.parametrize("target", HOSTILE, ids=repr)
def test_only_registered_components_are_built(target: object):
    assert set(mistakes({"_target_": target}, "x")) == {"x._target_"}


@pytest.mark.parametrize("target", HOSTILE[:9], ids=repr)
@pytest.mark.parametrize("depth", ["list", "dict", "component"])
def test_a_hostile_target_is_refused_wherever_it_stands(target: str, depth: str):
    evil = {"_target_": target}
    inside = {
        "list": ([1, [evil]], "x[1][0]._target_"),
        "dict": ({"a": {"b": evil}}, "x.a.b._target_"),
        "component": (LORA | {"layers": [evil]}, "x.layers[0]._target_"),
    }
    node, where = inside[depth]
    assert set(mistakes(node, "x")) == {where}


@pytest.mark.parametrize("module", ["heedless", "antigravity", "heed_evil.deep"])
def test_a_refused_target_is_not_even_imported(tmp_path, monkeypatch, module: str):
    for name in ("heedless", "antigravity", "heed_evil/deep"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    told = mistakes({"_target_": f"{module}.Fly"})["_target_"]
    assert told.why == "only components of heed may be named in a config."


@given(st.text(max_size=30))
def test_no_text_as_a_target_breaks_the_message(text: str):
    assert set(mistakes({"_target_": f"heed.{text}"})) == {"_target_"}


def test_a_rule_between_fields_is_told_with_the_whole_key():
    node = {
        "_target_": "heed.data.treatment.Treatment", "max_tokens": 8, "over_long": "drop",
        "on_bad_row": "error", "duplicates": "keep", "loss_on": "every_turn",
        "validation_share": 0.0, "drop_contaminated": False, "packing": "best_fit",
        "limit": None, "examples_per_step": 4, "epochs": None, "steps": None, "micro_tokens": 8,
    }  # fmt: skip
    assert set(mistakes({"data": node})) == {"data.epochs"}


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.just("text")
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@component
class Holder:
    value: object


@given(values)
def test_a_component_of_any_plain_values_gives_back_the_node_it_was_built_from(value: object):
    node = plain(Holder(value=build(value)))
    assert node == {"_target_": f"{__name__}.Holder", "value": value}


@pytest.mark.parametrize("node", [LORA, RATE, METHOD | {"name": "l", "adapter": LORA}])
def test_plain_undoes_build_and_build_undoes_plain(node: dict):
    made = build(node)
    assert is_component(made)
    assert plain(made) == node
    assert build(plain(made)) == made


def test_a_component_cannot_be_changed():
    made = build(LORA)
    with pytest.raises(AttributeError):
        made.rank = 9

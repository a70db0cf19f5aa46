"""At a scale a study is a study again: stand-ins for its values, one factor for all its rates."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.component import build
from heed.core.compose import compose_component
from heed.core.errors import ConfigError
from heed.study.plan import plan_study
from heed.study.scale import Scale
from heed.study.scaling import at_scale, scale_lines, scaled
from heed.study.study import Study

CONF = Path(__file__).resolve().parents[2] / "conf"
PEAKS = {"gentle": 5e-05, "reference": 2e-4}
OPTIONS = {
    "model": {"1b": "nano", "2b": "micro"},
    "teacher": {"slimorca": "play_clear"},
    "data.limit": {"1000": 10, "50000": None},
    "suite": {"ifeval": "play"},
    "suite.primary": {"ifeval/acc": "play/acc"},
    "checkpoint": {"last": "last"},
}


def study(**changed: Any) -> Study:
    settings = {
        "_target_": "heed.study.study.Study",
        "name": "big",
        "question": "Does it?",
        "axes": {"model": ["1b", "2b"], "lr": ["gentle", "reference"]},
        "fixed": {"teacher": "slimorca", "data.limit": 50000, "data": "responses"},
        "seeds": [1, 2],
        "suite": "ifeval",
        "primary": "ifeval/acc",
        "checkpoint": "last",
    }
    return build(settings | changed)


def scale(**changed: Any) -> Scale:
    settings = {
        "_target_": "heed.study.scale.Scale",
        "name": "small",
        "why": "It is quick.",
        "rate_factor": 25,
        "options": OPTIONS,
        "fixed": {"lr.warmup_steps": 10},
    }
    return build(settings | changed)


def small(of: Study | None = None, **changed: Any) -> Study:
    return scaled(of or study(), scale(**changed), PEAKS)


def told(make: Any) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        make()
    assert all(m.why.endswith(".") and m.action for m in caught.value.mistakes)
    return [(m.where, m.found) for m in caught.value.mistakes]


def test_every_value_has_its_stand_in_and_a_rate_its_own_beside_its_name():
    made = small()
    assert made.lines()[0] == [
        "model=nano", "lr=gentle", "lr.peak=0.00125", "seed=1", "suite=play", "checkpoint=last",
        "suite.primary=play/acc", "teacher=play_clear", "data.limit=null", "data=responses",
        "lr.warmup_steps=10",
    ]  # fmt: skip
    assert made.lines()[-1][:4] == ["model=micro", "lr=reference", "lr.peak=0.005", "seed=2"]
    assert len(made.lines()) == len(study().lines()) == 8


def test_it_has_a_folder_of_its_own_and_asks_the_same():
    made, whole = small(), study()
    assert made.name == "big-small"
    assert (made.question, made.seeds, made.analyses) == (whole.question, (1, 2), ())


def test_the_rate_that_goes_with_a_name_is_no_axis():
    assert small().varied == {"model": ["nano", "micro"], "lr": ["gentle", "reference"]}


@given(
    st.lists(st.floats(1e-6, 1e-2), min_size=1, max_size=4, unique_by=lambda x: f"{x:.3g}"),
    st.floats(0.1, 100),
)
def test_given_rates_are_multiplied_all_by_one_factor(rates: list[float], factor: float):
    whole = study(axes={"model": ["1b"], "lr.peak": rates}, fixed={"lr": "reference"})
    made = small(whole, rate_factor=factor)
    assert made.axes["lr.peak"] == pytest.approx([r * factor for r in rates], rel=1e-5)
    assert [sum("lr.peak" in text for text in line) for line in made.lines()] == [1] * (
        2 * len(rates)
    )


@pytest.mark.parametrize(
    ("rate", "here"), [(5e-05, 0.00125), (2e-4, 0.005), (7e-05, 0.00175), (1.1e-4, 0.00275)]
)
def test_a_multiplied_rate_prints_well(rate: float, here: float):
    made = small(study(fixed={"lr.peak": rate}, axes={"model": ["1b"]}))
    assert made.fixed["lr.peak"] == here


def test_zipped_cells_exclusions_and_rates_in_them_are_mapped_too():
    whole = study(
        axes={},
        zipped=[{"model": ["1b", "2b"], "lr": ["reference", "gentle"]}],
        cells=[{"model": "2b", "lr.peak": 1e-4}],
        exclude=[{"model": "1b"}],
    )
    made = small(whole)
    assert made.zipped == ({"model": ("nano", "micro"), "lr": ("reference", "gentle")},)
    assert made.cells == ({"model": "micro", "lr.peak": 0.0025},)
    assert [line[:3] for line in made.lines()[::2]] == [
        ["model=micro", "lr=gentle", "lr.peak=0.00125"],
        ["model=micro", "lr.peak=0.0025", "seed=1"],
    ]


def test_what_the_scale_fixes_replaces_what_the_study_fixes_and_nothing_that_it_varies():
    fixed = {"data.limit": 7, "data": "play"}
    assert small(fixed=fixed).fixed == {
        "teacher": "play_clear", "data.limit": 7, "data": "play",
    }  # fmt: skip
    varied = study(axes={"data.limit": [1000, 50000]}, fixed={"lr": "gentle"})
    made = small(varied, fixed=fixed)
    assert made.axes["data.limit"] == (10, None)
    assert made.fixed == {"lr": "gentle", "data": "play"}
    assert made.scale is not None
    assert made.scale["sets"] == {"data": "play"}
    no_stand_ins = {k: v for k, v in OPTIONS.items() if k != "data.limit"}
    assert told(lambda: small(varied, fixed=fixed, options=no_stand_ins)) == [
        ("fixed.data.limit", "7")
    ]


def test_settings_that_go_with_a_value_go_with_its_stand_in():
    implied = {
        "model": {"1b": {"data": "responses"}},
        "lr": {"gentle": {"lr.final": 0.1}, "reference": {"lr.peak": 1e-4}},
    }
    made = small(study(implied=implied, fixed={}))
    assert made.implied == {
        "model": {"nano": {"data": "responses"}},
        "lr": {
            "gentle": {"lr.peak": 0.00125, "lr.final": 0.1},
            "reference": {"lr.peak": 0.0025},
        },
    }
    assert made.lines()[0][:5] == [
        "model=nano", "data=responses", "lr=gentle", "lr.peak=0.00125", "lr.final=0.1",
    ]  # fmt: skip


def test_everything_that_has_no_stand_in_is_told_at_once_with_what_has_one():
    odd = study(
        axes={"model": ["1b", "7b"], "data.limit": [5]}, suite="core", fixed={"lr": "gentle"}
    )
    assert told(lambda: small(odd)) == [("model", "7b"), ("data.limit", "5"), ("suite", "core")]
    with pytest.raises(ConfigError, match="scale small has nothing for model 7b; it knows 1b, 2b"):
        small(odd)


def test_two_values_for_which_one_stands_are_told():
    both = {**OPTIONS, "model": {"1b": "nano", "2b": "nano"}}
    assert ("model", "1b, 2b") in told(lambda: small(options=both))


def test_steps_of_zipped_axes_for_which_one_stands_are_told_and_half_equal_ones_are_not():
    both = {**OPTIONS, "model": {"1b": "nano", "2b": "nano"}}
    equal = study(axes={}, zipped=[{"model": ["1b", "2b"], "lr": ["gentle", "gentle"]}])
    assert ("zipped[0]", "model=1b, lr=gentle; model=2b, lr=gentle") in told(
        lambda: small(equal, options=both)
    )
    apart = study(axes={}, zipped=[{"model": ["1b", "2b"], "lr": ["gentle", "reference"]}])
    assert len(small(apart, options=both).lines()) == 4


def test_a_published_value_that_would_stand_beside_more_cells_than_it_is_about_is_told():
    both = {**OPTIONS, "model": {"1b": "nano", "2b": "nano"}}
    zipped = [{"model": ["1b", "2b"], "lr": ["gentle", "reference"]}]
    one = {"where": {"model": "1b"}, "metric": "acc", "source": "it", "after": 1.0}
    made = study(axes={}, zipped=zipped, published=[one])
    assert told(lambda: small(made, options=both)) == [("published[0]", "model=1b")]
    more = {**one, "where": {"model": "1b", "lr": "gentle"}}
    assert small(replace(made, published=(more,)), options=both).published


def test_families_go_with_the_stand_in_of_their_student():
    made = small(study(own_families={"1b": ["llama"], "elsewhere": ["qwen"]}))
    assert made.own_families == {"nano": ("llama",), "elsewhere": ("qwen",)}
    both = {**OPTIONS, "model": {"1b": "nano", "2b": "nano"}}
    zipped = [{"model": ["1b", "2b"], "lr": ["gentle", "reference"]}]
    merged = study(axes={}, zipped=zipped, own_families={"1b": ["llama"], "2b": ["qwen", "llama"]})
    assert small(merged, options=both).own_families == {"nano": ("llama", "qwen")}


@pytest.mark.parametrize("peak", ["${oc.decode:'2e-4'}", "???", "'2e-4'"])
def test_a_named_rate_whose_peak_is_no_plain_number_is_told(peak: str, tmp_path: Path):
    conf = tmp_path / "conf"
    shutil.copytree(CONF, conf)
    text = (conf / "lr/gentle.yaml").read_text()
    (conf / "lr/mine.yaml").write_text(re.sub("peak: .*", f"peak: {peak}", text))
    typed = ["study=lr_rerun_2b", "scale=playground", "study.axes.lr=[gentle,mine]"]
    sweep = compose_component(conf, "sweep", [*typed, "study.exclude=[]"])
    assert told(lambda: at_scale(sweep, conf)) == [("lr", "mine")]
    with pytest.raises(ConfigError, match=r"conf/lr/mine\.yaml"):
        at_scale(sweep, conf)


def test_a_study_without_a_learning_rate_has_none_to_multiply():
    assert told(lambda: small(study(axes={"model": ["1b"]}))) == [("lr", "nothing")]


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"fixed": {"lr.peak": 1.0}}, ("fixed.lr.peak", "given")),
        ({"fixed": {"lr": "gentle"}}, ("fixed.lr", "given")),
        ({"fixed": {"seed": 3}}, ("fixed.seed", "given")),
        ({"fixed": {"suite": "play"}}, ("fixed.suite", "given")),
        ({"options": {"lr": {"gentle": "harsh"}}}, ("options.lr", "given")),
        ({"rate_factor": 0}, ("rate_factor", "0")),
        ({"name": "a/b"}, ("name", "'a/b'")),
    ],
)
def test_what_a_scale_cannot_say_is_told(changed: dict[str, Any], found: tuple[str, str]):
    assert told(lambda: scale(**changed)) == [found]


def test_it_says_what_stands_for_what_and_leaves_out_what_is_the_same():
    made = small()
    assert made.scale == {
        "name": "small",
        "study": "big",
        "why": "It is quick.",
        "rate_factor": 25,
        "stands_for": (
            ("model", "1b", "nano"),
            ("model", "2b", "micro"),
            ("teacher", "slimorca", "play_clear"),
            ("data.limit", "50000", "null"),
            ("suite", "ifeval", "play"),
            ("suite.primary", "ifeval/acc", "play/acc"),
        ),
        "sets": {"lr.warmup_steps": 10},
    }
    lines = "\n".join(scale_lines(made))
    for said in ("big at scale small", "nano for 1b, micro for 2b", "x 25", "lr.warmup_steps=10"):
        assert said in lines
    assert scale_lines(study()) == []


def test_published_values_stand_beside_their_stand_ins_which_is_noted():
    one = {"where": {"model": "1b", "lr.peak": 2e-4}, "metric": "acc", "source": "it", "after": 1.0}
    named = {"where": {"lr": "gentle"}, "metric": "acc", "source": "it", "after": 1.0, "note": "n"}
    first, second = small(study(published=[one, named])).published
    assert first["where"] == {"model": "nano", "lr.peak": 0.005}
    assert first["note"] == (
        "Said of model 1b, for which nano stands here. "
        "Said of lr.peak 0.0002, for which 0.005 stands here."
    )
    assert first["said_of"] == {"model": "1b", "lr.peak": 2e-4}
    assert (second["where"], second["note"]) == ({"lr": "gentle"}, "n")
    assert "said_of" not in second


def swept(*typed: str) -> Study:
    made = at_scale(compose_component(CONF, "sweep", typed), CONF).study
    assert made is not None
    return made


def test_without_a_scale_a_study_is_as_it_is():
    sweep = compose_component(CONF, "sweep", ["study=lr_rerun_2b"])
    assert at_scale(sweep, CONF) is sweep


def test_the_peak_of_a_named_rate_is_that_of_its_file():
    typed = ["study=lr_rerun_2b", "scale=playground", "study.axes.lr=[gentle,reference_wsd]"]
    made = swept(*typed, "study.exclude=[]", "scale.rate_factor=2")
    assert made.implied == {
        "lr": {"gentle": {"lr.peak": 1e-4}, "reference_wsd": {"lr.peak": 4e-4}},
    }


def test_a_rate_that_there_is_not_is_told_by_the_plan():
    typed = ["study=lr_rerun_2b", "scale=playground", "study.axes.lr=[gentel]", "study.exclude=[]"]
    made = replace(swept(*typed), seeds=(1,))
    assert told(lambda: plan_study(made, CONF)) == [("lr", "gentel")]


def test_what_the_scale_says_cannot_be_typed_too_and_it_is_said_who_says_it():
    with pytest.raises(ConfigError) as caught:
        plan_study(
            replace(swept("study=size_ladder", "scale=playground"), seeds=(1,)), CONF,
            ["lr.peak=1", "lr.warmup_steps=2", "teacher=dolly", "lr=gentle"],
        )  # fmt: skip
    found = [(m.where, m.why.split(" says it itself, in "), m.action.split()[5]) for m in
             caught.value.mistakes]  # fmt: skip
    of_scale, of_study = "conf/scale/playground.yaml", "conf/study/size_ladder.yaml"
    assert found == [
        ("lr.peak", ["scale playground", "rate_factor."], of_scale),
        ("lr.warmup_steps", ["scale playground", "fixed."], of_scale),
        ("teacher", ["study size_ladder", "fixed."], of_study),
        ("lr", ["study size_ladder", "axes."], of_study),
    ]


def test_a_scale_needs_a_study():
    assert told(lambda: compose_component(CONF, "sweep", ["scale=playground"])) == [
        ("scale", "playground")
    ]

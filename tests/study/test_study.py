"""A study says its cells exactly, and all of its mistakes at once."""

from itertools import product
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import assume, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from heed.core.component import build
from heed.core.errors import ConfigError
from heed.study.study import Study
from heed.study.values import said, typed

TARGET = "heed.study.study.Study"
PARSER = OverridesParser.create()


def study(**changed: Any) -> Study:
    settings = {
        "_target_": TARGET,
        "name": "small",
        "question": "Does it?",
        "axes": {"lr": ["gentle", "harsh"], "teacher": ["clear", "sloppy"]},
        "seeds": [1],
        "suite": "play",
        "primary": None,
        "checkpoint": "last",
    }
    return build(settings | changed)


def mistakes(**changed: Any) -> list[tuple[str, str]]:
    """Where and what, of each mistake of a study."""
    with pytest.raises(ConfigError) as caught:
        study(**changed)
    assert all(m.why.endswith(".") and m.action for m in caught.value.mistakes)
    return [(m.where, m.found) for m in caught.value.mistakes]


# What a value is typed as


def read_back(text: str) -> Any:
    """What Hydra makes of a value on a command line."""
    config = OmegaConf.create({"key": None})
    OmegaConf.update(config, "key", PARSER.parse_override(f"key={text}").value())
    return config.key


odd = st.text(st.sampled_from("ab 01\\'\"${}[](),:=~!#%@*?<>|&;.+-_\n\té\u2028"), max_size=8)


@given(st.one_of(odd, st.text(st.characters(exclude_categories=["Cs"]), max_size=6)))
def test_a_text_parses_back_to_itself(text: str):
    assume(text != "???")  # in a config, a value that is still to be given
    assert read_back(typed(text)) == text


numbers = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))


@given(st.one_of(numbers, st.booleans(), st.none()))
def test_a_number_parses_back_to_itself_and_stays_of_its_kind(value: Any):
    found = read_back(typed(value))
    assert (found, type(found)) == (value, type(value))


@given(st.from_regex(r"[0-9][0-9a-eExX_.+-]{0,5}", fullmatch=True))
def test_a_text_that_begins_with_a_digit_parses_back_to_itself(text: str):
    assert read_back(typed(text)) == text


def test_the_name_of_a_size_needs_no_quotes_and_a_number_does():
    assert [typed(text) for text in ("1b", "7b-v1.5", "12", "1e5_0", ".5_0")] == [
        "1b", "7b-v1.5", "'12'", "'1e5_0'", "'.5_0'",
    ]  # fmt: skip


def test_a_value_is_named_in_a_yaml_without_quotes():
    assert [said(v) for v in ("1b", "12", 12, 5e-05, True, None)] == [
        "1b", "12", "12", "5e-05", "true", "null",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["\\", "a\\\\", "\\'", "a\\\\'b", "\\${x}", "$", "a\\b", "'"])
def test_backslashes_are_kept(text: str):
    assert read_back(typed(text)) == text


@pytest.mark.parametrize(
    "word", ["true", "NULL", "12", "1e5", ".5", ".5_0", "nan", "-inf", "1_000", ""]
)
def test_a_text_that_looks_like_something_else_stays_a_text(word: str):
    assert read_back(typed(word)) == word


@pytest.mark.parametrize("word", ["lora", "play_clear", "generator_zoo/phi", "teachers-paper.2"])
def test_the_name_of_an_option_needs_no_quotes(word: str):
    assert typed(word) == word


# Which cells there are

KEYS = ("model", "lr", "teacher", "method.adapter.rank", "data.epochs")
values = st.lists(st.sampled_from(["a", "b c", "d'", 1, 2.5, True, None]), min_size=1, max_size=3)
distinct = values.map(lambda found: list({typed(v): v for v in found}.values()))


@st.composite
def studies(draw: Any) -> dict[str, Any]:
    """Settings of a study without mistakes, exclusions apart."""
    keys = draw(st.permutations(KEYS))
    axes = {key: draw(distinct) for key in keys[: draw(st.integers(1, 3))]}
    block: dict[str, list[Any]] = {}
    if draw(st.booleans()):
        first = draw(distinct)
        block = {keys[3]: first, keys[4]: [f"x{n}" for n in range(len(first))]}
    seeds = draw(st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True))
    return {"axes": axes, "zipped": [block] if block else [], "seeds": seeds}


@given(studies(), st.data())
def test_cells_are_the_product_with_every_seed_without_what_is_excluded(found: Any, data: Any):
    made = study(**found)
    steps = [len(next(iter(block.values()))) for block in found["zipped"]]
    count = len(found["seeds"])
    for length in (*map(len, found["axes"].values()), *steps):
        count *= length
    lines = [tuple(line) for line in made.lines()]
    assert len(lines) == len(set(lines)) == count

    key = data.draw(st.sampled_from(list(found["axes"])))
    value = data.draw(st.sampled_from(found["axes"][key]))
    text = f"{key}={typed(value)}"
    kept = [line for line in lines if text not in line]
    if kept:
        left = study(**found, exclude=[{key: value}])
        assert [tuple(line) for line in left.lines()] == kept
    else:
        assert mistakes(**found, exclude=[{key: value}])[0][0] == "exclude"


def test_a_line_holds_everything_that_the_study_says():
    fixed = {"method": "full", "lr.peak": 1e-05, "trainer.deterministic": True}
    made = study(fixed=fixed, primary="play_follow/x", seeds=[3])
    assert made.lines()[0] == [
        "lr=gentle", "teacher=clear", "seed=3", "suite=play", "checkpoint=last",
        "suite.primary=play_follow/x", "method=full", "lr.peak=1e-05", "trainer.deterministic=true",
    ]  # fmt: skip


def test_zipped_axes_move_together_beside_the_product():
    block = {"model": ["a", "b"], "lr.peak": [0.1, 0.2]}
    lines = study(axes={"teacher": ["x", "y"]}, zipped=[block]).lines()
    found = {tuple(line[:3]) for line in lines}
    pairs = (("model=a", "lr.peak=0.1"), ("model=b", "lr.peak=0.2"))
    assert found == {(t, *pair) for t, pair in product(("teacher=x", "teacher=y"), pairs)}


def test_explicit_cells_stand_beside_the_product_and_can_be_all():
    one = {"method": "full", "lr": "gentle"}
    assert study(cells=[one]).lines()[-1][:3] == ["method=full", "lr=gentle", "seed=1"]
    assert len(study(axes={}, cells=[one], seeds=[1, 2]).lines()) == 2


def test_an_exclusion_needs_all_of_its_settings_and_tells_1_from_true():
    axes = {"a": [1, 2], "b": [True, False]}
    lines = study(axes=axes, exclude=[{"a": 1, "b": True}]).lines()
    assert ["a=1", "b=true"] not in [line[:2] for line in lines]
    assert len(lines) == 3
    assert mistakes(axes=axes, exclude=[{"a": True}]) == [("exclude[0]", "a=true")]


# What is refused


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"fixed": {"lr": "x"}}, [("fixed.lr", "given twice")]),
        ({"zipped": [{"lr": ["x"], "b": ["y"]}]}, [("zipped.lr", "given twice")]),
        ({"axes": {"seed": [1, 2]}}, [("axes.seed", "given")]),
        ({"axes": {"suite.primary": ["a"]}}, [("axes.suite.primary", "given")]),
        ({"cells": [{"suite": "x"}]}, [("cells.suite", "given")]),
        ({"zipped": [{"a": [1, 2], "b": [1]}]}, [("zipped[0]", "a: 2, b: 1")]),
        ({"zipped": [{}]}, [("zipped[0]", "{}")]),
        ({"exclude": [{"lr": "hot"}]}, [("exclude[0]", "lr=hot")]),
        ({"exclude": [{"lr": "gentle", "seed": 1}]}, [("exclude[0]", "lr=gentle, seed=1")]),
        ({"exclude": [{}]}, [("exclude[0]", "{}")]),
        ({"exclude": [{"lr": "gentle"}, {"lr": "harsh"}]}, [("exclude", "4 cells")]),
        ({"axes": {}}, [("axes", "{}")]),
        ({"axes": {"lr": []}}, [("axes.lr", "[]")]),
        ({"axes": {"lr": ["a", "b", "a"]}}, [("axes.lr", "a")]),
        ({"seeds": [1, 2, 1, 2]}, [("seeds", "1"), ("seeds", "2")]),
        ({"cells": [{"a": 1}, {"a": 1}]}, [("cells", "a=1")]),
        ({"analyses": ["shift", "shift"]}, [("analyses", "shift")]),
        ({"seeds": []}, [("seeds", "()")]),
        ({"seeds": ["1"]}, [("seeds.0", "'1'")]),
        ({"axes": {"lr": "gentle"}}, [("axes.lr", "'gentle'")]),
        ({"sute": "x"}, [("sute", "'x'")]),
    ],
)
def test_every_kind_of_bad_study_is_named(changed: Any, found: Any):
    assert mistakes(**changed) == found


def test_all_mistakes_come_at_once():
    found = mistakes(
        seeds=[1, 1],
        axes={"lr": ["a", "a"], "seed": [1]},
        zipped=[{"lr": ["x"], "b": [1, 2]}],
        published=[{"where": {}, "metric": "m", "source": "s"}],
    )
    places = ["zipped.lr", "axes.seed", "seeds", "axes.lr", "zipped[0]", "published[0]"]
    assert [where for where, _ in found] == places


PAPER = {"where": {"lr": "gentle"}, "metric": "ifeval", "source": "a paper, table 2"}


def test_a_published_value_needs_a_number_and_no_unknown_key():
    assert study(published=[PAPER | {"after": 0.5}]).published[0]["after"] == 0.5
    assert mistakes(published=[PAPER]) == [("published[0]", "ifeval")]
    ((where, _),) = mistakes(published=[PAPER | {"after": 0.5, "atfer": 1.0}])
    assert "atfer" in where

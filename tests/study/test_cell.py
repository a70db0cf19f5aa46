"""A cell refuses what would make its own verdict worthless."""

from pathlib import Path

import pytest

from heed.core.compose import compose_component
from heed.core.errors import ConfigError

CONF = Path(__file__).parents[2] / "conf"
TEXT = "model.pretraining.teacher"


def test_the_books_student_is_weighed_on_books_it_never_saw():
    compose_component(CONF, "train", ["experiment=real_small"])
    compose_component(CONF, "evaluate", ["model=books", "suite=real_small"])


@pytest.mark.parametrize("change", ["heldout_share=0.01", "part=heldout", "separator=xx"])
@pytest.mark.parametrize(
    "command", [("train", "experiment=real_small"), ("evaluate", "model=books")]
)
def test_text_that_is_both_taught_and_weighed_is_refused(change: str, command: tuple[str, str]):
    line = [command[1], "suite=real_small", f"{TEXT}.{change}"]
    with pytest.raises(ConfigError, match="weighed on what it was taught") as caught:
        compose_component(CONF, command[0], line)
    assert [mistake.where for mistake in caught.value.mistakes] == [TEXT]


def test_tuning_on_the_held_out_text_is_refused_too():
    line = ["experiment=real_small", "teacher=books_simple", "teacher.part=heldout"]
    with pytest.raises(ConfigError, match="weighed on what it was taught"):
        compose_component(CONF, "train", line)


def test_held_out_text_is_found_inside_a_mix_too():
    mix = [
        "experiment=real_small",
        "teacher=human_mix",
        "~teacher.teachers.lima",
        "+teacher@teacher.teachers.books=books_simple",
        "teacher.teachers.books.part=heldout",
        "~teacher.weights.lima",
        "+teacher.weights.books=1.0",
    ]
    with pytest.raises(ConfigError, match="weighed on what it was taught") as caught:
        compose_component(CONF, "train", mix)
    assert [mistake.where for mistake in caught.value.mistakes] == ["teacher.teachers.books"]


def test_a_student_of_random_weights_is_refused():
    with pytest.raises(ConfigError, match="random weights has nothing to be tuned"):
        compose_component(CONF, "train", ["model.pretraining=null"])


@pytest.mark.parametrize("method", ["freeze", "freeze_but_first"])
def test_tokens_that_are_learned_and_frozen_are_refused_before_anything_is_scored(method: str):
    with pytest.raises(ConfigError, match="freezes the embedding") as caught:
        compose_component(CONF, "train", [f"method={method}"])
    assert [mistake.where for mistake in caught.value.mistakes] == ["method.adapter.embeddings"]
    moving = ["method.adapter.embeddings=true", "method.adapter.head=true"]
    compose_component(CONF, "train", [f"method={method}", *moving])

"""A study that cannot be planned yet says which files have to be filled in, each once."""

from pathlib import Path

import pytest

from heed.core.errors import ConfigError, Mistake
from heed.study.open_values import in_its_file
from heed.study.plan import plan_study
from heed.study.study import Study

CONF = Path(__file__).resolve().parents[2] / "conf"


def test_a_value_that_an_option_leaves_open_is_told_with_its_file():
    """Not to be typed: it would be looked for in the teacher of a cell without the study."""
    zoo = "generator_zoo/gemma-2-2b-it"
    axes = {"model": ("1b", "3b"), "teacher": ("slimorca", zoo), "lr": ("play_gentle",)}
    study = Study(
        name="s", question="?", seeds=(1,), suite="play", primary=None, checkpoint="last", axes=axes
    )
    with pytest.raises(ConfigError) as caught:
        plan_study(study, CONF)
    open_keys = {(m.where, m.why, m.action) for m in caught.value.mistakes}
    options = ("model/1b", "model/3b", "teacher/slimorca", "source/generator_zoo")
    one, three, data, shared = (f"conf/{option}.yaml" for option in options)
    assert open_keys == {
        ("model.revision", f"{one} leaves it open.", f"Write it into {one}."),
        ("model.revision", f"{three} leaves it open.", f"Write it into {three}."),
        ("teacher.source.revision", f"{data} leaves it open.", f"Write it into {data}."),
        ("teacher.source.revision", f"{shared} leaves it open.", f"Write it into {shared}."),
    }


def test_other_mistakes_and_what_no_option_of_the_study_decides_stay_as_they_are():
    line = ["model=1b", "lr=gentle"]
    for where, found in (("model.revision", "x"), ("data.limit", "nothing"), ("model", "nothing")):
        mistake = Mistake(where, found, "why", "Add it.")
        assert in_its_file(mistake, line, CONF) is mistake
    (file,) = [in_its_file(Mistake("model.revision", "nothing", "", ""), line, CONF).action]
    assert file == "Write it into conf/model/1b.yaml."

"""What a model reaches that reads nothing: the lower bar of every score."""

from pathlib import Path

import pytest

from heed.core.types import Answer
from heed.evaluation.controls import CONTROLS
from heed.evaluation.ifeval import PromptFile
from heed.evaluation.prompting import Declared
from heed.evaluation.suite import Suite
from heed.models.backend import HeedBackend


def test_every_control_is_found_by_its_name_and_says_what_it_is():
    assert list(CONTROLS) == ["sure", "prose20", "prose50", "empty", "echo"]
    assert all(control.name == name and control.what for name, control in CONTROLS.items())


@pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS)
def test_a_control_is_input_blind_if_and_only_if_it_says_the_same_to_everyone(control):
    assert control.input_blind == (control.respond("one") == control.respond("two"))


def test_controls_say_what_their_names_promise():
    said = {name: control.respond(" Ask.\n\u2028*me* ") for name, control in CONTROLS.items()}
    assert (said["sure"], said["empty"], said["echo"]) == ("Sure", "", " Ask.\n\u2028*me* ")
    assert (len(said["prose20"].split()), len(said["prose50"].split())) == (20, 50)


@pytest.mark.shared
def test_on_the_real_prompts_a_word_beats_prose_and_the_echo_beats_both(shared_data: Path):
    folder = shared_data / "ifeval"
    task = PromptFile(
        path=str(folder / "ifeval_input_data.jsonl"),
        rules="ifeval",
        nltk_data=str(folder / "nltk_data"),
    )
    suite = Suite(
        name="ifeval", tasks={"ifeval": task}, primary="ifeval/inst_level_strict_acc",
        max_new_tokens=1, prompting=Declared(), backend=HeedBackend(batch_tokens=1, rows=1),
        level=0.95, resamples=100, seed=0, margin={"ifeval": 0.02},
    )  # fmt: skip
    reached = {}
    for name, control in CONTROLS.items():
        said = {i.key: Answer(control.respond(i.prompt), 0, None) for i in task.items()}
        scores = suite.score_given(lambda *_, said=said: said)
        found = suite.summarise(scores)["ifeval"]
        reached[name] = [
            round(100 * found[f"{level}_level_strict_acc"].value, 2) for level in ("inst", "prompt")
        ]
    assert reached["sure"] == [22.78, 11.46]  # as others found with the same rules
    assert reached["empty"] == [0, 0]
    order = ["empty", "prose50", "prose20", "sure", "echo"]
    assert sorted(reached, key=lambda name: reached[name]) == order

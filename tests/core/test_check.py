"""Every mistake of a command is named at once, and a command's errors never show a traceback."""

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Annotated, Literal

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from pydantic import Field
from rich.console import Console

from heed.core import component as components
from heed.core.command import Command, mistakes_of
from heed.core.component import component
from heed.core.errors import ConfigError, Mistake, RunError
from heed.core.screen import screen

CONF = {
    "train": """
        defaults:
          - hydra: heed
          - model: nano
          - teacher: clear
          - lr: reference
          - optional experiment: null
          - _self_
        _target_: {targets}.Run
        seed: 0
        outputs: outputs
        order: up
        """,
    "required": """
        defaults:
          - train
          - study: ???
          - _self_
        """,
    "model/nano": "width: 32",
    "model/micro": "width: 64",
    "teacher/clear": "label: ${{hydra:runtime.choices.teacher}}",
    "teacher/sloppy": "label: sloppy",
    "teacher/alpaca/claude": "label: claude",
    "lr/reference": "_target_: {targets}.Rate\npeak: 1e-3\nwarmup: 0.1",
    "lr/gentle": "_target_: {targets}.Rate\npeak: 1e-4\nwarmup: 0.1",
    "style/bare": "{{}}",
    "style/tall": "size: 9",
    "coat/red": "colour: red",
    "evaluate": "defaults:\n  - train\n  - topic: first\n  - _self_",
    "topic/first": "label: first",
    "model/dressed": """
        defaults:
          - /coat@coat: red
          - _self_
        width: 32
        style: {{}}
        """,
    "experiment/small": "# @package _global_\nseed: 5",
    "study/first": "label: first",
}


@component
class Rate:
    peak: float
    warmup: Annotated[float, Field(le=1)]


@component
class Run:
    model: dict[str, object]
    teacher: dict[str, str]
    lr: Rate
    seed: int
    outputs: str
    order: Literal["up", "down"] = "up"
    study: object = None
    extra: object = None


def plant(root: Path, targets: str) -> Path:
    """Write the config tree, with the settings that all commands of the project share."""
    shared = Path(__file__).parents[2] / "conf/hydra"
    for path in shared.rglob("*.yaml"):
        planted = root / "conf/hydra" / path.relative_to(shared)
        planted.parent.mkdir(parents=True, exist_ok=True)
        planted.write_text(path.read_text())
    for name, text in CONF.items():
        path = root / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text.format(targets=targets)).lstrip())
    return root / "conf"


@pytest.fixture
def found(tmp_path, monkeypatch):
    """The mistakes of a command as {key: action}."""
    monkeypatch.setattr(components, "TRUSTED", (__name__,))
    conf = plant(tmp_path, __name__)
    (tmp_path / "evaluate.py").touch()

    def run(typed: str, config_name: str = "train", **more) -> dict[str, str]:
        command = Command(conf, config_name, tuple(typed.split()), **more)
        return {m.where: m.action for m in mistakes_of(command)}

    return run


def test_a_command_without_mistakes_has_none(found):
    assert found("teacher=alpaca/claude lr.peak=1e-4 experiment=small hydra.run.dir=x") == {}


def test_three_mistakes_of_three_kinds_are_named_together_with_what_was_meant(found):
    mistakes = found("teacher=cleer lr.peek=1 seed=eight")
    assert list(mistakes) == ["teacher", "lr.peek", "seed"]
    assert mistakes["teacher"] == "Did you mean 'clear'? Options: alpaca/claude, clear, sloppy."
    assert mistakes["lr.peek"] == "Did you mean 'lr.peak'? Valid here: peak, warmup."


@pytest.mark.parametrize(
    ("typed", "where", "hint"),
    [
        ("techer=x", "techer", "Did you mean 'teacher'?"),
        ("peak=1", "peak", "Did you mean 'lr.peak'?"),
        ("seed.x=1", "seed.x", "Write seed=<value>."),
        ("teacher=alpaca/cloude", "teacher", "Did you mean 'alpaca/claude'?"),
        ("teacher/alpaca=claude", "teacher/alpaca", "Write teacher=alpaca/claude."),
        ("study=first", "study", "write +study=first"),
        ("lr@model.lr=gentle", "lr@model.lr", "write +lr@model.lr=gentle."),
        ("+teacher@teacher=clear", "+teacher@teacher", "Write teacher@teacher=clear,"),
        ("+experiment=smal", "experiment", "Did you mean 'small'?"),
        ("+experiment=small", "+experiment", "Write experiment=small"),
        ("lr=null", "lr", "Options: gentle, reference."),
        ("lr=1e-3", "lr", "A number goes to a key: lr.peak=1e-3. Options"),
        ("lr=high", "lr", "Options: gentle, reference."),
        ("model=dressed coat=red", "coat", "Write coat@model.coat=red."),
        ("model=dressed style=tall", "style", "Write +style@model.style=tall."),
        ("coat=red", "coat", "write +coat=red"),
        ("model=dressed +coat=red", "+coat", "Write coat@model.coat=red."),
        ("+topic=first", "+topic", "another command: python evaluate.py topic=first."),
        ("topic=first", "topic", "another command: python evaluate.py topic=first."),
        ("model=dressed model.style.size=1", "model.style.size", "or choose another model. Opt"),
        ("lr.warmup=2", "lr.warmup", "Give lr.warmup a value less than or equal to 1."),
        ("order=low", "order", "Give order one of these: 'up' or 'down'."),
        ("model=[nano,macro]", "model", "Did you mean 'micro'?"),
        ("lr.peak", "lr.peak", "Write 'lr.peak=<value>'"),
        ("lr.peak=[1", "lr.peak=[1", "Write 'lr.peak=<value>'"),
        ("seed=true", "seed", "a value of the right kind"),
        ("seed=???", "seed", "Add seed=<value>"),
        ("+lr.extra=1", "lr.extra", "Valid keys: peak, warmup."),
        ("outputs=${nope}", "outputs", "Set outputs, or what it refers to."),
        ("~lr", "lr", "Add lr=<value>."),
        ("~nothing", "~nothing", "--cfg job"),
        ("lr._target_=os.system", "lr._target_", "Choose an option"),
        ("extra=[{_target_:os.system}]", "extra[0]._target_", "Choose an option"),
    ],
)
def test_a_mistake_is_placed_and_answered(found, typed, where, hint):
    typed = typed.replace("extra=[", "+extra=[")
    mistakes = found(typed)
    assert list(mistakes) == [where]
    assert hint in mistakes[where]


def test_every_choice_of_a_sweep_is_checked(found):
    typed = "model=nano,macro lr=gentle,referense seed=1,two,3 lr.peak=1,high"
    assert list(found(typed, multirun=True)) == ["model", "lr", "seed", "lr.peak"]
    assert found("seed=1,2 model=nano,micro lr=glob(*)", multirun=True) == {}


def test_several_values_without_multirun_are_a_mistake(found):
    assert "Add -m" in found("seed=1,2")["seed"]
    assert found("seed=1,2 hydra.mode=MULTIRUN") == {}


def test_a_required_choice_is_asked_for_and_hides_no_other_mistake(found):
    mistakes = found("lr.peek=1", "required")
    assert mistakes["study"] == "Add study=<option>. Options: first."
    assert list(mistakes) == ["study", "lr.peek"]
    assert list(found("study=frist", "required")) == ["study"]


def test_a_config_that_is_only_printed_need_not_build(found):
    assert found("seed=eight", building=False) == {}
    assert list(found("lr.peek=1", building=False)) == ["lr.peek"]


def test_checking_leaves_no_trace_in_hydra(found, tmp_path):
    found("seed=1")
    assert HydraConfig.instance().cfg is None
    assert not GlobalHydra.instance().is_initialized()
    with initialize_config_dir(str(tmp_path / "conf"), version_base="1.3"):
        assert list(found("lr.peek=1")) == ["lr.peek"]
        assert compose("train", ["seed=7"]).seed == 7


def shown(error: Exception) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(screen(error))
    return capture.get()


def test_the_screen_shows_each_mistake_once_and_takes_no_markup_from_the_user():
    mistakes = [Mistake("lr", "[red]", "why so.", "Do that."), Mistake("x", "[/b]", "no.", "Do.")]
    text = shown(ConfigError(mistakes))
    assert text.startswith("2 mistakes")
    assert text.count("lr=[red]") == text.count("x=[/b]") == 1


SCRIPT = """
import sys
from heed.core import component
component.TRUSTED = ("toy",)
from heed.core.check import main
from heed.core.errors import RunError

@main("train")
def train(run):
    print("ran", run.seed, type(run).__name__)
    if run.seed == 13:
        raise RunError("seed 13: [unlucky]. Choose seed=14.")
    if run.seed == 666:
        raise KeyError("a crash of ours")

if __name__ == "__main__":
    try:
        train()
    finally:
        print("heavy:", sorted({"torch", "transformers", "lightning"} & set(sys.modules)))
"""


@pytest.fixture
def command(tmp_path):
    """Run a script with a config tree in a process of its own."""
    plant(tmp_path, "toy")
    source = Path(__file__).read_text()
    parts = re.findall(r"@component\nclass .*?\n\n\n", source, re.S)
    head = "from typing import Annotated, Literal\n\nfrom pydantic import Field\n"
    head += "from heed.core.component import component\n"
    (tmp_path / "toy.py").write_text(head + "\n".join(parts))
    (tmp_path / "train.py").write_text(SCRIPT)

    def run(*typed: str) -> subprocess.CompletedProcess:
        line = [sys.executable, "train.py", *typed]
        return subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)

    return run


def test_a_wrong_command_is_one_screen_and_exit_code_2(command):
    done = command("teacher=cleer", "lr.peek=1", "seed=eight")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "ran" not in done.stdout
    assert [w in done.stderr for w in ("teacher=cleer", "lr.peek=1", "seed='eight'")] == [True] * 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--seed=2",), "Write seed=2."),
        (("--seed", "2"), "Write seed=<value>."),
        (("lr=gentle", "--cfg", "job", "seed=2"), "Move it to the front."),
    ],
)
def test_an_option_that_is_none_is_one_screen(command, words, said):
    done = command(*words)
    assert done.returncode == 2
    assert "ran" not in done.stdout
    assert said in done.stderr
    assert "usage:" not in done.stderr


def test_every_run_of_a_multirun_gets_its_component_and_a_failed_one_stops_no_other(command):
    done = command("-m", "seed=12,13,14")
    assert re.findall(r"ran (\d+) Run", done.stdout) == ["12", "13", "14"]
    assert done.stderr.count("seed 13: [unlucky]") == 1
    assert done.returncode == 2


def test_a_crash_keeps_its_traceback(command):
    done = command("seed=666")
    assert done.returncode == 1
    assert "KeyError: 'a crash of ours'" in done.stderr
    assert "in train" in done.stderr


@pytest.mark.parametrize("flag", ["--help", "--cfg=job"])
def test_looking_at_a_command_imports_nothing_heavy(command, flag):
    done = command(flag)
    assert "seed: 0" in done.stdout
    assert "heavy: []" in done.stdout


def test_a_run_leaves_nothing_of_hydra_behind(command, tmp_path):
    before = {path.name for path in tmp_path.iterdir()} | {"__pycache__"}
    assert command("seed=1").returncode == 0
    assert {path.name for path in tmp_path.iterdir()} <= before


def test_what_hydra_refuses_by_itself_is_a_screen_too(command):
    done = command("hydra.foo=1")
    assert done.returncode == 2
    assert "hydra.foo" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_a_message_quotes_steers_no_terminal():
    odd = "\x1b]0;title\x07\ud800"
    mistake = Mistake("run", odd, f"why {odd}", f"do {odd}")
    for error in (RunError(odd), ConfigError([mistake])):
        assert "\x1b" not in shown(error)
        assert r"\x1b]0;title\x07\ud800" in shown(error)


def test_an_error_that_is_no_config_error_is_shown_as_it_reads():
    assert "no [data] here. Set data_dir." in shown(RunError("no [data] here. Set data_dir."))

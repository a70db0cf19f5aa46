"""Every YAML composes and builds, every mistake is named, and ids hold what decides the result."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from heed.core.component import build, plain
from heed.core.compose import compose_component, option_names
from heed.core.errors import ConfigError
from heed.core.identity import canonical, short_hash
from heed.study.cell import Cell
from heed.study.plan import plan_study

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
COMMANDS = ("train", "evaluate", "sweep")
HEAVY = {"torch", "transformers", "peft", "lightning", "wandb", "datasets", "lm_eval", "matplotlib"}
ON_THE_HUB = {"alpaca", "openorca", "orca_dpo", "slimorca", "tulu3", "ultrachat"}
COMMIT = f"teacher.source.revision={40 * 'a'}"
PUBLISHED = (  # at a commit that the user names
    "1b", "3b", "Llama-2-7b", "Llama-3.1-Minitron-4B-Width-Base", "Llama-3.2-3B", "Mistral-7B-v0.1",
    "Qwen2-1.5B", "Qwen2.5-0.5B", "Qwen2.5-3B", "SmolLM2-135M", "gemma-2-2b", "phi-1_5",
    "pythia-410m",
)  # fmt: skip
TEXTS = ("model.tokenizer.corpus.path=a.txt", "model.pretraining.teacher.path=b.txt")
REQUIRED = {  # what a user must say, as an example; every other option builds as it is
    "model=hub": (
        "model.path=organisation/student",
        f"model.revision={40 * 'a'}",
        "model.template.end_of_turn='</s>'",
    ),
    **{f"model={name}": (f"model.revision={40 * 'a'}",) for name in PUBLISHED},
    "model=2b": ("model.path=organisation/student", f"model.revision={40 * 'a'}"),
    **{f"model={size}b_scratch": TEXTS for size in (1, 2, 3)},
    "checkpoint=at_step": ("checkpoint.step=2",),
    "teacher=file": ("teacher.source.path=rows.jsonl",),
    **{
        f"teacher={name}": ("teacher.source.id=organisation/rows", COMMIT)
        for name in ("hub", "magpie")
    },
    **{
        f"teacher={name}": (COMMIT,)
        for name in option_names(CONF, "teacher")
        if name in ON_THE_HUB or name.startswith("generator_zoo/")
    },
    "teacher=generator_zoo/GPT-4": ("teacher.source.path=rows.jsonl",),
    "teachers=generator_zoo": (
        f"teachers.teachers.Phi_3_mini_128k_instruct.source.revision={40 * 'a'}",
        "teachers.teachers.GPT_4.source.path=rows.jsonl",
    ),
    "generation=greedy": ("generation.max_new_tokens=9",),
    "generation=sampled": (
        "generation.max_new_tokens=9",
        "generation.sampling.temperature=0.8",
        "generation.sampling.top_p=1.0",
    ),
    "endpoint=openai": ("endpoint.model=gpt-4-0613",),
    "generation=best_of": ("generation.max_new_tokens=9",),
    "generation=worst_of": ("generation.max_new_tokens=9",),
    "reward=model": (
        "analysis.reward.path=organisation/rewards",
        f"analysis.reward.revision={40 * 'b'}",
    ),
}
FITTING = {  # what an option goes with, where the defaults do not fit
    "checkpoint=best": ("data.validation_share=0.02",),
    "method=freeze": ("model.new_tokens=refuse",),  # no row of the embedding moves
    "method=freeze_but_first": ("model.new_tokens=refuse",),
    **{f"generation={way}_of": ("reward@generation.reward=play",) for way in ("best", "worst")},
    "precision=bf16-true": ("model=hub", *REQUIRED["model=hub"], "model.dtype=bfloat16"),
}
OF_A_SWEEP = {"study": [], "scale": ["study=lr_rerun_2b"]}
"""Groups of sweep.py alone, and what each stands beside."""

RANKING = [
    "model=nano", "analysis=car", "analysis.beta=1.0", "analysis.per=token",
    "analysis.conditioned=true",
]  # fmt: skip
ASKED = ["generate=asked.jsonl"]
OF_TEACHERS = {
    "teachers": ("teachers", [*RANKING, "reward@analysis.reward=play"]),
    "reward": ("reward@analysis.reward", [*RANKING, "teachers=play"]),
    "generation": ("generation", [*ASKED, "model=nano"]),
    "endpoint": ("endpoint", [*ASKED, "generation=greedy", "generation.max_new_tokens=9"]),
}
"""Groups of evaluate.py about teachers: where an option stands, and what stands beside it."""

INSIDE = {  # where an option stands that is a part of another
    "template": ("model=books", "template@model.template"),
    "layout": ("teacher=dolly", "layout@teacher.layout"),
}

NEEDED = {"train": [], "evaluate": ["model=nano"], "sweep": []}
"""What a command cannot do without."""

FOR_HYDRA = {"hydra_plugins.heed_study.sweeper.StudySweeper"}
"""What Hydra itself is to build: its plug-ins, and no components."""

LABELS = {  # values of a run that its id leaves out: names, places, and how a step is cut
    "recipe.data.micro_tokens",
    "recipe.lr.name",
    "recipe.method.name",
    "recipe.teacher.name",
    "recipe.teacher.path",
    "recipe.teacher.source.path",
    "student.name",
    "student.precision",
    "student.pretraining.data.micro_tokens",
    "student.pretraining.lr.name",
    "student.pretraining.method.name",
    "student.pretraining.teacher.name",
    "student.pretraining.teacher.path",
    "student.template.name",
    "student.tokenizer.corpus.name",
    "student.tokenizer.corpus.path",
}


def options() -> list[str]:
    """`group=option` of every YAML in the groups below `conf/`."""
    groups = [path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra"]
    return [f"{g}={name}" for g in sorted(groups) for name in option_names(CONF, g)]


def command_of(option: str) -> tuple[str, list[str]]:
    """The config and the overrides that show an option at work."""
    group, _, name = option.partition("=")
    if group in OF_A_SWEEP:
        return "sweep", [*OF_A_SWEEP[group], option]
    needed = ["data_dir=/nowhere", *REQUIRED.get(option, ()), *FITTING.get(option, ())]
    if group in OF_TEACHERS:
        at, beside = OF_TEACHERS[group]
        return "evaluate", [*beside, f"{at}={name}", *needed]
    if group == "analysis":  # of a run, or of teachers
        of_teachers = [*RANKING, "teachers=play", "reward@analysis.reward=play"]
        return "evaluate", [*(of_teachers if name == "car" else [option, "run=abc"]), *needed]
    if group == "task":
        more = [f"+task@suite.tasks.more={name}", "+suite.margin.more=0.02"]
        return "train", [*more, *needed]
    if group == "judge":  # stands inside a task
        more = ["+task@suite.tasks.more=alpaca_eval", "+suite.margin.more=0.02"]
        return "train", [*more, f"judge@suite.tasks.more.judge={name}", *needed]
    if group in INSIDE:
        around, at = INSIDE[group]
        return "train", [around, f"{at}={name}", *needed]
    if group == "source":
        commit = [COMMIT] if name == "generator_zoo" else []
        teacher = {
            "alpaca_eval": "phi-2",
            "alpaca_aligned": "gpt-4",
            "generator_zoo": "gemma-2-2b-it",
        }
        return "train", [f"teacher={name}/{teacher[name]}", *commit, *needed]
    return "train", [option, *needed]


@cache
def cell(*overrides: str) -> Cell:
    return compose_component(CONF, "train", overrides)


@pytest.mark.parametrize("option", options())
def test_every_option_composes_and_builds_without_its_data(option: str):
    name, overrides = command_of(option)
    root = compose_component(CONF, name, overrides)
    assert build(plain(root)) == root


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_builds_with_nothing_but_what_it_asks_for(name: str):
    assert compose_component(CONF, name, NEEDED[name])


@pytest.mark.parametrize("name", ["train", "evaluate"])
@pytest.mark.parametrize("backend", option_names(CONF, "backend"))
@pytest.mark.parametrize("suite", option_names(CONF, "suite"))
def test_a_backend_is_chosen_beside_any_suite(name: str, backend: str, suite: str):
    line = [*NEEDED[name], f"suite={suite}", f"backend={backend}", "data_dir=/nowhere"]
    made = compose_component(CONF, name, line)
    assert type(made.suite.backend).__name__.lower() == f"{backend}backend"


def test_required_values_are_asked_for_by_name():
    for option, values in REQUIRED.items():
        name, overrides = command_of(option)
        bare = [text for text in overrides if text not in values]
        with pytest.raises(ConfigError) as caught:
            compose_component(CONF, name, bare)
        asked = {mistake.where for mistake in caught.value.mistakes}
        assert asked >= {value.partition("=")[0] for value in values}


def targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from ([node["_target_"]] if "_target_" in node else [])
        yield from (found for value in node.values() for found in targets(value))
    elif isinstance(node, list):
        yield from (found for value in node for found in targets(value))


def test_every_target_of_the_config_tree_is_a_registered_component():
    files = {file: file.is_relative_to(CONF / "hydra") for file in CONF.rglob("*.yaml")}
    found = {file: set(targets(yaml.safe_load(file.read_text()))) for file in files}
    named = {target for file, of_hydra in files.items() if not of_hydra for target in found[file]}
    for_hydra = {target for file, of_hydra in files.items() if of_hydra for target in found[file]}
    assert for_hydra <= FOR_HYDRA
    assert len(named) > 15
    for target in sorted(named):
        with pytest.raises(ConfigError) as caught:
            build({"_target_": target, "no_such_field": 1})
        wrong = [m for m in caught.value.mistakes if "_target_" in m.where]
        assert not wrong, f"{target}: {wrong}"


@pytest.mark.parametrize(
    "override",
    [
        "lr.peak=1e-4",
        "seed=2",
        "precision=bf16-mixed",
        "teacher=play_sloppy",
        "teacher.world=8",
        "method=full",
        "method.adapter.rank=4",
        "data.examples_per_step=16",
        "optim.weight_decay=0.1",
        "model=micro",
        "model.seed=2",
        "model.pretraining.lr.peak=1e-4",
        "model.template.end_of_turn='<assistant>'",
    ],
)
def test_what_decides_the_result_changes_the_run_id(override: str):
    assert cell(override).run.id != cell().run.id


@pytest.mark.parametrize(
    "override",
    [
        "outputs=elsewhere",
        "trainer.devices=2",
        "trainer.threads=3",
        "trainer=gpu",
        "trainer=ddp",
        "trainer=fsdp",
        "trainer=multinode",
        "trainer.nodes=2",
        "logger=wandb",
        "data_dir=/nowhere",
        "callbacks.progress.every_seconds=1.0",
        "~callbacks.progress",
        "suite.max_new_tokens=8",
        "data.micro_tokens=512",
        "lr.name=other",
    ],
)
def test_what_does_not_decide_the_result_leaves_the_run_id(override: str):
    assert cell(override).run.id == cell().run.id


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("max_new_tokens=8", False),
        ("margin.play_follow=0.5", False),
        ("name=x", True),
        ("backend.batch_tokens=9", True),
    ],
)
def test_a_suite_has_an_identity_of_its_own(override: str, same: bool):
    assert (short_hash(cell(f"suite.{override}").suite) == short_hash(cell().suite)) == same


def leaves(node: Any, at: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, f"{at}.{key}".lstrip("."))
    else:
        yield at


@pytest.mark.parametrize("overrides", [(), ("method=full", "lr=play_harsh")])
def test_every_value_of_a_run_is_in_its_id_but_for_labels(overrides: tuple[str, ...]):
    run = cell(*overrides).run
    left_out = set(leaves(plain(run))) - set(leaves(canonical(run)))
    assert left_out <= LABELS
    assert "student.name" in left_out


def test_a_cell_of_a_study_has_the_id_of_its_printed_command(tmp_path: Path):
    study = compose_component(CONF, "sweep", ["study=playground"]).study
    planned = plan_study(study, CONF, [f"outputs={tmp_path}"])
    assert len({p.key for p in planned}) == len(planned) == 12
    for one in (planned[0], planned[-1]):
        python, script, *overrides = shlex.split(one.command)
        assert (python, script) == ("python", "train.py")
        alone = [text for text in overrides if not text.startswith("outputs=")]
        assert compose_component(CONF, "train", alone).run.id == one.key[0]


def call(*line: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *line],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"COLUMNS": "100"},
    )


def test_three_mistakes_in_one_command_are_named_on_one_screen_with_exit_code_2():
    typed = ("teacher=play_cleer", "lr.peek=1", "method.adapter.rank=eight")
    made = call("train.py", *typed)
    assert made.returncode == 2
    assert "Traceback" not in made.stderr
    assert made.stderr.startswith("3 mistakes")
    for said in ("play_cleer", "'play_clear'", "lr.peek", "'lr.peak'", "adapter.rank", "eight"):
        assert said in made.stderr
    assert len(made.stderr.splitlines()) < 25


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("flags", [("--help",), ("--cfg", "job")], ids=" ".join)
def test_looking_at_a_command_imports_nothing_heavy(name: str, flags: tuple[str]):
    watch = (
        "import runpy, sys\n"
        f"sys.argv = ['{name}.py', *{flags}]\n"
        f"runpy.run_path('{ROOT / name}.py', run_name='__main__')\n"
        f"heavy = set({sorted(HEAVY)}) & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    made = call("-c", watch)
    assert made.returncode == 0, made.stderr
    assert "outputs" in made.stdout


@pytest.mark.parametrize(
    "override",
    [
        "+callbacks.x={_target_: os.system, command: 'touch FILE'}",
        "+trainer.arguments.callbacks=[{_target_: os.system, command: 'touch FILE'}]",
        "+trainer.arguments.callbacks=[[{_target_: heed.core.files.os.system, command: x}]]",
        "+trainer.arguments.a={b: [{_target_: heed.core.files.shutil.rmtree, path: FILE}]}",
        "+trainer.arguments.logger={_target_: lightning.pytorch.loggers.CSVLogger, save_dir: x}",
        "+callbacks.x={_target_: heed.core.files.write_text, path: FILE, text: x}",
        "+callbacks.x={_target_: heed.training.callbacks.Watcher}",
        "+callbacks.x={_target_: heed.study.cell.Path}",
        "method.adapter._target_=subprocess.Popen",
        "_target_=os.system",
        "+callbacks.x={_target_: [os.system]}",
    ],
)
def test_a_target_that_is_no_registered_component_is_refused(override: str, tmp_path: Path):
    file = tmp_path / "made"
    with pytest.raises(ConfigError) as caught:
        compose_component(CONF, "train", [override.replace("FILE", str(file))])
    assert any("_target_" in mistake.where for mistake in caught.value.mistakes)
    assert not file.exists()


def test_a_command_with_hostile_targets_ends_with_code_2_and_names_both():
    hidden = "+trainer.arguments.callbacks=[{_target_: heed.core.files.os.system}]"
    made = call("train.py", "+callbacks.x={_target_: os.system}", hidden)
    assert made.returncode == 2
    assert "Traceback" not in made.stderr
    assert "callbacks.x._target_" in made.stderr
    assert "trainer.arguments.callbacks[0]._target_" in made.stderr


@pytest.mark.parametrize("name", ["train", "evaluate"])
@pytest.mark.parametrize("suite", option_names(CONF, "suite"))
def test_a_prompting_is_chosen_beside_any_suite_and_the_chat_template_is_the_usual(name, suite):
    line = [*NEEDED[name], f"suite={suite}", "data_dir=/nowhere"]
    usual = compose_component(CONF, name, line).suite
    assert usual.prompting.name == "template"
    for prompting in option_names(CONF, "prompting"):
        made = compose_component(CONF, name, [*line, f"prompting={prompting}"]).suite
        assert made.prompting.name == prompting
        added = "" if prompting == "template" else f"@{prompting}"
        assert made.name == usual.name + added


@pytest.mark.parametrize(
    ("typed", "also"),
    [("", "plain"), ("also=none", None), ("suite.also=null", None), ("also=template", "template")],
)
def test_a_run_is_asked_plain_too_unless_it_is_told_otherwise(typed: str, also: str | None):
    made = cell(*([typed] if typed else []))
    assert (made.suite.also and made.suite.also.name) == also
    assert made.run.id == cell().run.id
    assert short_hash(made.suite) == short_hash(cell().suite)

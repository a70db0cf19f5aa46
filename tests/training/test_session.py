"""A training that is broken off goes on, and ends as if it had not been."""

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from power_cut import PowerCut, PowerCutError
from safetensors.torch import load_file

from heed.core.component import component
from heed.core.compose import compose_component
from heed.core.errors import RunError
from heed.core.files import read_json, read_jsonl
from heed.data.encode import encode_all
from heed.data.plan import plan
from heed.methods.adapters import Full, LoRA
from heed.methods.method import Method
from heed.methods.weights import Plain
from heed.models.likelihood import StudentLoss
from heed.models.student import load
from heed.training import pieces
from heed.training.callbacks import (
    KeepSteps,
    Metrics,
    ValidationLoss,
    Watcher,
    kept_on_disk,
    step_directory,
)
from heed.training.checkpoint import load_student
from heed.training.checkpoints import Checkpoints
from heed.training.fit import fit
from heed.training.module import Tuning
from heed.training.rule import AtStep, Best, Last
from heed.training.session import POSITION

LORA = Method(
    name="lora",
    weights=Plain(),
    noise=None,
    adapter=LoRA(rank=2, alpha=4.0, dropout=0.2, layers="all-linear"),
)
FULL = Method(name="full", weights=Plain(), noise=None, adapter=Full())
STEPS = 6  # 24 examples, 8 a step in several micro-batches, 2 epochs


@pytest.fixture(scope="module")
def start(around, recipe_of, saved_base, wide_base, template):
    """Begin a training in a directory, or go on with it."""

    def run(directory: Path, *, cut: int = 0, every: int = 1, keep: int = 1, watch=None, **changes):
        watchers = {
            "validation": ValidationLoss(every_steps=2),
            "metrics": Metrics(every_steps=1),
            "keep": KeepSteps(steps=(1, 3)),
            "checkpoints": Checkpoints(every_steps=every, every_minutes=None, keep=keep),
            "cut": PowerCut(step=cut),
        } | (watch or {})
        base = wide_base if changes.pop("wide", False) else saved_base
        loaded = load(str(base), name="tiny", template=template)
        optim = changes.pop("optim", None)
        recipe = recipe_of(**({"epochs": 2, "validation_share": 0.2, "method": LORA} | changes))
        recipe = replace(recipe, optim=optim or recipe.optim)
        torch.rand(random.randrange(5))  # what was drawn before does not matter
        record = fit(recipe, loaded, replace(around, callbacks=watchers), directory)
        return loaded, record

    return run


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """The same training without a cut, once for each of its settings."""
    made = {}

    def run(**changes):
        key = repr(sorted(changes.items()))
        if key not in made:
            directory = tmp_path_factory.mktemp("whole")
            made[key] = (directory, *start(directory, **changes))
        return made[key]

    return run


def weights(loaded) -> torch.Tensor:
    return torch.cat([p.detach().flatten().double() for p in loaded.model.parameters()])


def rows(directory: Path) -> list[dict]:
    return [row | {"seconds": 0} for row in read_jsonl(directory / "metrics.jsonl")]


def files_of(directory: Path) -> dict[str, bytes]:
    """What others load, byte for byte."""
    found = (*directory.glob("model/*.safetensors"), *directory.glob("steps/*/model/*.safetensors"))
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


def equal(one, other) -> None:
    (first, student, record), (second, like, recorded) = one, other
    assert torch.equal(weights(student), weights(like))
    assert rows(first) == rows(second)
    assert files_of(first) == files_of(second)
    assert len(files_of(first)) == len(record["kept_steps"]) + 1
    differ = ("seconds", "resumed", "resumed_by_code", "checkpoints_written", "preflight")
    assert [k for k in record if record[k] != recorded[k]] == [
        k for k in differ if k in record and record[k] != recorded[k]
    ]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("method", [LORA, FULL], ids=["lora", "full"])
def test_a_training_broken_off_again_and_again_ends_with_the_same_bits(
    start, whole, tmp_path: Path, method: Method, precision: str
):
    settings = {"method": method, "precision": precision, "schedule": "linear"}
    for cut in (1, 2, 4, 5):
        with pytest.raises(PowerCutError):
            start(tmp_path, cut=cut, every=1, **settings)
    loaded, record = start(tmp_path, **settings)
    equal(whole(**settings), (tmp_path, loaded, record))
    assert record["resumed"] == [1, 3, 4]  # the cut at 1 came before the first checkpoint
    assert record["checkpoints_written"] == STEPS


@settings(max_examples=2)
@given(cuts=st.lists(st.integers(1, STEPS), min_size=1, max_size=3), every=st.integers(1, 4))
def test_wherever_it_is_cut_and_however_often_it_is_kept(
    start, whole, tmp_path_factory, cuts: list[int], every: int
):
    directory = tmp_path_factory.mktemp("run")
    for cut in cuts:
        try:
            start(directory, cut=cut, every=every)
        except PowerCutError:
            continue
        break  # that step was done before
    equal(whole(), (directory, *start(directory, every=every)))


CONF = Path(__file__).resolve().parents[2] / "conf"


KNOWN = ("data.epochs=1", "data.steps=null", "model.new_tokens=refuse")
"""So that every method goes with the student: one that freezes the embedding learns no token."""


def of_conf(*choices: str):
    return compose_component(CONF, "train", (*KNOWN, *choices))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process of its own reads the student back, though the test is a slow one."""
    monkeypatch.setattr("heed.training.fit.check_fresh", lambda *_: 0.0)


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["dora", "freeze", "int8_lora", "lora_plus", "pissa", "qlora"])
def test_every_method_goes_on_with_the_same_bits(start, whole, tmp_path: Path, name: str):
    """With noise on the embeddings besides, which draws random numbers in each micro-batch."""
    method = of_conf(f"method={name}", "noise=neftune").method
    settings = {"method": method, "wide": name == "qlora"}
    cut_at(start, tmp_path, 4, **settings)
    equal(whole(**settings), (tmp_path, *start(tmp_path, **settings)))


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["adafactor", "adamw_8bit", "adamw_paged_8bit"])
def test_every_optimiser_goes_on_with_the_same_bits(start, whole, tmp_path: Path, name: str):
    optim = of_conf(f"optim={name}").optim
    cut_at(start, tmp_path, 4, optim=optim, method=FULL)
    equal(whole(optim=optim, method=FULL), (tmp_path, *start(tmp_path, optim=optim, method=FULL)))


def test_all_sources_of_random_numbers_are_put_back(start, whole, tmp_path: Path):
    """A watcher that draws from each of them: what it draws does not depend on the cut."""

    @component
    class Draws(Watcher):
        def build(self, watched):
            class Draw(lightning.Callback):
                def on_train_batch_start(self, trainer, module, *_):
                    drawn = random.random(), np.random.rand(), torch.rand(()).item()
                    row = {"step": module.done + 1, "drawn": drawn}
                    with (watched.directory / "drawn.rows.jsonl").open("a") as file:
                        file.write(json.dumps(row) + "\n")

            return Draw()

    one, two = tmp_path / "one", tmp_path / "two"
    watch = {"draws": Draws()}
    start(one, watch=watch)
    with pytest.raises(PowerCutError):
        start(two, cut=4, watch=watch)
    random.seed(5)
    np.random.seed(5)
    start(two, watch=watch)
    wanted = read_jsonl(one / "drawn.rows.jsonl")
    assert len(wanted) == STEPS
    assert read_jsonl(two / "drawn.rows.jsonl") == wanted


def cut_at(start, directory: Path, step: int, **more) -> Path:
    with pytest.raises(PowerCutError):
        start(directory, cut=step, **more)
    return directory


def newest(directory: Path) -> Path:
    (found,) = (directory / "checkpoints").glob("[0-9]*")
    return found


def test_it_says_where_it_goes_on_and_with_which_examples(start, recipe_of, tmp_path: Path, capsys):
    cut_at(start, tmp_path, 4)
    capsys.readouterr()
    loaded, record = start(tmp_path)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "Going on" in line]
    assert "Going on after step 3 of 6 (checkpoint of 2" in line
    data = recipe_of(epochs=2, validation_share=0.2).data
    examples = encode_all(recipe_of().teacher, loaded.template, loaded.tokenizer, data).examples
    fourth = next(plan(examples, data, ranks=1, seed=1, start=(3, 0)))
    ids = [examples[i].id for i in fourth.indices]
    assert f"the next examples are {', '.join(ids[:3])} and {len(ids) - 3} more" in line
    assert record["resumed"] == [3]


def test_kept_checkpoints_are_bounded_and_half_written_ones_are_cleared(start, tmp_path: Path):
    cut_at(start, tmp_path, 5, keep=2)
    folder = tmp_path / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["3", "4"]
    (folder / ".5.half").mkdir()
    (folder / ".5.half/weights.safetensors").write_bytes(b"half")
    start(tmp_path, keep=2)
    assert sorted(path.name for path in folder.iterdir()) == ["5", "6", "resumed.jsonl"]


def test_what_the_module_remembers_is_in_a_checkpoint(loaded, recipe_of):
    module = Tuning(StudentLoss(loaded.model), recipe_of(), steps=STEPS)
    own = vars(module).keys() - vars(lightning.LightningModule()).keys()
    made_anew = {"student", "recipe", "steps", "wishes", "wished", "mesh"}
    assert {name for name in own if name[0] != "_"} - made_anew == set(POSITION)


def test_only_what_moves_is_kept(start, tmp_path: Path):
    found = load_file(newest(cut_at(start, tmp_path, 4)) / "weights.safetensors")
    assert found
    assert all("lora_" in name for name in found)


def test_what_only_the_broken_off_part_has_done_is_gone(start, whole, tmp_path: Path):
    """Steps 2 to 4 were done after the last checkpoint, and are done again."""
    cut_at(start, tmp_path, 2)
    folder = tmp_path / "checkpoints"
    shutil.copytree(folder / "1", tmp_path / "first")
    cut_at(start, tmp_path, 5)
    shutil.rmtree(folder)
    folder.mkdir()
    (tmp_path / "first").rename(folder / "1")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # torn
    (tmp_path / "samples.jsonl").write_text("{}\n")  # begun after the checkpoint
    loaded, record = start(tmp_path)
    assert record["resumed"] == [1]
    assert not (tmp_path / "samples.jsonl").exists()
    equal(whole(), (tmp_path, loaded, record))


def test_a_training_that_has_ended_is_not_done_again(start, whole, tmp_path: Path, monkeypatch):
    """It was broken off while the student was written."""
    with monkeypatch.context() as patch:
        patch.setattr("heed.training.fit.take", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            start(tmp_path)
    monkeypatch.setattr(Tuning, "training_step", lambda *_: 1 / 0)
    loaded, record = start(tmp_path)
    assert record["resumed"] == [STEPS]
    assert torch.equal(weights(loaded), weights(whole()[1]))
    assert rows(tmp_path) == rows(whole()[0])
    assert record["taken"] == whole()[2]["taken"]


def test_a_training_of_other_settings_is_refused(start, tmp_path: Path):
    cut_at(start, tmp_path, 4)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(RunError, match=r"of another training.*its recipe is \w+.*rm -r .*points"):
        start(tmp_path, peak=2e-3)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    assert newest(tmp_path).name == "3"


@pytest.mark.parametrize(
    ("key", "value"), [("base", "0" * 12), ("versions.torch", "1.0"), ("plan", "f" * 12)]
)
def test_another_base_version_or_plan_is_refused(start, tmp_path: Path, key: str, value: str):
    path = newest(cut_at(start, tmp_path, 2)) / "state.json"
    state = read_json(path)
    node = state["about"]
    *above, last = key.split(".")
    for name in above:
        node = node[name]
    node[last] = value
    path.write_text(json.dumps(state))
    with pytest.raises(RunError, match=f"its {key} is {value}, and here it is"):
        start(tmp_path)


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_checkpoint_is_one_clear_screen(start, tmp_path: Path, name: str, damage: str):
    path = newest(cut_at(start, tmp_path, 2)) / name
    text = path.read_bytes()
    path.write_bytes(text[: len(text) // 2] if damage == "cut" else text[:-9] + b"~" + text[-8:])
    if damage == "gone":
        path.unlink()
    with pytest.raises(RunError, match=r"cannot be read .*rm -r .*checkpoints/1\), and the same"):
        start(tmp_path)


def test_a_checkpoint_that_was_moved_aside_is_none(start, whole, tmp_path: Path):
    path = newest(cut_at(start, tmp_path, 2))
    path.rename(path.with_name("1.bad"))
    equal(whole(), (tmp_path, *start(tmp_path)))


def test_lost_rows_are_told_and_nothing_is_touched(start, tmp_path: Path):
    cut_at(start, tmp_path, 4)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match=r"and has 100 now: rows of the training are lost"):
        start(tmp_path)
    assert len(path.read_bytes()) == 100


def test_a_full_disk_is_one_clear_screen_and_leaves_what_was(start, whole, tmp_path, monkeypatch):
    write, calls = pieces.save_file, []

    def full(tensors, path):
        calls.append(path)
        if len(calls) > 4:  # two files a checkpoint
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        write(tensors, path)

    monkeypatch.setattr(pieces, "save_file", full)
    with pytest.raises(RunError, match=r"points/3 cannot be written .*No space left.*goes on from"):
        start(tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["2"]
    monkeypatch.undo()
    equal(whole(), (tmp_path, *start(tmp_path)))


def test_another_state_of_the_code_is_told_and_recorded(start, tmp_path: Path, monkeypatch, capsys):
    cut_at(start, tmp_path, 3)
    for module in ("session", "resumed"):
        monkeypatch.setattr(f"heed.training.{module}.code_state", lambda: "feedfacebeef")
    before = read_json(newest(tmp_path) / "state.json")["code"]
    _, record = start(tmp_path)
    assert record["resumed_by_code"] == [before, "feedfacebeef"]
    assert f"done by heed's code {before}, the next by feedfacebeef" in capsys.readouterr().err


def test_another_number_of_threads_is_told_and_recorded(start, tmp_path: Path, capsys):
    path = newest(cut_at(start, tmp_path, 3)) / "state.json"
    before, now = read_json(path)["threads"], torch.get_num_threads()
    assert before == now
    path.write_text(path.read_text().replace(f'"threads": {now}', f'"threads": {now + 1}'))
    _, record = start(tmp_path)
    assert record["resumed_on"] == {"threads": [now + 1, now]}
    assert f"done by {now + 1} threads of the CPU, the next by {now}" in capsys.readouterr().err


def test_another_device_is_told(start, tmp_path: Path, capsys):
    path = newest(cut_at(start, tmp_path, 3)) / "state.json"
    path.write_text(path.read_text().replace('"device": "cpu"', '"device": "cuda"'))
    start(tmp_path)
    assert "done on cuda, the next are on cpu: the student will not" in capsys.readouterr().err


def test_what_an_earlier_heed_left_is_cleared_before_a_training_begins(start, tmp_path: Path):
    (tmp_path / "steps/77/model").mkdir(parents=True)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    start(tmp_path)
    assert kept_on_disk(tmp_path) == [1, 3]
    assert len([row for row in rows(tmp_path) if "loss" in row]) == STEPS


def test_what_no_training_wrote_is_left_where_it_is(start, tmp_path: Path):
    for name in ("arc_easy.jsonl", "notes.txt"):
        (tmp_path / name).write_text("{}\n")
    cut_at(start, tmp_path, 3)
    start(tmp_path)
    assert [(tmp_path / n).read_text() for n in ("arc_easy.jsonl", "notes.txt")] == ["{}\n"] * 2


def test_the_seconds_of_all_parts_count(start, tmp_path: Path):
    path = newest(cut_at(start, tmp_path, 3)) / "state.json"
    state = read_json(path)
    path.write_text(json.dumps(state | {"seconds": 1000.0}))
    assert start(tmp_path)[1]["seconds"] >= 1000.0


BEST = {"checkpoint": Best(every_steps=1, patience=None), "peak": 0.1}


def test_the_best_step_is_taken_wherever_the_training_was_cut(start, whole, tmp_path: Path):
    directory, _, record = whole(**BEST)
    measured = {r["step"]: r["validation_loss"] for r in rows(directory) if "validation_loss" in r}
    best = min(range(1, STEPS + 1), key=measured.__getitem__)
    assert record["taken"]["step"] == best < STEPS, "the settings make a later step worse"
    assert record["taken"]["validation_loss"] == measured[best]
    for cut in (best + 1, STEPS):
        cut_at(start, tmp_path, cut, **BEST)
        kept = {path.name for path in (tmp_path / "candidates").iterdir()}
        assert str(best) in kept
        assert len(kept) <= 2
    equal(whole(**BEST), (tmp_path, *start(tmp_path, **BEST)))


def test_a_candidate_that_a_checkpoint_could_take_stays(start, tmp_path: Path):
    """Each step is better than the one before, and the one at 3 came after the checkpoint."""
    cut_at(start, tmp_path, 3, every=2, checkpoint=Best(every_steps=1, patience=None))
    assert read_json(newest(tmp_path) / "state.json")["candidate"] == 2
    assert {path.name for path in (tmp_path / "candidates").iterdir()} == {"2", "3"}


def test_the_best_step_is_the_student_of_that_step(start, whole, tmp_path: Path):
    _, student, record = whole(**BEST)
    watch = {"keep": KeepSteps(steps=(record["taken"]["step"],))}
    start(tmp_path, watch=watch, checkpoint=Last(), peak=0.1)
    kept = step_directory(tmp_path, record["taken"]["step"])
    like = load_student(kept, student.loading)
    reloaded = load_student(whole(**BEST)[0] / "model", student.loading)
    assert torch.equal(weights(like), weights(reloaded))


def test_patience_ends_a_training_also_when_it_was_cut(start, whole, tmp_path: Path):
    patient = BEST | {"checkpoint": Best(every_steps=1, patience=1)}
    _, _, record = whole(**patient)
    taken = record["taken"]
    assert taken["steps_done"] == record["optimiser_steps"] == taken["step"] + 1 < STEPS
    cut_at(start, tmp_path, taken["step"] + 1, **patient)
    equal(whole(**patient), (tmp_path, *start(tmp_path, **patient)))


def test_a_step_that_is_asked_for_ends_the_training_on_the_schedule_of_the_plan(
    start, whole, tmp_path: Path
):
    linear = {"schedule": "linear"}
    loaded, record = start(tmp_path, checkpoint=AtStep(step=3), **linear)
    assert record["optimiser_steps"] == record["taken"]["step"] == 3
    assert [row["step"] for row in rows(tmp_path) if "loss" in row] == [1, 2, 3]
    kept = load_student(step_directory(whole(**linear)[0], 3), loaded.loading)
    assert torch.equal(weights(kept), weights(load_student(tmp_path / "model", loaded.loading)))


def test_rules_that_the_data_do_not_allow_are_refused_before_training(start, tmp_path: Path):
    with pytest.raises(RunError, match=r"checkpoint\.step=9: the training has 6 optimiser steps"):
        start(tmp_path, checkpoint=AtStep(step=9))
    with pytest.raises(RunError, match=r"of so few rows none were\. Raise data\.validation_share"):
        start(tmp_path, checkpoint=Best(every_steps=2, patience=None), validation_share=1e-9)

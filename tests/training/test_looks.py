"""Looks at a student under training change nothing of it, and are written where they are read."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from heed.core.files import read_jsonl
from heed.methods.adapters import LoRA
from heed.methods.method import Method
from heed.methods.noise import NEFTune
from heed.methods.weights import Plain
from heed.models.student import load
from heed.tracking.tracker import LocalOnly
from heed.training.callbacks import KeepSteps, Metrics, Watched
from heed.training.fit import fit
from heed.training.looks import InLoopScore, Samples, samples_page, score_line

METHOD = Method(
    name="lora",
    weights=Plain(),
    noise=NEFTune(alpha=5.0),
    adapter=LoRA(rank=4, alpha=8.0, dropout=0.1, layers="all-linear"),
)
SAMPLES = Samples(every_steps=2, prompts=("Name <b>thing</b> 3.", "Hi"), count=4, max_new_tokens=5)
SCORE = InLoopScore(every_steps=2, items=7)


def a_module(done: int):
    """What a look sees of a module of which nothing is divided."""
    return SimpleNamespace(done=done, steps=4, modules=list)


def drawing(loaded, items):
    """A score that draws random numbers and looks at what mode it is asked in."""
    torch.rand(3)
    return {"look/x/acc": float(loaded.model.training), "look/low": 0.0, "look/high": 1.0,
            "look/items": items}  # fmt: skip


@pytest.fixture(scope="module")
def trained(recipe_of, around, saved_base, template, tmp_path_factory):
    """Train with these watchers; gives the directory and all weights."""
    made = {}

    def run(*watchers, checkpointing=False):
        key = (watchers, checkpointing)
        if key not in made:
            directory = tmp_path_factory.mktemp("run")
            loaded = load(str(saved_base), name="tiny", template=template)
            trainer = replace(around.trainer, activation_checkpointing=checkpointing)
            named = dict(enumerate((Metrics(every_steps=1), *watchers)))
            own = replace(around, trainer=trainer, callbacks=named, score=drawing)
            fit(recipe_of(method=METHOD, epochs=2), loaded, own, directory)
            parts = [p.detach().flatten() for p in loaded.model.parameters()]
            made[key] = directory, torch.cat(parts)
        return made[key]

    return run


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_training_that_is_looked_at_ends_with_the_same_bits(trained, checkpointing):
    plain = trained(checkpointing=checkpointing)
    looked = trained(SAMPLES, SCORE, checkpointing=checkpointing)
    assert torch.equal(plain[1], looked[1])
    rows = [r for r in read_jsonl(looked[0] / "metrics.jsonl") if "loss" in r]
    for one, other in zip(read_jsonl(plain[0] / "metrics.jsonl"), rows, strict=True):
        assert one | {"seconds": 0} == other | {"seconds": 0}


def test_samples_are_taken_of_the_base_every_few_steps_and_of_the_last(trained):
    directory, _ = trained(SAMPLES, SCORE)
    rows = read_jsonl(directory / "samples.jsonl")
    assert [row["step"] for row in rows] == [0, 0, 2, 2, 4, 4, 6, 6]
    assert {row["prompt"] for row in rows} == set(SAMPLES.prompts)
    assert all(row["stop"] in ("stop", "cap") and 1 <= row["tokens"] <= 5 for row in rows)
    page = (directory / "samples.html").read_text()
    assert "Name &lt;b&gt;thing&lt;/b&gt; 3." in page
    assert "<b>" not in page
    assert page.count("<p>Step 6") == 2


def test_a_score_in_the_loop_is_a_row_of_the_metrics_and_asked_without_dropout(trained, capsys):
    directory, _ = trained(SAMPLES, SCORE)
    rows = [row for row in read_jsonl(directory / "metrics.jsonl") if "look/items" in row]
    assert [(row["step"], row["look/items"]) for row in rows] == [(s, 7) for s in (0, 2, 4, 6)]
    assert all(row["look/x/acc"] == 0.0 for row in rows)


def test_where_there_is_nothing_to_ask_or_to_score_nothing_is_written(trained, tmp_path):
    watched = Watched(tmp_path, LocalOnly(), loaded=SimpleNamespace())
    module = a_module(2)
    trainer = SimpleNamespace(is_global_zero=True)
    for watcher in (replace(SAMPLES, prompts=()), SCORE):
        watcher.build(watched).on_train_batch_end(trainer, module, None, None, 0)
    assert list(tmp_path.iterdir()) == []


def test_without_prompts_of_its_own_it_asks_those_of_the_suite(loaded, tmp_path):
    watched = Watched(tmp_path, LocalOnly(), loaded=loaded, ask=lambda n: ["One.", "Two."][:n])
    look = replace(SAMPLES, prompts=(), count=1).build(watched)
    module = a_module(0)
    look.on_train_start(SimpleNamespace(is_global_zero=True), module)
    assert [row["prompt"] for row in read_jsonl(tmp_path / "samples.jsonl")] == ["One."]


def test_a_training_that_goes_on_does_not_look_before_its_first_step(loaded, tmp_path):
    watched = Watched(tmp_path, LocalOnly(), loaded=loaded, score=drawing)
    look = SCORE.build(watched)
    look.on_train_start(SimpleNamespace(is_global_zero=True), a_module(3))
    assert list(tmp_path.iterdir()) == []


def test_only_one_rank_looks(loaded, tmp_path):
    look = SCORE.build(Watched(tmp_path, LocalOnly(), loaded=loaded, score=drawing))
    module = a_module(4)
    look.on_train_batch_end(SimpleNamespace(is_global_zero=False), module, None, None, 0)
    assert list(tmp_path.iterdir()) == []


def test_the_mirror_gets_numbers_of_both(loaded, tmp_path):
    seen = []
    mirror = SimpleNamespace(log=seen.append)
    watched = Watched(tmp_path, mirror, loaded=loaded, score=drawing)
    module, trainer = a_module(4), SimpleNamespace(is_global_zero=True)
    for watcher in (SAMPLES, SCORE):
        watcher.build(watched).on_train_batch_end(trainer, module, None, None, 0)
    assert [row["step"] for row in seen] == [4, 4]
    assert 0 <= seen[0]["samples/ended"] <= 1
    assert all(isinstance(value, int | float) for row in seen for value in row.values())


def test_an_exception_in_a_look_leaves_mode_and_random_numbers_as_they_were(loaded, tmp_path):
    modes = []

    def fails(loaded, items):
        modes.append(loaded.model.training)
        torch.rand(5)
        raise ZeroDivisionError

    loaded.model.train()
    before = torch.get_rng_state()
    look = SCORE.build(Watched(tmp_path, LocalOnly(), loaded=loaded, score=fails))
    with pytest.raises(ZeroDivisionError):
        look.on_train_batch_end(SimpleNamespace(is_global_zero=True), a_module(4), None, None, 0)
    assert modes == [False]
    assert loaded.model.training
    assert torch.equal(before, torch.get_rng_state())


def test_looks_are_of_a_tuning_and_never_of_a_pretraining():
    assert Samples.tuning_only
    assert InLoopScore.tuning_only
    assert KeepSteps.tuning_only
    assert not Metrics.tuning_only


def test_a_line_says_that_it_is_no_result():
    found = {"look/a/b": 0.5, "look/low": 0.4, "look/high": 0.6, "look/items": 9}
    assert score_line(3, found) == (
        "  step 3: a/b 0.500 (0.400 to 0.600) on 9 items; a look, not a result"
    )


def test_an_answer_that_was_cut_is_marked(tmp_path: Path):
    row = {"step": 1, "prompt": "a", "response": "<i>", "stop": "cap", "tokens": 2}
    page = samples_page([row, row | {"stop": "stop"}])
    assert page.count("cut at the cap") == 1
    assert "&lt;i&gt;" in page

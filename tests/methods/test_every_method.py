"""Every method of `conf/method`: it trains, is saved, and comes back as the student it was."""

import contextlib
import dataclasses
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from heed.core.component import build, plain
from heed.core.errors import ConfigError
from heed.core.files import read_jsonl, write_json
from heed.core.identity import short_hash
from heed.methods.method import Method
from heed.methods.noise import NEFTune
from heed.models.student import load
from heed.training.card import code_of
from heed.training.checkpoint import load_student
from heed.training.fit import fit

CONF = Path(__file__).parents[2] / "conf" / "method"
METHODS = {path.stem: path for path in sorted(CONF.glob("*.yaml"))}
IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
NOISE = NEFTune(alpha=5.0)
STORED = ("qlora", "int8_lora")


def method(name: str) -> Method:
    """An option as it stands, but for numbers of blocks that the tiny student lacks."""
    made = build(yaml.safe_load(METHODS[name].read_text()))
    fewer = {
        key: min(1, getattr(made.adapter, key))
        for key in ("first_blocks", "last_blocks")
        if hasattr(made.adapter, key)
    }
    return replace(made, adapter=replace(made.adapter, **fewer))


@pytest.fixture(scope="session")
def student(student):
    """As wide as a block of 4-bit numbers: bitsandbytes misreads narrower rows on a CPU."""
    return replace(student, architecture=replace(student.architecture, hidden=64, ffn=128))


@pytest.fixture(scope="module")
def saved_base(student, tmp_path_factory) -> Path:
    """Its random weights in a directory."""
    path, loaded = tmp_path_factory.mktemp("wide"), student.fresh()
    loaded.model.save_pretrained(path)
    loaded.tokenizer.save_pretrained(path)
    return path


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


@pytest.fixture(scope="module")
def fitted(recipe_of, around, saved_base, template, tmp_path_factory):
    """Fit once per method; gives the run directory, the student in memory and the record."""
    made = {}

    def run(name: str, noise: NEFTune | None = None):
        if (name, noise) not in made:
            directory = tmp_path_factory.mktemp(name)
            loaded = load(str(saved_base), name="tiny", template=template)
            recipe = recipe_of(method=replace(method(name), noise=noise), epochs=4, peak=3e-3)
            made[name, noise] = (directory, loaded, fit(recipe, loaded, around, directory))
        return made[name, noise]

    return run


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "noise", [None, pytest.param(NOISE, marks=pytest.mark.slow)], ids=["quiet", "noisy"]
)
def test_the_loss_falls_and_the_student_on_disk_is_the_one_in_memory(fitted, name, noise):
    directory, loaded, record = fitted(name, noise)
    rows = read_jsonl(directory / "metrics.jsonl")
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.02
    assert record["reload_difference"] < 1e-4
    again = load_student(directory / "model", loaded.loading)
    torch.testing.assert_close(logits(again.model), logits(loaded.model), atol=1e-4, rtol=1e-4)
    kinds = {type(module).__module__.split(".")[0] for module in again.model.modules()}
    assert kinds <= {"torch", "transformers"}  # plain: what answers needs neither peft nor bits


@pytest.mark.parametrize("name", METHODS)
def test_what_is_trained_is_not_the_base(fitted, saved_base, template, name):
    _, loaded, _ = fitted(name)
    base = load(str(saved_base), name="tiny", template=template)
    assert not torch.allclose(logits(loaded.model), logits(base.model), atol=1e-2)


FRESH = """
import json, sys, torch
from pathlib import Path
from heed.core.component import build
from heed.training.checkpoint import load_student
template = build(json.loads(Path(sys.argv[1]).read_text()))
for directory in sys.argv[2:]:
    made = load_student(Path(directory), {"name": "again", "template": template})
    with torch.no_grad():
        got = made.model.eval()(torch.tensor([[5, 6, 7, 8, 9, 10]])).logits
    torch.save(got, Path(directory) / "fresh.pt")
"""


@pytest.mark.slow
def test_a_fresh_process_reads_the_same_students_of_all_methods(fitted, template, tmp_path: Path):
    write_json(tmp_path / "template.json", plain(template))
    places = {name: fitted(name)[0] / "model" for name in METHODS}
    line = [
        sys.executable,
        "-c",
        FRESH,
        str(tmp_path / "template.json"),
        *map(str, places.values()),
    ]
    subprocess.run(line, check=True, capture_output=True, text=True)
    for name, place in places.items():
        got = torch.load(place / "fresh.pt", weights_only=True)
        want = logits(fitted(name)[1].model)
        torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4, msg=name)


@pytest.mark.parametrize("name", METHODS)
def test_transformers_and_peft_alone_load_it_as_the_card_says(fitted, name):
    directory, loaded, _ = fitted(name)
    made: dict = {}
    with contextlib.chdir(directory / "model"):
        exec(code_of(Path("README.md").read_text()), made)
    torch.testing.assert_close(logits(made["model"]), logits(loaded.model), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_the_rounding_of_the_base_is_an_event_of_the_run_that_a_reader_sees(fitted, name):
    events = fitted(name)[2]["events"]
    rounded = {what: n for what, n in events.items() if "rounded" in what}
    form = {"qlora": "NF4", "int8_lora": "Int8"}.get(name)
    assert rounded == ({f"matrices of the base rounded to {form}": 14} if form else {})


def test_parameters_are_counted_as_the_student_has_them_however_they_are_stored(fitted):
    counts = {name: fitted(name)[2] for name in ("lora", *STORED)}
    assert len({record["parameters"] for record in counts.values()}) == 1
    assert len({record["parameters_trained"] for record in counts.values()}) == 1


def changed(made: Method) -> list[Method]:
    """The method with one scientific field changed, for each field."""
    found = []
    for part in ("weights", "adapter"):
        whole = getattr(made, part)
        for field in dataclasses.fields(whole):
            value = getattr(whole, field.name)
            other = {"attention": "mlp", "all-linear": "mlp"}.get(value) or (
                not value if isinstance(value, bool) else (value or 0) + 0.5
            )
            other = int(other + 0.5) if isinstance(value, int) and value is not True else other
            if isinstance(value, bool):
                other = not value
            found.append(replace(made, **{part: replace(whole, **{field.name: other})}))
    return found


@pytest.mark.parametrize("name", METHODS)
def test_every_field_and_the_noise_stand_in_the_id(name):
    made = method(name)
    every = [*changed(made), *(replace(made, noise=n) for n in (None, NOISE, NEFTune(alpha=6.0)))]
    assert len({short_hash(one) for one in every}) == len(every) >= 3


def test_no_two_methods_have_one_id_but_those_of_one_setting():
    ids = {name: short_hash(method(name)) for name in METHODS}
    assert ids.pop("lora_size_ladder") == ids["lora"]
    assert len(set(ids.values())) == len(ids)


def test_the_library_that_rounds_is_a_part_of_the_id_if_it_is_used(monkeypatch):
    before = {name: short_hash(method(name)) for name in METHODS}
    monkeypatch.setattr("heed.methods.weights.version", lambda _: "0.0")
    assert {n for n in METHODS if short_hash(method(n)) != before[n]} == set(STORED)


@pytest.mark.parametrize("form", ["NF4", "Int8"])
@pytest.mark.parametrize(
    "name", ["full", "freeze", "freeze_but_first", "freeze_but_embeddings", "pissa"]
)
def test_what_changes_the_base_is_refused_on_a_rounded_one_before_anything_is_loaded(name, form):
    node = yaml.safe_load(METHODS[name].read_text())
    node["weights"] = {"_target_": f"heed.methods.weights.{form}"}
    node["weights"] |= {"double_quantise": True} if form == "NF4" else {}
    with pytest.raises(ConfigError, match=rf"weights stored as {form} cannot change.*method=qlora"):
        build(node)


def test_a_method_is_plain_data_again():
    for name, path in METHODS.items():
        node = plain(method(name))
        assert build(json.loads(json.dumps(node))) == method(name)
        assert node["name"] == path.stem

"""Properties of the run id: it changes with what decides the result, and with nothing else."""

from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.component import component
from heed.core.identity import (
    Incidental,
    canonical,
    deciding,
    digest_model,
    short_hash,
    slug,
    versions,
)


@component
class Data:
    path: Annotated[str, Incidental]
    content: Annotated[str, Incidental]
    part: str

    def digest(self) -> str:
        return f"digest of {self.content}"


@component
class Whole:
    data: Data
    seed: int
    rates: dict[str, float]
    devices: Annotated[int, Incidental]
    label: Annotated[str | None, Incidental]


def whole(**changes: object) -> Whole:
    data = {"path": "here", "content": "rows", "part": "train"}
    rest = {"seed": 1, "rates": {"a": 1.0, "b": 2.0}, "devices": 1, "label": None}
    data |= {key: changes.pop(key) for key in list(changes) if key in data}
    return Whole(data=Data(**data), **(rest | changes))


ID = short_hash(whole())


@pytest.mark.parametrize("change", [{"path": "there"}, {"devices": 8}, {"label": "mine"}])
def test_what_does_not_decide_the_result_leaves_the_id(change: dict):
    assert short_hash(whole(**change)) == ID


@pytest.mark.parametrize(
    "change",
    [{"seed": 2}, {"content": "other rows"}, {"part": "heldout"}, {"rates": {"a": 1.0, "b": 2.1}}],
)
def test_what_decides_the_result_changes_the_id(change: dict):
    assert short_hash(whole(**change)) != ID


@given(st.dictionaries(st.text(), st.integers() | st.text()), st.randoms())
def test_the_order_of_keys_leaves_the_id(plain: dict, random):
    items = list(plain.items())
    random.shuffle(items)
    assert short_hash(dict(items)) == short_hash(plain)


def test_the_order_of_a_list_changes_the_id():
    assert short_hash([1, 2]) != short_hash([2, 1])


def test_two_kinds_of_component_with_the_same_fields_differ():
    @component
    class A:
        x: int

    @component
    class B:
        x: int

    assert short_hash(A(x=1)) != short_hash(B(x=1))


def test_an_id_is_twelve_hex_digits():
    assert len(ID) == 12
    assert set(ID) <= set("0123456789abcdef")


@pytest.mark.parametrize("foreign", [object(), {1, 2}, len, 1j])
def test_what_has_no_canonical_form_is_refused(foreign: object):
    with pytest.raises(TypeError, match="cannot be part of an identity"):
        canonical({"deep": [foreign]})


def test_a_long_name_is_cut_at_bytes_and_between_characters():
    assert slug("a" * 300) == "a" * 56
    assert slug("漢" * 300) == "漢" * (56 // 3)
    assert slug("caf\udce9") == "caf_"


def test_the_digest_of_a_model_is_that_of_its_files_wherever_they_stand(tmp_path: Path):
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "model.safetensors").write_bytes(b"weights")
        (tmp_path / place / "README.md").write_text(place)
    one, two = (digest_model(str(tmp_path / place), None) for place in ("here", "there"))
    assert one == two
    (tmp_path / "there/model.safetensors").write_bytes(b"other weights")
    assert digest_model(str(tmp_path / "there"), None) != one
    assert digest_model("organisation/name", "abc") == "organisation/name@abc"


def test_the_versions_that_can_change_a_number_are_known():
    assert set(versions()) >= {"heed", "torch", "transformers", "peft", "lightning"}


def test_the_id_of_a_run_changes_with_its_seed_and_not_with_its_names(student, run_of):
    from dataclasses import replace

    run = run_of(student)
    other_seed = replace(run, recipe=replace(run.recipe, seed=run.recipe.seed + 1))
    renamed = replace(run, student=replace(student, name="renamed"))
    slower = replace(run.recipe.data, micro_tokens=4 * run.recipe.data.micro_tokens)
    smaller_rows = replace(run, recipe=replace(run.recipe, data=slower))
    assert other_seed.id != run.id
    assert renamed.id == run.id
    assert smaller_rows.id == run.id
    assert renamed.directory != run.directory


def test_what_decides_holds_no_path_or_device_at_any_depth():
    one, two = whole(), whole(path="there", devices=8, label="x")
    assert deciding({"a": [one]}) == deciding({"a": [two]})
    assert deciding(one)["data"]["part"] == "train"
    assert deciding(one) != deciding(whole(seed=2))

"""A card says what a student is, is safe to show, and can be read by the hub."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from heed.core.compose import compose_component
from heed.methods.adapters import LoRA
from heed.training.card import (
    ADAPTER_FILE,
    RESULT,
    STORED_FILE,
    card_head,
    changed_loading,
    code_of,
    escaped,
    how_to_load,
    loading_code,
    markdown_table,
    with_result,
)

LORA = LoRA(rank=4, alpha=8.0, dropout=0.0, layers="attention")
COMMIT = 40 * "a"
PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tuned(recipe_of):
    """The recipe of an adapter."""
    recipe = recipe_of()
    return replace(recipe, method=replace(recipe.method, name="lora", adapter=LORA))


def front_of(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def card_of(loaded, recipe, directory: Path) -> str:
    return card_head(loaded, recipe) + how_to_load(loaded, directory)


def test_the_hub_reads_base_library_and_tags_and_no_license_is_stated(loaded, tuned, tmp_path):
    (tmp_path / ADAPTER_FILE).touch()
    published = replace(loaded, source="org/base", revision=COMMIT)
    card = ModelCard(card_of(published, tuned, tmp_path))
    assert card.data.base_model == "org/base"
    assert card.data.library_name == "peft"
    assert card.data.to_dict()["base_model_relation"] == "adapter"
    assert "heed" in card.data.tags
    assert card.data.license is None
    assert f"org/base at {COMMIT}" in card.text


def test_a_base_that_only_this_machine_has_is_not_named_to_the_hub(loaded, recipe_of, tmp_path):
    card = card_of(replace(loaded, source="/a/folder/here"), recipe_of(), tmp_path)
    assert "base_model" not in front_of(card)
    assert front_of(card)["library_name"] == "transformers"
    assert "/a/folder" not in card, "whole weights need no base"


def test_data_sets_of_the_hub_are_named(loaded, tuned, tmp_path: Path):
    line = ["teacher=hub", "teacher.source.id=org/rows", f"teacher.source.revision={COMMIT}"]
    teacher = compose_component(PROJECT / "conf", "train", line).teacher
    card = card_of(loaded, replace(tuned, teacher=teacher), tmp_path)
    assert front_of(card)["datasets"] == ["org/rows"]


def test_the_code_says_type_revision_stored_form_added_rows_and_trust(loaded, tmp_path: Path):
    whole = "\n".join(loading_code(loaded, tmp_path))
    assert "peft" not in whole
    assert 'dtype="float32"' in whole
    assert "trust_remote_code" not in whole
    for name in (ADAPTER_FILE, STORED_FILE):
        (tmp_path / name).touch()
    published = replace(
        loaded, source="org/base", revision=COMMIT, added=("<x>",), trust_remote_code=True
    )
    code = "\n".join(loading_code(published, tmp_path))
    compile(code, "card", "exec")
    for words in (
        f"'org/base', revision='{COMMIT}'",
        "BitsAndBytesConfig.from_dict(stored)",
        "resize_token_embeddings(300, mean_resizing=False)",
        'GenerationConfig.from_pretrained(".")',
    ):
        assert words in code
    assert code.count("trust_remote_code=True") == 2


@given(st.text(max_size=40))
def test_a_text_from_outside_stays_a_text_on_one_line(text: str):
    made = escaped(text)
    assert len(made.splitlines()) <= 1
    assert "<" not in made
    for mark in "|*_`[":
        assert made.count(mark) == made.count(f"\\{mark}")


def test_names_cannot_leave_their_place(loaded, tuned, tmp_path: Path):
    bad = "x\n---\nlicense: mit\n<script>|`"
    method = replace(tuned.method, name=bad)
    card = card_of(replace(loaded, name=bad), replace(tuned, method=method), tmp_path)
    assert "<script>" not in card
    assert set(front_of(card)) == {"library_name", "pipeline_tag", "tags"}
    assert card.count("\n---\n") == 1
    table = markdown_table(["a"], [[bad]])
    assert len(table.splitlines()) == 3


def test_a_result_stands_in_its_place_and_a_later_one_takes_it(loaded, tuned, tmp_path: Path):
    card = card_of(loaded, tuned, tmp_path)
    one = with_result(card, "first")
    assert one.index("first") < one.index("## Loading it")
    two = with_result(one, f"second {RESULT}")
    assert "first" not in two
    assert with_result(card, "second") == two
    assert two.replace("\nsecond \n".rstrip(" \n") + "\n", "\n") == card
    assert code_of(two) == code_of(card)


def test_a_card_without_a_place_gets_its_result_at_the_end():
    for card in ("# older\n", f"# older\n{RESULT}\n"):
        made = with_result(card, "found")
        assert made == f"# older\n\n{RESULT}\nfound\n{RESULT}\n"
        assert with_result(made, "other") == made.replace("found", "other")


def test_another_form_of_a_student_has_its_own_code_and_the_same_result(loaded, tuned, tmp_path):
    (tmp_path / ADAPTER_FILE).touch()
    published = replace(loaded, source="org/base", revision=COMMIT)
    card = with_result(card_of(published, tuned, tmp_path), "found")
    made = changed_loading(card, ["import x", "model = x"], {"library_name": "x", "tags": None})
    assert code_of(made) == "import x\nmodel = x\n"
    assert front_of(made)["library_name"] == "x"
    assert "tags" not in front_of(made)
    assert front_of(made)["base_model"] == "org/base"
    assert "found" in made


def test_a_card_without_code_is_an_error():
    with pytest.raises(ValueError, match="says not how"):
        code_of("# a card")

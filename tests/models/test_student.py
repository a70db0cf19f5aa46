"""Properties of students: drawn from their seed, saved and loaded unchanged, refused in words."""

from dataclasses import replace

import pytest
import torch

from heed.core.errors import ConfigError, RunError
from heed.core.identity import short_hash
from heed.models.student import Published, load

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


def logits(loaded) -> torch.Tensor:
    with torch.no_grad():
        return loaded.model.eval()(IDS).logits


def test_the_seed_decides_the_weights_and_the_global_generator_is_left_alone(student):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, same, other = student.fresh(), student.fresh(), replace(student, seed=1).fresh()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(logits(one), logits(same))
    assert not torch.equal(logits(one), logits(other))


@pytest.fixture
def saved(loaded, tmp_path) -> str:
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    return str(tmp_path)


def published(path: str, student, **changes) -> Published:
    rest = {"revision": None, "dtype": "float32", "trust_remote_code": False, "pretraining": None}
    return Published(name="p", path=path, template=student.template, **(rest | changes))


def test_a_saved_student_is_loaded_unchanged(loaded, saved: str, student):
    again = published(saved, student).fresh()
    assert torch.equal(logits(again), logits(loaded))
    assert again.tokenizer.get_vocab() == loaded.tokenizer.get_vocab()
    assert again.tokenizer.chat_template == student.template.jinja()
    assert again.stop_ids == loaded.stop_ids == (loaded.tokenizer.eos_token_id,)
    assert again.source == saved


def test_the_asked_number_format_is_the_loaded_one(saved: str, student):
    assert published(saved, student, dtype="bfloat16").fresh().model.dtype == torch.bfloat16
    assert published(saved, student).fresh().model.dtype == torch.float32


def test_other_weights_in_a_directory_are_another_student(loaded, saved: str, student):
    before = short_hash(published(saved, student))
    with torch.no_grad():
        next(loaded.model.parameters()).add_(1e-3)
    loaded.model.save_pretrained(saved)
    assert short_hash(published(saved, student)) != before


def test_a_hub_student_without_a_revision_is_refused(student):
    with pytest.raises(ConfigError, match=r"model\.revision=<commit>"):
        published("nobody/nothing", student)


def test_what_cannot_be_loaded_is_named(tmp_path, student):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"'x': .*empty.* could not be loaded: .*model\.path"):
        load(str(tmp_path / "empty"), name="x", template=student.template)


def test_an_end_of_turn_of_several_tokens_is_refused(student, template):
    with pytest.raises(RunError, match=r"'STOP!', which .* with \d tokens: generation would not"):
        replace(student, template=replace(template, end_of_turn="STOP!")).fresh()


def test_generation_stops_at_the_end_of_turn_and_at_the_end_of_text(student, template):
    own_end = replace(student, template=replace(template, end_of_turn="<|pad|>")).fresh()
    ids = own_end.tokenizer.convert_tokens_to_ids(["<|pad|>", "<|end|>"])
    assert own_end.stop_ids == tuple(ids)


@pytest.mark.parametrize("training", [True, False])
def test_evaluating_turns_dropout_off_and_gives_the_mode_back(loaded, training: bool):
    loaded.model.train(training)
    with loaded.evaluating():
        assert not loaded.model.training
    assert loaded.model.training is training
    with pytest.raises(AttributeError), loaded.evaluating():
        loaded.fails  # noqa: B018
    assert loaded.model.training is training

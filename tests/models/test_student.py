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


def test_other_devices_generators_are_not_asked_for(student, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)  # torch would warn: an error here
    monkeypatch.setattr(torch.cuda, "manual_seed_all", None)
    monkeypatch.setattr(torch.cuda, "get_rng_state", None)
    student.fresh()


@pytest.fixture
def saved(loaded, tmp_path) -> str:
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    return str(tmp_path)


def published(path: str, student, **changes) -> Published:
    rest = {
        "name": "p", "path": path, "revision": None, "dtype": "float32", "pretraining": None,
        "precision": "32-true",
        "trust_remote_code": False, "template": student.template, "new_tokens": "refuse",
    }  # fmt: skip
    return Published(**(rest | changes))


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
    with pytest.raises(RunError, match=r"made of 'STOP!' \(5 tokens\), .* would not stop there"):
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


def chatml(template):
    """The template with two tokens that the tiny student lacks."""
    return replace(
        template,
        user="<|im_start|>user\n{content}<|im_end|>\n",
        assistant="<|im_start|>assistant\n",
        end_of_turn="<|im_end|>",
        special_tokens=("<|im_start|>", "<|im_end|>"),
    )


def test_a_template_of_tokens_that_a_student_lacks_is_refused_by_name(saved: str, student):
    pattern = r"made of '<\|im_end\|>' \(\d+ tokens\), '<\|im_start\|>' .* model\.new_tokens=train"
    with pytest.raises(RunError, match=pattern):
        published(saved, student, template=chatml(student.template)).fresh()
    with pytest.raises(RunError, match=pattern):
        replace(student, template=chatml(student.template)).fresh()


def test_what_a_student_lacks_is_added_the_same_way_every_time(loaded, saved: str, student):
    asked = published(saved, student, template=chatml(student.template), new_tokens="train")
    one, two = asked.fresh(), asked.fresh()
    assert one.added == two.added == ("<|im_end|>", "<|im_start|>")
    assert one.tokenizer.convert_tokens_to_ids(list(one.added)) == [300, 301]
    assert one.stop_ids == (300, loaded.tokenizer.eos_token_id)
    assert torch.equal(logits(one), logits(two))
    assert torch.equal(logits(one)[..., :300], logits(loaded))  # it says what it said
    matrix = one.model.get_input_embeddings().weight
    torch.testing.assert_close(matrix[300:], matrix[:300].mean(0).expand(2, -1))
    text = one.template.prompt("a<b")
    ids = one.tokenizer.encode(text, add_special_tokens=False)
    assert [ids.count(300), ids.count(301)] == [1, 2]
    assert one.tokenizer.decode(ids) == text


def test_tokens_that_a_student_has_are_not_added_again(saved: str, student, tmp_path):
    asked = published(saved, student, template=chatml(student.template), new_tokens="train")
    grown = asked.fresh()
    with torch.no_grad():
        grown.model.get_input_embeddings().weight[300] = 1.0
    grown.model.save_pretrained(tmp_path / "grown")
    grown.tokenizer.save_pretrained(tmp_path / "grown")
    again = replace(asked, path=str(tmp_path / "grown"), new_tokens="refuse").fresh()
    assert again.added == ()
    assert torch.equal(logits(again), logits(grown))


def test_a_word_that_becomes_a_token_keeps_its_row(loaded, saved: str, student):
    """A token that merges with its neighbours is cut out from then on; nothing is new to it."""
    encode = loaded.tokenizer.encode
    letters = "abcdefghijklmnopqrstuvwxyz"
    word = next(t for t in letters if encode(t)[0] not in encode(f"a{t}a"))
    spoken = replace(student.template, assistant=f"Assistant {word}", special_tokens=(word,))
    cut = published(saved, student, template=spoken, new_tokens="train").fresh()
    assert cut.added == ()
    assert torch.equal(logits(cut), logits(loaded))
    assert encode(word)[0] in cut.tokenizer.encode(f"a{word}a")


def test_a_student_made_here_has_the_tokens_of_its_template_from_the_start(student):
    made = replace(student, template=chatml(student.template), new_tokens="train").fresh()
    assert made.added == ("<|im_end|>", "<|im_start|>")
    assert made.model.config.vocab_size == len(made.tokenizer) == 302
    assert made.loading["new_tokens"] == "train"


def test_a_saved_student_stops_at_its_end_of_turn_in_transformers_too(
    saved: str, student, tmp_path
):
    from transformers import AutoModelForCausalLM

    asked = published(saved, student, template=chatml(student.template), new_tokens="train")
    loaded = asked.fresh()
    loaded.model.save_pretrained(tmp_path / "model")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert again.generation_config.eos_token_id == list(loaded.stop_ids)

"""How a student is spoken to is the same with its weights and without."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from heed.core.errors import RunError
from heed.models.speech import Speech
from heed.models.student import Published


@pytest.fixture
def saved(loaded, tmp_path: Path) -> Path:
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    return tmp_path


def published(path: Path, student, **changes) -> Published:
    settings = {"template": student.template, "new_tokens": "refuse"} | changes
    return Published(
        name="p", path=str(path), revision=None, dtype="float32", precision="32-true",
        pretraining=None, trust_remote_code=False, **settings,
    )  # fmt: skip


def told(speech: Speech) -> tuple[object, ...]:
    tokenizer = speech.tokenizer
    backend = tokenizer.backend_tokenizer.to_str()
    return speech.template, backend, tokenizer.chat_template, tokenizer.pad_token_id


def test_a_student_made_here_is_spoken_to_as_it_will_be(student):
    assert told(student.speech()) == told(student.fresh().speech)


@pytest.mark.parametrize("new_tokens", ["refuse", "train"])
def test_a_published_one_is_read_without_its_weights(saved: Path, student, template, new_tokens):
    end = template.end_of_turn if new_tokens == "refuse" else "<|over|>"
    other = published(
        saved, student, new_tokens=new_tokens, template=replace(template, end_of_turn=end)
    )
    with_weights = told(other.fresh().speech)
    for weights in saved.glob("*.safetensors"):
        weights.unlink()
    assert told(other.speech()) == with_weights
    with pytest.raises(RunError, match="could not be loaded"):
        other.fresh()


def test_tokens_of_the_template_that_it_lacks_are_refused_without_its_weights_too(
    saved: Path, student, template
):
    lacking = published(saved, student, template=replace(template, end_of_turn="<|over|>"))
    with pytest.raises(RunError, match=r"made of '<\|over\|>'"):
        lacking.speech()


WRONG = {
    "num_attention_heads": 0, "hidden_act": "none", "num_hidden_layers": 99, "vocab_size": -1,
    "intermediate_size": 24, "rope_parameters": "x", "head_dim": [1],
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), WRONG.items(), ids=WRONG)
def test_a_config_that_is_not_of_these_weights_is_one_screen(saved: Path, student, key, value):
    file = saved / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(RunError, match=r"student .p.: .*config\.json") as caught:
        published(saved, student).fresh()
    assert len(str(caught.value)) < 1000


def test_memory_that_is_used_up_is_no_damaged_file(saved: Path, student, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", full)
    with pytest.raises(torch.OutOfMemoryError):
        published(saved, student).fresh()


def test_a_tokenizer_that_is_not_there_is_one_screen(tmp_path: Path, student):
    with pytest.raises(RunError, match=r"student 'p': .* could not be loaded: .*model\.path"):
        published(tmp_path, student).speech()

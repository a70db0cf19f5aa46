"""What is saved is what was trained, or the run does not count."""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from heed.core.errors import RunError
from heed.methods.adapters import Full, LoRA
from heed.models.student import load
from heed.training.checkpoint import check_reload, load_student, save_student

IDS = [5, 6, 7, 8, 9, 10]
LORA = LoRA(rank=4, alpha=8.0, dropout=0.0, layers="attention")


def disturbed(model) -> None:
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.05 * torch.randn_like(p))


@pytest.mark.parametrize("adapter", [LORA, Full()], ids=["lora", "full"])
def test_a_saved_student_comes_back_with_its_logits(saved_base, template, tmp_path: Path, adapter):
    trained = load(str(saved_base), name="t", template=template)
    attached = adapter.attach(trained.model)
    disturbed(trained.model)
    save_student(trained, attached, adapter, tmp_path / "model", card="# card")
    again = load_student(tmp_path / "model", trained.loading)
    assert check_reload(trained, again, IDS) < 1e-5
    base = load(str(saved_base), name="t", template=template)
    with pytest.raises(RunError, match="its logits differ from memory by"):
        check_reload(trained, base, IDS)


def test_a_student_whose_logits_are_not_numbers_is_refused(loaded, student):
    with torch.no_grad():
        loaded.model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(RunError, match="differ from memory by nan"):
        check_reload(loaded, student.fresh(), IDS)


def test_a_student_that_cannot_be_saved_leaves_nothing(loaded, tmp_path: Path):
    attached = LORA.attach(loaded.model)
    with pytest.raises(RunError, match="holds no update"):
        save_student(loaded, attached, LORA, tmp_path / "model", card="")
    assert list(tmp_path.iterdir()) == []


def test_the_template_is_saved_beside_the_weights(loaded, template, tmp_path: Path):
    from transformers import AutoTokenizer

    save_student(loaded, loaded.model, Full(), tmp_path / "model", card="# card")
    assert AutoTokenizer.from_pretrained(tmp_path / "model").chat_template == template.jinja()
    other = replace(template, user="{content}?\n")
    again = load_student(tmp_path / "model", loaded.loading | {"template": other})
    assert again.tokenizer.chat_template == other.jinja()


def run_card(directory: Path) -> dict:
    """What the code of a card makes, run in the directory of the card."""
    code = (directory / "README.md").read_text().split("```python\n")[1].split("```")[0]
    made: dict = {}
    with contextlib.chdir(directory):
        exec(code, made)
    return made


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("adapter", [LORA, Full()], ids=["lora", "full"])
@pytest.mark.parametrize("added", [True, False], ids=["tokens added", "no tokens added"])
def test_the_card_says_how_others_load_it(student, template, tmp_path: Path, adapter, tied, added):
    shape = replace(student.architecture, tied=tied)
    base = replace(student, architecture=shape).fresh()
    base.model.save_pretrained(tmp_path / "base")
    base.tokenizer.save_pretrained(tmp_path / "base")
    if added:
        template = replace(template, end_of_turn="<|im_end|>")
    trained = load(str(tmp_path / "base"), name="t", template=template, new_tokens="train")
    tokens = trained.tokenizer.convert_tokens_to_ids(list(trained.added))
    attached = adapter.attach(trained.model, tokens)
    disturbed(trained.model)
    save_student(trained, attached, adapter, tmp_path / "model", card="# card\n")
    made = run_card(tmp_path / "model")
    ids = torch.tensor([[*IDS, *tokens]])
    with torch.no_grad():
        want, got = (m.eval()(ids).logits for m in (trained.model, made["model"]))
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
    assert made["tokenizer"].get_vocab() == trained.tokenizer.get_vocab()
    assert ("resize" in (tmp_path / "model" / "README.md").read_text()) is (
        added and adapter is LORA
    )

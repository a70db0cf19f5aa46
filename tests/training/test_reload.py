"""What leaves the house loads elsewhere: a process of its own runs the code of the card."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from heed.core.errors import RunError
from heed.data.template import Template
from heed.methods.adapters import Full, LoRA
from heed.models.student import Loaded, load
from heed.training import reload
from heed.training.checkpoint import save_student
from heed.training.reload import Reread, apart, check_fresh, talks_for

IDS = [5, 6, 7, 8, 9, 10]
LORA = LoRA(rank=4, alpha=8.0, dropout=0.0, layers="attention")


@pytest.fixture
def trained(saved_base: Path, template: Template, tmp_path: Path) -> Loaded:
    """A student with a disturbed adapter, saved in `tmp_path/model`."""
    loaded = load(str(saved_base), name="t", template=template)
    return saved(loaded, LORA, tmp_path)


def saved(loaded: Loaded, adapter: Any, root: Path) -> Loaded:
    tokens = loaded.tokenizer.convert_tokens_to_ids(list(loaded.added))
    attached = adapter.attach(loaded.model, tokens)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    save_student(loaded, attached, adapter, root / "model", card="# card\n")
    return loaded


def seen(loaded: Loaded, **changes: Any) -> Reread:
    """What a process of its own would say of a student as it is in memory."""
    texts = [loaded.template.prompt_of(talk) for talk in talks_for(loaded)]
    with torch.no_grad():
        logits = loaded.model.eval()(input_ids=torch.tensor([IDS])).logits[0]
    ids = loaded.tokenizer.encode(texts[0], add_special_tokens=False)
    usual = Reread(logits, texts, ids, [*loaded.stop_ids], True)
    return replace(usual, **changes)


@pytest.fixture(params=["begun", "forked"])
def way(request: pytest.FixtureRequest, readers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process as heed begins it, and as other tests have it, from one with all imports."""
    if request.param == "forked":
        monkeypatch.setattr(reload, "subprocess", readers)


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [LORA, Full()], ids=["lora", "full"])
def test_a_fresh_process_finds_the_student_of_memory_and_no_other(
    saved_base, template, tmp_path: Path, adapter, way
):
    template = replace(template, end_of_turn="<|im_end|>", system_in_user=True)
    loaded = load(str(saved_base), name="t", template=template, new_tokens="train")
    trained = saved(loaded, adapter, tmp_path)
    assert check_fresh(trained, tmp_path / "model", IDS) < 1e-5
    moved = next(p for p in trained.model.parameters() if p.requires_grad and p.ndim == 2)
    with torch.no_grad():
        moved += 1.0
    with pytest.raises(RunError, match="logits differ by"):
        check_fresh(trained, tmp_path / "model", IDS)


@pytest.mark.slow
def test_a_card_that_loads_nothing_ends_in_one_screen(trained, tmp_path: Path, way):
    card = tmp_path / "model" / "README.md"
    card.write_text(card.read_text().replace("peft.PeftModel", "peft.NoSuchModel"))
    with pytest.raises(RunError, match="cannot be loaded as its card says") as caught:
        check_fresh(trained, tmp_path / "model", IDS)
    assert "NoSuchModel" in str(caught.value)


def with_reread(monkeypatch: pytest.MonkeyPatch, found: Reread) -> None:
    monkeypatch.setattr(reload, "reread", lambda *_, **__: found)


def test_a_student_that_others_see_alike_passes(trained, tmp_path: Path, monkeypatch):
    with_reread(monkeypatch, seen(trained))
    assert check_fresh(trained, tmp_path / "model", IDS) == 0.0


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("the text of a conversation of 1 turns", {"texts": 0}),
        ("the text of a conversation of 3 turns", {"texts": 1}),
        ("the text of a conversation of 4 turns", {"texts": 2}),
        ("the tokens of an instruction", {"prompt": [1]}),
        ("the stop tokens", {"stops": [7]}),
        ("greedy decoding", {"greedy": False}),
        ("logits differ", {"logits": 0.01}),
    ],
)
def test_whatever_others_see_otherwise_is_named(trained, tmp_path, monkeypatch, what, change):
    found = seen(trained)
    if isinstance(at := change.get("texts"), int):
        texts = [text + " " if place == at else text for place, text in enumerate(found.texts)]
        change = {"texts": texts}
    if "logits" in change:
        change = {"logits": found.logits + 0.01 * found.logits.abs().max()}
    with_reread(monkeypatch, replace(found, **change))
    with pytest.raises(RunError, match=what):
        check_fresh(trained, tmp_path / "model", IDS)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_no_number_differs(wrong: float):
    good = torch.ones(2, 3)
    assert apart(good, good, 0.1, "x") == 0.0
    for pair in ((good * wrong, good), (good, good * wrong)):
        with pytest.raises(RunError, match="logits differ by"):
            apart(*pair, 0.1, "x")


def test_only_the_first_tokens_are_compared(trained, tmp_path: Path, monkeypatch):
    asked: list[int] = []

    def count(_: Path, ids: list[int], *__: Any, **___: Any) -> Reread:
        asked.append(len(ids))
        with torch.no_grad():
            logits = trained.model(input_ids=torch.tensor([ids])).logits[0]
        return seen(trained, logits=logits)

    monkeypatch.setattr(reload, "reread", count)
    check_fresh(trained, tmp_path / "model", 50 * IDS)
    assert asked == [reload.TOKENS]


@pytest.mark.parametrize("adapter", [LORA, Full()], ids=["lora", "full"])
def test_others_generate_as_it_was_scored_whatever_its_base_says(
    saved_base, template, tmp_path: Path, adapter
):
    loaded = load(str(saved_base), name="t", template=template)
    own = loaded.model.generation_config
    own.do_sample, own.temperature, own.eos_token_id = False, 0.3, [7, *loaded.stop_ids]
    saved(loaded, adapter, tmp_path)
    found = GenerationConfig.from_pretrained(tmp_path / "model")
    assert found.do_sample is False
    assert found.temperature in (None, 1.0)
    assert set(found.eos_token_id) == {7, *loaded.stop_ids}
    assert found.pad_token_id == loaded.tokenizer.pad_token_id

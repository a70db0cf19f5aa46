"""A student leaves the house whole, or the reason is on one screen; the run is never harmed."""

import inspect
from pathlib import Path
from typing import Any, ClassVar

import huggingface_hub
import pytest
import torch
from huggingface_hub import HfApi as real  # noqa: N813
from huggingface_hub.utils import filter_repo_objects

from heed.core.errors import ConfigError, RunError
from heed.methods.adapters import LoRA
from heed.models.student import load
from heed.training.card import RESULT, with_result
from heed.training.checkpoint import load_student, save_student
from heed.training.export import Export, merge, push, refuse_unpushable

TOKEN = "hf_" + 34 * "k"


def export(**changes: Any) -> Export:
    usual = {"merge": False, "dtype": "as_scored", "push_to_hub": None, "private": True}
    return Export(**(usual | changes))


class Hub:
    """Stands in for the hub: remembers what it is sent, or fails."""

    calls: ClassVar[list[tuple[str, dict[str, Any]]]] = []
    fails: ClassVar[Exception | None] = None

    def create_repo(self, repo_id: str, **rest: Any) -> None:
        self.calls.append(("create", {"repo_id": repo_id, **rest}))

    def upload_folder(self, **rest: Any) -> Any:
        if self.fails:
            raise self.fails
        self.calls.append(("upload", rest))
        return type("Commit", (), {"commit_url": "https://hub/commit"})()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[Hub]:
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(Hub, "calls", [])
    return Hub


@pytest.mark.parametrize("name", ["model", "a/b/c", "https://hub/a/b", "a b/c", "../x", "a/"])
def test_a_name_that_the_hub_does_not_have_is_a_mistake(name: str):
    with pytest.raises(ConfigError, match="organisation/name"):
        export(push_to_hub=name)


def test_a_type_of_weights_that_are_not_written_is_a_mistake():
    with pytest.raises(ConfigError, match=r"export\.merge=true"):
        export(dtype="bfloat16")
    assert export(dtype="bfloat16", merge=True).wanted
    assert not export().wanted


@pytest.mark.parametrize(
    ("changes", "adapter", "on_the_hub", "wrong"),
    [
        ({}, True, False, True),
        ({"merge": True}, True, False, False),
        ({}, False, False, False),
        ({}, True, True, False),
        ({"push_to_hub": None}, True, False, False),
    ],
)
def test_an_adapter_whose_base_nobody_has_is_not_uploaded(changes, adapter, on_the_hub, wrong):
    made = export(**({"push_to_hub": "org/name"} | changes))
    assert bool(made.mistakes(adapter=adapter, on_the_hub=on_the_hub)) is wrong


@pytest.mark.parametrize(
    ("offline", "token", "said"),
    [(True, TOKEN, "switched off"), (False, None, "no key of the hub"), (False, TOKEN, "")],
)
def test_what_could_not_be_uploaded_is_told_before_anything_runs(monkeypatch, offline, token, said):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: token)
    refuse_unpushable(export())
    if not said:
        refuse_unpushable(export(push_to_hub="org/name"))
        return
    with pytest.raises(RunError, match=said) as caught:
        refuse_unpushable(export(push_to_hub="org/name"))
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("private", [True, False])
def test_a_directory_is_uploaded_as_it_is(hub, tmp_path: Path, private: bool):
    made = push(tmp_path, export(push_to_hub="org/name", private=private), "run 1")
    assert made == "https://hub/commit"
    (create, first), (upload, second) = hub.calls
    assert (create, upload) == ("create", "upload")
    assert first["private"] is private
    assert first["exist_ok"]
    assert second["folder_path"] == tmp_path
    assert second["repo_id"] == first["repo_id"] == "org/name"
    assert second["commit_message"] == "run 1"
    gone = second["delete_patterns"]
    stays = ["README.md", "q4.gguf", "other/model.safetensors", "tokenizer.json"]
    goes = ["adapter_config.json", "adapter_model.safetensors", "model-00001-of-00002.safetensors"]
    assert list(filter_repo_objects(stays + goes, allow_patterns=gone)) == goes
    assert not [key for _, call in hub.calls for key in call if "token" in key]
    for name, call in zip(("create_repo", "upload_folder"), (first, second), strict=True):
        inspect.signature(getattr(real, name)).bind(None, **call)


@pytest.mark.parametrize("error", [ConnectionError, PermissionError, ValueError])
def test_whatever_the_hub_says_is_one_screen_without_a_key(hub, monkeypatch, tmp_path, error):
    monkeypatch.setattr(hub, "fails", error(f"403 for {TOKEN}\nand more"))
    with pytest.raises(RunError, match="could not be uploaded to org/name") as caught:
        push(tmp_path, export(push_to_hub="org/name"), "run 1")
    said = str(caught.value)
    assert f"{error.__name__}: 403 for ***" in said
    assert "nothing is lost" in said
    assert TOKEN not in said


@pytest.fixture
def run(saved_base, template, tmp_path: Path) -> Path:
    """A directory with a trained adapter of a local base, and its loading."""
    trained = load(str(saved_base), name="t", template=template)
    adapter = LoRA(rank=4, alpha=8.0, dropout=0.0, layers="attention")
    attached = adapter.attach(trained.model)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in trained.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    head = "---\nlibrary_name: peft\ntags: [heed, lora]\n---\n# t\n"
    card = with_result(head, "what was found")
    save_student(trained, attached, adapter, tmp_path / "model", card=card)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "allowed"), [("as_scored", 1e-5), ("bfloat16", 5e-2)])
def test_merged_weights_are_the_student_and_load_without_its_base(run, template, dtype, allowed):
    loading = {"name": "t", "template": template}
    found = merge(run, load_student(run / "model", loading), dtype)
    assert 0 < found["difference"] < allowed
    assert not (run / "merged" / "adapter_config.json").exists()
    card = (run / "merged" / "README.md").read_text()
    assert "library_name: transformers" in card
    assert "what was found" in card
    assert card.count(RESULT) == 2
    assert "peft" not in card
    assert ("rounded to bfloat16; scored was the student in float32" in card) is (
        dtype == "bfloat16"
    )
    adapter = load_student(run / "model", loading).model
    kind = "float32" if dtype == "as_scored" else dtype
    whole = load(str(run / "merged"), dtype=kind, **loading)
    assert whole.model.dtype == getattr(torch, kind)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        want, got = (model(ids).logits.float() for model in (adapter, whole.model))
    assert float((want - got).abs().max() / want.abs().max()) < allowed


@pytest.mark.slow
def test_merged_weights_that_are_another_student_are_not_kept(run, template):
    other = load_student(run / "model", {"name": "t", "template": template})
    with torch.no_grad():
        next(other.model.parameters()).add_(0.5)
    with pytest.raises(RunError, match="logits differ by"):
        merge(run, other, "as_scored")
    assert [path.name for path in run.iterdir()] == ["model"]

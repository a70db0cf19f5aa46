"""Properties of a fit: the same seed gives the same student; what it leaves is whole."""

from pathlib import Path

import pytest
import torch

from heed.core.errors import DataError, RunError
from heed.core.files import read_json, read_jsonl
from heed.data.encode import encode_all
from heed.data.plan import plan
from heed.methods.adapters import Full, LoRA
from heed.methods.method import Method
from heed.methods.weights import Plain
from heed.models.student import load
from heed.training.fit import fit

LORA = Method(
    name="lora",
    weights=Plain(),
    noise=None,
    adapter=LoRA(rank=4, alpha=8.0, dropout=0.1, layers="all-linear"),
)
FULL = Method(name="full", weights=Plain(), noise=None, adapter=Full())
IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


@pytest.fixture(scope="module")
def fitted(recipe_of, around, saved_base, template, tmp_path_factory):
    """Fit once per method and seed; gives the run directory, the student and the record."""
    made = {}

    def run(method: Method, seed: int = 1, again: bool = False):
        key = (method.name, seed, again)
        if key not in made:
            directory = tmp_path_factory.mktemp("run")
            loaded = load(str(saved_base), name="tiny", template=template)
            recipe = recipe_of(method=method, seed=seed, epochs=2)
            made[key] = (directory, loaded, fit(recipe, loaded, around, directory))
        return made[key]

    return run


def weights(loaded) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in loaded.model.parameters()])


@pytest.mark.parametrize("method", [LORA, FULL], ids=["lora", "full"])
def test_the_same_seed_gives_the_same_weights_to_the_last_bit(fitted, method: Method):
    first = weights(fitted(method)[1])
    torch.rand(7)  # what was drawn before does not matter
    assert torch.equal(first, weights(fitted(method, again=True)[1]))
    rows = [read_jsonl(fitted(method, again=a)[0] / "metrics.jsonl") for a in (False, True)]
    for one, other in zip(*rows, strict=True):
        assert one | {"seconds": 0} == other | {"seconds": 0}


@pytest.mark.parametrize("method", [LORA, FULL], ids=["lora", "full"])
def test_another_seed_gives_other_weights(fitted, method: Method):
    assert not torch.equal(weights(fitted(method)[1]), weights(fitted(method, seed=2)[1]))


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


def test_transformers_alone_loads_a_fully_tuned_student(fitted):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    directory, loaded, _ = fitted(FULL)
    model = AutoModelForCausalLM.from_pretrained(directory / "model", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(directory / "model")
    assert torch.equal(logits(model), logits(loaded.model))
    asked = [{"role": "user", "content": "Hi"}]
    opened = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert opened == loaded.template.prompt("Hi")


def test_peft_alone_loads_an_adapter_onto_the_base_that_it_names(fitted, saved_base: Path):
    import peft
    from transformers import AutoModelForCausalLM

    directory, loaded, _ = fitted(LORA)
    named = read_json(directory / "model" / "adapter_config.json")["base_model_name_or_path"]
    assert named == str(saved_base)
    base = AutoModelForCausalLM.from_pretrained(named, dtype=torch.float32)
    before = logits(base)
    model = peft.PeftModel.from_pretrained(base, directory / "model")
    torch.testing.assert_close(logits(model), logits(loaded.model))
    assert not torch.allclose(logits(model), before, atol=1e-4)


def test_metrics_have_a_row_a_step_with_the_loss_in_nats_a_token(fitted, recipe_of, student):
    rows = read_jsonl(fitted(FULL)[0] / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    recipe, base = recipe_of(epochs=2), student.fresh()
    examples = encode_all(recipe.teacher, base.template, base.tokenizer, recipe.data).examples
    first = next(plan(examples, recipe.data, ranks=1, seed=1))
    nats = 0.0
    for i in first.indices:
        ids, mask = torch.tensor([examples[i].ids]), torch.tensor(examples[i].mask[1:])
        logs = base.model(ids).logits[0, :-1].log_softmax(-1)
        nats -= logs.gather(1, ids[0, 1:, None])[mask].sum().item()
    assert rows[0]["loss"] == pytest.approx(nats / first.tokens, rel=1e-5)
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_the_record_tells_what_was_trained_and_proved(fitted):
    directory, loaded, record = fitted(LORA)
    assert record["optimiser_steps"] == 6
    assert record["examples"] == record["events"]["rows read"] == 24
    moving = [p.numel() for name, p in loaded.model.named_parameters() if "lora_" in name]
    assert record["parameters_trained"] == sum(moving)
    assert record["parameters"] == weights(loaded).numel()
    rows = read_jsonl(directory / "metrics.jsonl")
    assert record["final_loss_nats_per_token"] == rows[-1]["loss"]
    assert record["preflight"]["base_loss"] == pytest.approx(rows[0]["loss"], rel=0.1)
    assert record["preflight"]["ends_supervised"] == 1
    assert record["reload_difference"] < 1e-3


def test_the_page_of_examples_marks_what_is_supervised(fitted, around):
    page = (fitted(LORA)[0] / "examples.html").read_text()
    assert page.count("<mark>Thing ") == 20
    assert "User: Name thing 3.\nAssistant: <mark>Thing 3 is very very very red." in page
    assert "red.&lt;|end|&gt;</mark></pre>" in page


def test_a_text_teacher_is_fitted_by_the_same_road(
    recipe_of, around, teacher_of, loaded, tmp_path: Path
):
    texts = teacher_of(["red green blue. " * 20, "the sea is blue"], name="text")
    record = fit(recipe_of(teacher=texts, over_long="window"), loaded, around, tmp_path)
    assert record["events"]["windows made of over-long rows"] > 2
    assert "<pre><mark>red green" in (tmp_path / "examples.html").read_text()
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_a_lost_training_leaves_no_model(recipe_of, around, loaded, tmp_path: Path):
    with pytest.raises(RunError, match=r"lower lr\.peak"):
        fit(recipe_of(peak=1e30, clip_norm=None), loaded, around, tmp_path)
    assert not (tmp_path / "model").exists()


def test_nothing_to_train_on_is_told_before_training(recipe_of, around, loaded, tmp_path: Path):
    with pytest.raises(DataError, match="no example is left"):
        fit(recipe_of(max_tokens=4), loaded, around, tmp_path)

"""What trains is held in float32, unless its rounding is asked for by name."""

from dataclasses import replace

import lightning
import pytest
import torch

from heed.core.compose import compose_component
from heed.core.errors import ConfigError, RunError
from heed.data.encode import encode_all
from heed.data.plan import number_of_steps
from heed.methods.adapters import Full, LoRA
from heed.methods.method import Method
from heed.methods.weights import Plain
from heed.models.likelihood import StudentLoss
from heed.models.student import load
from heed.training.datamodule import PlannedData
from heed.training.fit import fit
from heed.training.masters import ROUNDED, format_mistakes
from heed.training.module import Tuning

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*`IterableDataset` has `__len__` defined.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
]
FULL = Method(name="full", weights=Plain(), noise=None, adapter=Full())
LORA = Method(
    name="lora",
    weights=Plain(),
    noise=None,
    adapter=LoRA(rank=4, alpha=8.0, dropout=0.0, layers="all-linear"),
)


class Types(lightning.Callback):
    """Notes the number formats of products, weights, gradients' moments."""

    def __init__(self):
        self.states, self.weights, self.products = set(), set(), set()

    def on_train_start(self, trainer, module):
        layer = next(m for m in module.modules() if isinstance(m, torch.nn.Linear))
        layer.register_forward_hook(lambda _, given, made: self.products.add(made.dtype))

    def on_train_batch_end(self, trainer, module, *_):
        states = trainer.optimizers[0].state.values()
        self.states |= {v.dtype for s in states for k, v in s.items() if k != "step"}
        self.weights |= {p.dtype for p in module.parameters() if p.requires_grad}


@pytest.fixture
def train(around):
    """Train a student in memory; gives the module and the number formats that were seen."""

    def run(recipe, loaded):
        found = encode_all(recipe.teacher, loaded.template, loaded.tokenizer, recipe.data)
        steps = number_of_steps(len(found.examples), recipe.data)
        module, types = Tuning(StudentLoss(loaded.model.train()), recipe, steps=steps), Types()
        data = PlannedData(found.examples, recipe, pad=1)
        around.trainer.build(precision=recipe.precision, callbacks=[types]).fit(
            module, datamodule=data
        )
        return module, types

    return run


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_weights_and_moments_are_float32_whatever_the_products_are(
    recipe_of, loaded, train, precision: str
):
    module, types = train(recipe_of(precision=precision), loaded)
    assert types.weights == types.states == {torch.float32}
    assert types.products == {torch.bfloat16 if precision == "bf16-mixed" else torch.float32}
    assert ROUNDED not in module.events


@pytest.mark.parametrize("tokens", [(), (5, 7)], ids=["", "tokens"])
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_an_adapter_on_a_half_precision_base_is_float32(recipe_of, loaded, train, kind, tokens):
    loaded.model.to(kind)
    LORA.attach(loaded.model, tokens)
    module, types = train(recipe_of(precision="bf16-mixed", method=LORA), loaded)
    assert types.weights == types.states == {torch.float32}
    assert loaded.model.get_input_embeddings().weight.dtype == kind
    assert not module.events


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_full_tuning_of_a_half_precision_student_is_refused(
    recipe_of, loaded, kind: str, precision: str
):
    loaded.model.to(getattr(torch, kind))
    said = rf"model.dtype is {kind}: .*embed_tokens.*Give model.dtype=float32"
    with pytest.raises(RunError, match=said):
        Tuning(StudentLoss(loaded.model), recipe_of(precision=precision), steps=1)


def test_one_trained_weight_of_half_precision_is_refused_too(recipe_of, loaded):
    loaded.model.model.norm.to(torch.bfloat16)
    with pytest.raises(RunError, match=r"bfloat16: .*norm.weight' for one of 1 tensors"):
        Tuning(StudentLoss(loaded.model), recipe_of(), steps=1)


def test_bf16_true_is_counted_and_wants_a_bfloat16_student(recipe_of, loaded, train):
    recipe = recipe_of(precision="bf16-true")
    with pytest.raises(RunError, match=r"precision is bf16-true: the student is float32"):
        Tuning(StudentLoss(loaded.model), recipe, steps=1)
    loaded.model.to(torch.bfloat16)
    module, types = train(recipe, loaded)
    assert types.weights == types.states == {torch.bfloat16}
    assert module.events == {ROUNDED: sum(p.numel() for p in module.parameters())}


def test_a_float32_student_is_not_made_a_bfloat16_one(recipe_of, around, student, tmp_path):
    with pytest.raises(RunError, match=r"precision is bf16-true: the student is float32"):
        fit(recipe_of(precision="bf16-true"), student.fresh(), around, tmp_path)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("method", [FULL, LORA], ids=["full", "lora"])
def test_what_a_model_keeps_in_float32_stays_so_under_bf16_true(
    recipe_of, around, saved_base, template, tmp_path, method
):
    """The frequencies of positions above all: rounded, late tokens stand elsewhere."""
    about = {"name": "low", "template": template, "dtype": "bfloat16"}
    fresh, loaded = (load(str(saved_base), **about) for _ in range(2))
    recipe = recipe_of(method=method, steps=2, epochs=None, max_tokens=128, precision="bf16-true")
    record = fit(recipe, loaded, around, tmp_path / "run")
    own, now = (dict(one.model.named_buffers()) for one in (fresh, loaded))
    plain = {name.replace("base_model.model.", ""): buffer for name, buffer in now.items()}
    assert own.keys() <= plain.keys()
    assert {own[name].dtype for name in own} == {torch.float32}
    assert all(torch.equal(plain[name], own[name]) for name in own)
    assert record["events"][ROUNDED] == record["parameters_trained"]
    trained = {p.dtype for p in loaded.model.parameters() if p.requires_grad}
    assert trained == {torch.bfloat16}


def test_small_steps_are_lost_without_float32_masters(recipe_of, student, train):
    """Why the refusal: at a usual rate most weights do not move at all."""
    moved = {}
    for precision, kind in [("bf16-mixed", torch.float32), ("bf16-true", torch.bfloat16)]:
        loaded = student.fresh()
        loaded.model.to(kind)
        before = [p.detach().clone() for p in loaded.model.parameters()]
        train(recipe_of(precision=precision, peak=2e-5, steps=6, epochs=None), loaded)
        after = loaded.model.parameters()
        changed = torch.cat([(a != b).flatten() for a, b in zip(before, after, strict=True)])
        moved[precision] = changed.double().mean().item()
    assert moved["bf16-mixed"] > 0.99
    assert moved["bf16-true"] < 0.2


@pytest.mark.parametrize(
    ("dtype", "precision", "trains", "where"),
    [
        ("float32", "bf16-mixed", True, []),
        ("float32", "32-true", False, []),
        ("bfloat16", "bf16-mixed", False, []),
        ("float16", "bf16-mixed", False, []),
        ("bfloat16", "bf16-true", True, []),
        ("bfloat16", "bf16-mixed", True, ["model.dtype"]),
        ("float16", "32-true", True, ["model.dtype"]),
        ("float32", "bf16-true", False, ["precision"]),
        ("float16", "bf16-true", True, ["precision"]),
    ],
)
def test_what_is_wrong_is_known_before_anything_is_loaded(dtype, precision, trains, where):
    found = format_mistakes(dtype, precision, trains_weights=trains)
    assert [m.where for m in found] == where


HUB = ("model=hub", "model.path=o/s", f"model.revision={40 * 'a'}",
       "model.template.end_of_turn='</s>'")  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "where"),
    [
        ((*HUB, "method=full", "model.dtype=bfloat16"), "model.dtype"),
        (("precision=bf16-true",), "precision"),
        (("model.pretraining.precision=bf16-true",), "model.pretraining.precision"),
    ],
)
def test_a_command_is_refused_at_once(typed, where: str, request):
    conf = request.config.rootpath / "conf"
    with pytest.raises(ConfigError) as caught:
        compose_component(conf, "train", typed)
    assert [m.where for m in caught.value.mistakes] == [where]


def test_half_precision_can_be_asked_for_by_name(request):
    conf = request.config.rootpath / "conf"
    named = (*HUB, "method=full", "model.dtype=bfloat16", "precision=bf16-true")
    assert compose_component(conf, "train", named).precision == "bf16-true"
    assert replace(compose_component(conf, "train", HUB)).precision == "bf16-mixed"

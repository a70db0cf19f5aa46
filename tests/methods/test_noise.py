"""NEFTune: as large as its paper says for each document, in training only."""

import math

import pytest
import torch

from heed.data.dataset import Encoded
from heed.data.pack import flat_row
from heed.methods.adapters import LoRA
from heed.methods.noise import NEFTune
from heed.models.likelihood import StudentLoss

LENGTHS = (3, 17, 6)
DOCUMENTS = [Encoded(str(n), list(range(5, 5 + n)), [False] + [True] * (n - 1)) for n in LENGTHS]


def embedded(model, run) -> torch.Tensor:
    """What goes into the first block while something runs."""
    kept: list[torch.Tensor] = []

    def keep(_, args):
        kept.append(args[0].squeeze(0))

    handle = model.model.layers[0].register_forward_pre_hook(keep)
    with torch.no_grad():
        run()
    handle.remove()
    return kept[-1]  # the first may be the two tokens of `sharing.handed`


@pytest.mark.parametrize("alpha", [5.0, 15.0])
def test_noise_is_uniform_up_to_alpha_over_root_l_d_of_its_own_document(loaded, alpha: float):
    model, batch = loaded.model, flat_row(DOCUMENTS, pad=0)
    quiet = embedded(model, lambda: StudentLoss(model)(batch))
    NEFTune(alpha=alpha).attach(model)
    model.train()
    drawn = [embedded(model, lambda: StudentLoss(model)(batch)) - quiet for _ in range(40)]
    noise = torch.stack(drawn)
    for part, length in zip(noise.split(LENGTHS, dim=1), LENGTHS, strict=True):
        most = alpha / math.sqrt(length * 32)
        assert 0.98 * most < float(part.abs().max()) <= most * (1 + 1e-4)
        assert float(part.std()) == pytest.approx(most / math.sqrt(3), rel=0.05)
        assert abs(float(part.mean())) < 0.05 * most


def test_a_document_s_noise_has_one_size_alone_or_among_others(loaded):
    ids = torch.tensor([DOCUMENTS[1].ids])
    noise, model = NEFTune(alpha=5.0), loaded.model
    shape = torch.zeros(1, 17, 32)
    alone = noise.draw(shape, None).abs().max()
    assert float(alone) == pytest.approx(5.0 / math.sqrt(17 * 32), rel=0.02)
    quiet = embedded(model, lambda: model(ids))
    noise.attach(model)
    model.train()
    disturbed = embedded(model, lambda: model(ids)) - quiet
    assert float(disturbed.abs().max()) == pytest.approx(5.0 / math.sqrt(17 * 32), rel=0.02)


def test_in_evaluation_it_is_as_if_it_were_not_there(loaded):
    ids = torch.tensor([DOCUMENTS[0].ids])
    with torch.no_grad():
        before = loaded.model.eval()(ids).logits
        NEFTune(alpha=15.0).attach(loaded.model)
        state = torch.random.get_rng_state()
        assert torch.equal(loaded.model(ids).logits, before)
        assert torch.equal(torch.random.get_rng_state(), state)  # nothing is drawn either
        loaded.model.train()
        assert not torch.allclose(loaded.model(ids).logits, before, atol=1e-3)
        with loaded.evaluating():
            assert torch.equal(loaded.model(ids).logits, before)


def test_the_same_state_of_the_generator_gives_the_same_noise(loaded):
    NEFTune(alpha=5.0).attach(loaded.model)
    loaded.model.train()
    batch, made = flat_row(DOCUMENTS, pad=0), []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        made.append(StudentLoss(loaded.model)(batch)[0].item())
    assert made[0] == made[1] != made[2]


def test_positions_of_one_row_say_nothing_of_the_next(loaded):
    """A row that hands on no positions is one document, whatever came before it."""
    model = loaded.model
    NEFTune(alpha=5.0).attach(model)
    model.train()
    with torch.no_grad():
        StudentLoss(model)(flat_row(DOCUMENTS, pad=0))
        model.get_input_embeddings()(torch.tensor([[5] * 26]))
        ids = torch.tensor([[5] * 26])
        noisy = embedded(model, lambda: model(ids))
    most = 5.0 / math.sqrt(26 * 32)
    assert float((noisy - model.get_input_embeddings().weight[5].detach()).abs().max()) <= most * (
        1 + 1e-4
    )


@pytest.mark.parametrize("tokens", [(), (7, 270)], ids=["no new tokens", "new tokens"])
def test_it_goes_with_an_adapter(loaded, tokens):
    model, batch = loaded.model, flat_row(DOCUMENTS, pad=0)
    LoRA(rank=2, alpha=2.0, dropout=0.0, layers="all-linear").attach(model, tokens)
    quiet = StudentLoss(model)(batch)[0].item()
    NEFTune(alpha=15.0).attach(model)
    assert StudentLoss(model.eval())(batch)[0].item() == pytest.approx(quiet, rel=1e-6)
    nats, _ = StudentLoss(model.train())(batch)
    assert abs(nats.item() - quiet) > 1e-3
    nats.backward()
    moving = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in moving)

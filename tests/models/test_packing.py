"""Packed = unpacked on many families of models, and training leaves the models' padding alone."""

import lm_eval.models.huggingface as peer
import pytest
import torch
from families import ALONE, SHARING, make
from lm_eval.api.instance import Instance

from heed.core.types import Request
from heed.data.encode import Encoded
from heed.data.pack import flat_row
from heed.models import likelihood
from heed.models.attention import Documents, document_attention
from heed.models.head import backbone_of, logits_of
from heed.models.likelihood import StudentLoss, continuation_nats
from heed.models.student import Loaded


def documents(lengths=(9, 3, 17, 1, 30, 8)) -> list[Encoded]:
    draw = torch.Generator().manual_seed(0)
    return [
        Encoded(str(i), torch.randint(3, 97, (n,), generator=draw).tolist(), [i % 3 < 2] * n)
        for i, n in enumerate(lengths)
    ]


def own_nats(model, rows: list[Encoded]) -> torch.Tensor:
    """Nats of the supervised tokens by the model's own forward, one document at a time."""
    found = []
    for row in rows:
        ids, kept = torch.tensor([row.ids]), torch.tensor(row.mask[1:], dtype=torch.bool)
        logs = model(ids).logits[0, :-1].log_softmax(-1)
        found.append(-logs.gather(1, ids[0, 1:, None])[kept, 0])
    return torch.cat(found)


def gradients(model, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("family", SHARING)
def test_packed_logits_are_the_models_own(family: str):
    model, rows = make(family), documents()
    batch = flat_row(rows, pad=0)
    with torch.no_grad(), document_attention(model):
        output = backbone_of(model)(
            input_ids=batch.input_ids[None],
            position_ids=batch.position_ids[None],
            use_cache=False,
            documents=Documents(batch.lengths),
        )
    with torch.no_grad():
        packed = logits_of(model, output, output.last_hidden_state[0])
        own = torch.cat([model(torch.tensor([row.ids])).logits[0] for row in rows])
        joint = model(batch.input_ids[None]).logits[0]
    torch.testing.assert_close(packed, own, atol=1e-5, rtol=0)
    assert (joint - own).abs().max() > 0.3  # what it would be if they saw each other


@pytest.mark.parametrize("family", SHARING)
def test_the_packed_loss_and_its_gradient_are_the_models_own(family: str):
    model, rows = make(family), documents()
    nats = StudentLoss(model).token_nats(flat_row(rows, pad=0))
    packed = gradients(model, nats.sum())
    own = own_nats(model, rows)
    torch.testing.assert_close(nats, own, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(packed, gradients(model, own.sum()), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("family", ALONE)
def test_a_model_that_cannot_share_has_its_own_loss_row_by_row(family: str):
    model, rows = make(family), [row for row in documents() if row.supervised]
    loss = StudentLoss(model)
    nats = torch.cat([loss.token_nats(flat_row([row], pad=0)) for row in rows])
    alone = gradients(model, nats.sum())
    own = own_nats(model, rows)
    torch.testing.assert_close(nats, own, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone, gradients(model, own.sum()), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("family", ALONE)
def test_a_model_that_cannot_share_never_gets_a_shared_row(family: str):
    with pytest.raises(AssertionError, match="documents in one row, but"):
        StudentLoss(make(family)).token_nats(flat_row(documents(), pad=0))


@pytest.mark.parametrize("family", ["Llama", "GPT-J"])
def test_texts_are_weighed_one_by_one_where_they_cannot_share(
    family: str, tokenizer, template, monkeypatch
):
    model = make(family)
    model.resize_token_embeddings(len(tokenizer))
    rows: list[int] = []
    asked = [Request("red", " green" * n) for n in (1, 4, 2)]
    row_of = likelihood._Row
    monkeypatch.setattr(likelihood, "_Row", lambda r, d: rows.append(len(r)) or row_of(r, d))
    found = continuation_nats(Loaded("some", model, tokenizer, template, ""), asked)
    assert [nats.tokens for nats in found] == [
        len(tokenizer.encode(request.continuation)) for request in asked
    ]
    assert rows == ([3] if family == "Llama" else [1, 1, 1])


@pytest.fixture(scope="module")
def trained(student) -> Loaded:
    """The tiny student after some packed steps."""
    loaded = student.fresh()
    loss, optimizer = StudentLoss(loaded.model), torch.optim.AdamW(loaded.model.parameters(), 3e-3)
    for _ in range(5):
        nats, tokens = loss(flat_row(documents(), pad=1))
        (nats / tokens).backward()
        optimizer.step()
        optimizer.zero_grad()
    return loaded


@pytest.mark.parametrize("kind", ["sdpa", "eager"])
def test_a_left_padded_batch_after_training_is_the_rows_one_by_one(trained: Loaded, kind: str):
    model, rows = trained.model.eval(), [[5, 9, 8], [7] * 11, [4, 90, 31, 2, 2, 60]]
    model.set_attn_implementation(kind)
    longest = max(map(len, rows))
    ids = torch.tensor([[1] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        batch = model(ids, attention_mask=mask, position_ids=positions).logits
        blind = model(ids, position_ids=positions).logits
        for row, found, unmasked in zip(rows, batch, blind, strict=True):
            own = model(torch.tensor([row])).logits[0]
            torch.testing.assert_close(found[-len(row) :], own, atol=1e-5, rtol=0)
            if len(row) < longest:  # padding that were seen would be noticed
                assert (unmasked[-len(row) :] - own).abs().max() > 1e-3
    model.set_attn_implementation("sdpa")


def test_lm_eval_says_the_same_of_a_padded_batch_and_of_one_at_a_time(trained: Loaded):
    said = []
    texts = ["red", "Name three colours of the sea, and say why", "a lamp is not a fish. blue"]
    for size in (1, 3):
        model = peer.HFLM(pretrained=trained.model.eval(), tokenizer=trained.tokenizer,
                          batch_size=size, max_length=256, device="cpu")  # fmt: skip
        ask = {"until": ["never"], "max_gen_toks": 12, "do_sample": False}
        made = [Instance("generate_until", {}, (text, ask), i) for i, text in enumerate(texts)]
        pairs = [Instance("loglikelihood", {}, (t, " green" * 3), i) for i, t in enumerate(texts)]
        generated = model.generate_until(made, disable_tqdm=True)
        weighed = [nats for nats, _ in model.loglikelihood(pairs, disable_tqdm=True)]
        said.append((generated, weighed))
    assert said[0][0] == said[1][0]
    assert len(set(said[0][0])) > 1
    assert said[0][1] == pytest.approx(said[1][1], abs=1e-4)
    asked = [Request(text, " green" * 3) for text in texts]
    ours = [-found.nats for found in continuation_nats(trained, asked)]
    assert said[0][1] == pytest.approx(ours, abs=1e-4)

"""Properties of the loss: packed = alone, chunked = whole, order and batching change nothing."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heed.core.errors import RunError
from heed.core.types import Request
from heed.data.encode import Encoded
from heed.data.pack import flat_row
from heed.models import likelihood
from heed.models.likelihood import Reading, StudentLoss, continuation_nats, rows_of
from heed.models.student import Loaded

LENGTHS = [[7], [1, 9], [3, 1, 1, 8, 2], [16, 17, 31, 33, 5], [64] * 3]


@pytest.fixture(scope="module")
def still(student) -> Loaded:
    """A student that no test of this file changes."""
    return student.fresh()


def documents(lengths: list[int], seed: int = 0) -> list[Encoded]:
    draw = torch.Generator().manual_seed(seed)
    made = []
    for i, n in enumerate(lengths):
        ids = torch.randint(2, 300, (n,), generator=draw).tolist()
        made.append(Encoded(str(i), ids, (torch.rand(n, generator=draw) < 0.6).tolist()))
    return made


def naive(model, document: Encoded) -> torch.Tensor:
    """Nats of one document by the model's own logits, token by token in Python."""
    logits = model(input_ids=torch.tensor([document.ids])).logits[0]
    total = logits.sum() * 0
    for place in range(1, len(document.ids)):
        if document.mask[place]:
            total = total - logits[place - 1].log_softmax(-1)[document.ids[place]]
    return total


def gradients(model, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_a_packed_row_has_the_loss_and_gradient_of_its_documents_alone(still: Loaded, lengths):
    rows = documents(lengths)
    nats, tokens = StudentLoss(still.model)(flat_row(rows, pad=1))
    packed = gradients(still.model, nats)
    alone = sum(naive(still.model, row) for row in rows)
    torch.testing.assert_close(nats, alone, rtol=1e-5, atol=1e-5)
    assert tokens == sum(row.supervised for row in rows)
    assert torch.allclose(packed, gradients(still.model, alone), rtol=1e-4, atol=2e-5)


def test_a_neighbour_does_not_change_a_documents_loss(still: Loaded):
    first, second, other = documents([12, 9, 20])
    loss = StudentLoss(still.model)
    ours = loss.token_nats(flat_row([first], pad=1))
    for row in ([first, second], [first, other], [first, second, other]):
        beside = loss.token_nats(flat_row(row, pad=1))[: first.supervised]
        torch.testing.assert_close(beside, ours, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [[], [Encoded("a", [5, 6, 7], [False] * 3)]])
def test_a_batch_without_a_target_has_zero_loss_and_zero_gradients(still: Loaded, rows):
    nats, tokens = StudentLoss(still.model)(flat_row(rows, pad=1))
    assert nats.item() == 0
    assert tokens.item() == 0
    assert not gradients(still.model, nats).any()  # and there is one for every parameter


@pytest.mark.parametrize("at_once", [1, 300, 900, 300 * 40])
def test_the_head_in_chunks_is_the_head_in_one(still: Loaded, monkeypatch, at_once: int):
    batch, loss = flat_row(documents([30, 5, 12]), pad=1), StudentLoss(still.model)
    whole = loss.token_nats(batch)
    expected = gradients(still.model, whole.sum())
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", at_once)
    chunked = loss.token_nats(batch)
    torch.testing.assert_close(chunked, whole)
    assert torch.allclose(gradients(still.model, chunked.sum()), expected, rtol=1e-4, atol=1e-5)


def test_no_more_logits_are_held_at_once_than_allowed(still: Loaded, monkeypatch):
    held = []
    head = still.model.get_output_embeddings()
    hook = head.register_forward_hook(lambda *call: held.append(call[2].numel()))
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", 1500)
    StudentLoss(still.model)(flat_row(documents([60]), pad=1))
    hook.remove()
    assert max(held) <= 1500 < sum(held)


def test_what_is_expected_of_a_token_is_what_the_loss_asks_of_it_to_the_last_digit(still: Loaded):
    ids = documents([40])[0].ids
    row = Encoded("a", ids, [False] * 12 + [True] * 28)
    with torch.no_grad(), still.evaluating():
        nats = StudentLoss(still.model).token_nats(flat_row([row], pad=1))
        logs = Reading(still, ids[:12], ids[12:]).logs(0, 28)
    assert torch.equal(nats, -logs.gather(-1, torch.tensor(ids[12:])[:, None])[:, 0])
    torch.testing.assert_close(logs.exp().sum(-1), torch.ones(28))


@settings(max_examples=10)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 5))
def test_a_reading_expects_what_a_forward_pass_expects(
    still: Loaded, before: int, after: int, seed
):
    ids = documents([before + after], seed)[0].ids
    with torch.no_grad(), still.evaluating():
        whole = still.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        reading = Reading(still, ids[:before], ids[before:])
        pieces = [reading.logs(i, i + 3, torch.float64) for i in range(0, after, 3)]
    found = torch.cat(pieces)
    torch.testing.assert_close(found, whole[before - 1 : -1], atol=1e-6, rtol=0)
    assert (
        found.exp().sum(-1) - 1
    ).abs().max() < 1e-12  # normalised in the type that was asked for


def test_the_sum_of_a_reading_is_the_likelihood_of_the_continuation(still: Loaded):
    (found,) = continuation_nats(still, [Request("red lamp", " and a fish")])
    said = still.tokenizer.encode(" and a fish")
    with torch.no_grad(), still.evaluating():
        logs = Reading(still, still.tokenizer.encode("red lamp"), said).logs(0, len(said))
    nats = -logs.gather(-1, torch.tensor(said)[:, None]).double().sum().item()
    assert (nats, len(said)) == (pytest.approx(found.nats, rel=1e-6), found.tokens)


def test_a_text_beyond_the_context_is_not_read(still: Loaded):
    with pytest.raises(RunError, match="256 positions, but the longest text to be read needs 257"):
        Reading(still, [5] * 57, [6] * 200)


WORDS = st.text(alphabet="abc red.\n", max_size=20)
REQUESTS = st.lists(st.builds(Request, WORDS, WORDS), min_size=1, max_size=6)


def nats_by_logits(loaded: Loaded, request: Request) -> tuple[float, int]:
    encode = loaded.tokenizer.encode
    read = loaded.template.prompt(request.context) if request.asked else request.context
    context = encode(read) or [loaded.tokenizer.eos_token_id]
    said = encode(request.continuation)
    with torch.no_grad():
        logits = loaded.model.eval()(torch.tensor([context + said])).logits[0]
    logs = logits.log_softmax(-1)
    places = range(len(context) - 1, len(context) + len(said) - 1)
    return -sum(logs[p, t].item() for p, t in zip(places, said, strict=True)), len(said)


@settings(max_examples=15)
@given(REQUESTS, st.sampled_from([1, 30, 8192]))
def test_a_likelihood_is_what_the_logits_say(still: Loaded, requests: list, at_once: int):
    found = continuation_nats(still, requests, tokens_at_once=at_once)
    for request, (nats, tokens) in zip(requests, found, strict=True):
        expected, count = nats_by_logits(still, request)
        assert tokens == count
        assert nats == pytest.approx(expected, rel=1e-4, abs=1e-4)


@settings(max_examples=10)
@given(REQUESTS, st.randoms())
def test_the_order_of_requests_does_not_matter(still: Loaded, requests: list, random):
    order = random.sample(range(len(requests)), len(requests))
    here = continuation_nats(still, requests)
    there = continuation_nats(still, [requests[i] for i in order])
    for i, moved in zip(order, there, strict=True):
        assert moved.nats == pytest.approx(here[i].nats, rel=1e-5, abs=1e-5)


def test_no_requests_have_no_likelihoods(still: Loaded):
    assert continuation_nats(still, []) == []


@pytest.mark.parametrize("training", [True, False])
def test_asking_leaves_the_model_in_the_mode_it_was_in(still: Loaded, training: bool):
    still.model.train(training)
    continuation_nats(still, [Request("a", "b")])
    assert still.model.training is training


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(0, 60))
def test_every_text_stands_in_one_row_that_holds_it(lengths: list[int], most: int):
    rows = rows_of(lengths, most)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(len(row) == 1 or sum(lengths[i] for i in row) <= most for row in rows)


@pytest.mark.parametrize("world", [2, 3, 7])
def test_rows_that_ranks_share_give_the_numbers_of_one_process(
    still: Loaded, monkeypatch, world: int
):
    requests = [Request("red " * (i % 3), "blue " * (1 + i % 5)) for i in range(9)]
    parts: list[Any] = []
    weighed: list[int] = []
    token_nats = StudentLoss.token_nats
    monkeypatch.setattr(StudentLoss, "token_nats", lambda *a: weighed.append(1) or token_nats(*a))
    whole = continuation_nats(still, requests, tokens_at_once=12)
    rows = len(weighed)
    assert rows > 3
    for rank in range(world):
        monkeypatch.setattr(likelihood, "share", lambda n, first=rank: range(first, n, world))
        monkeypatch.setattr(likelihood, "everybody", lambda part: parts.append(part) or [])
        with pytest.raises(KeyError):  # of the others nothing is known yet
            continuation_nats(still, requests, tokens_at_once=12, shared=True)
    assert len(weighed) == 2 * rows, "each row is weighed by one rank"
    monkeypatch.setattr(likelihood, "everybody", lambda _: parts)
    assert continuation_nats(still, requests, tokens_at_once=12, shared=True) == whole

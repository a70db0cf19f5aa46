"""One definition of the loss: sum of nats and number of supervised tokens, made by the student."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from heed.core.ranks import everybody, share
from heed.core.types import Likelihood, Request
from heed.models.attention import Documents, attend, document_attention
from heed.models.chunked import SummedNats, log_probabilities
from heed.models.head import backbone_of, hidden_states, logits_of
from heed.models.precision import half_precision
from heed.models.shapes import whole_number
from heed.models.sharing import why_alone
from heed.models.student import Loaded, refuse_too_long

LOGITS_AT_ONCE = 2**24
"""Most logits held at a time (64 MiB in float32; twice as many where training's are half as wide);
memory only, not the value."""


class PackedRow(Protocol):
    """What the student reads of a batch (`heed.data.pack.Batch`)."""

    @property
    def input_ids(self) -> Tensor:
        """i64[T], the documents' tokens one after the other."""
        ...

    @property
    def position_ids(self) -> Tensor:
        """i64[T], starting from 0 in each document."""
        ...

    @property
    def lengths(self) -> Tensor:
        """i64[D], tokens of each document."""
        ...

    @property
    def where(self) -> Tensor:
        """i64[N], positions whose next token is supervised."""
        ...

    @property
    def targets(self) -> Tensor:
        """i64[N], those next tokens."""
        ...


class StudentLoss(nn.Module):
    """A causal language model whose forward is the whole loss, head included.

    Backbone, head and loss stand inside one forward, so that whatever wraps the module (DDP,
    FSDP2, an adapter) sees all of it. The head runs on supervised positions only. Rows of several
    documents are for models that `heed.models.sharing.why_alone` has nothing against.
    """

    attention = staticmethod(attend)

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, batch: PackedRow) -> tuple[Tensor, Tensor]:
        """Sum the negative log-likelihood over the supervised tokens of a packed row.

        Returns:
            Nats (f32 scalar; zero with a graph if nothing is supervised) and tokens (i64 scalar).
        """
        tokens = torch.full((), batch.where.numel(), device=batch.where.device)
        if not (batch.where.numel() and torch.is_grad_enabled()):
            return self.token_nats(batch).sum(), tokens
        output = self.backbone(batch)
        rows = hidden_states(self.model, output).squeeze(0).index_select(0, batch.where)
        moving = [p for p in self.model.parameters() if p.requires_grad]
        logits = partial(logits_of, self.model, output)
        size = rows_at_once(self.model) * (2 if half_precision(rows) else 1)
        return SummedNats.apply(logits, batch.targets, size, rows, *moving), tokens

    def token_nats(self, batch: PackedRow) -> Tensor:
        """Negative log-likelihood of each supervised token, f32[N], in nats."""
        output = self.backbone(batch)
        hidden = hidden_states(self.model, output)[0]
        if not batch.where.numel():
            return (logits_of(self.model, output, hidden[:1]).float().sum() * 0).expand(0)
        rows = hidden[batch.where]
        size = rows_at_once(self.model)
        parts = list(zip(rows.split(size), batch.targets.split(size), strict=True))
        if len(parts) == 1:
            return self._nll(output, rows, batch.targets)
        return torch.cat(
            [checkpoint(self._nll, output, *part, use_reentrant=False) for part in parts]
        )

    def backbone(self, batch: PackedRow) -> Any:
        """Hidden states; a document alone in its row is attended by the model's own attention."""
        if batch.lengths.numel() == 1:
            return backbone_of(self.model)(input_ids=batch.input_ids[None], use_cache=False)
        assert (why := why_alone(self.model)) is None, f"documents in one row, but {why}"
        return self.together(batch, Documents(batch.lengths))

    def together(self, batch: PackedRow, documents: Documents) -> Any:
        """Hidden states of a row, and of what fills it up, which no document sees."""
        count = batch.input_ids.numel()
        rest = (0, whole_number(count, next(self.model.parameters())) - count)
        with document_attention(self.model, self.attention):
            return backbone_of(self.model)(
                input_ids=nn.functional.pad(batch.input_ids, rest)[None],
                position_ids=nn.functional.pad(batch.position_ids, rest)[None],
                use_cache=False,
                documents=documents,
            )

    def _nll(self, output: Any, rows: Tensor, targets: Tensor) -> Tensor:
        logs = next_token_logs(self.model, output, rows)
        return nn.functional.nll_loss(logs, targets, reduction="none")


def next_token_logs(
    model: Any, output: Any, hidden: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Log-probability of every token at chosen positions: what loss, likelihood and shift share.

    Args:
        model: A transformers causal language model.
        output: What its backbone gave.
        hidden: [N, H], rows of the output's last hidden states.
        dtype: In which the logits are normalised.

    Returns:
        [N, V], in nats.
    """
    return log_probabilities(logits_of(model, output, hidden), dtype)


def rows_at_once(model: Any) -> int:
    """Positions whose logits may be held together."""
    return max(1, LOGITS_AT_ONCE // int(model.config.vocab_size))


class Reading:
    """What a student expects at each token of a continuation that it is made to read.

    The text stands alone in its row. The hidden states are kept; distributions over the vocabulary
    are made of them for a few positions at a time.

    Example:
        `Reading(loaded, context, said).logs(0, 4)` are the distributions [4, V] from which the
        first four tokens of `said` would be drawn.
    """

    def __init__(self, loaded: Loaded, context: Sequence[int], continuation: Sequence[int]):
        """Run the student over a text.

        Args:
            loaded: The student, in the mode in which it is to read (see `Loaded.evaluating`).
            context: Token ids before the continuation, at least one.
            continuation: Token ids that are expected, in turn; the last one is not read.

        Raises:
            RunError: the text is longer than the student's context.
        """
        assert context, "nothing stands before the first token, so nothing expects it"
        ids = [*context, *continuation]
        refuse_too_long(loaded, len(ids), "the longest text to be read", "the cap on answers")
        self.model = loaded.model
        row = _Row([(ids, len(context))], loaded.model.device)
        self.output = StudentLoss(loaded.model).backbone(row)
        self.hidden = hidden_states(loaded.model, self.output)[0][row.where]

    def logs(self, start: int, stop: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Log-probabilities of every token at the continuation's places from start to stop.

        Returns:
            [stop - start, V], in nats.
        """
        return next_token_logs(self.model, self.output, self.hidden[start:stop], dtype)


class _Row:
    """A packed row of plain token lists, without a teacher."""

    def __init__(self, rows: Sequence[tuple[list[int], int]], device: torch.device):
        self.input_ids = torch.tensor([t for ids, _ in rows for t in ids])
        self.position_ids = torch.cat([torch.arange(len(ids)) for ids, _ in rows])
        self.lengths = torch.tensor([len(ids) for ids, _ in rows])
        offsets = (torch.cumsum(self.lengths, 0) - self.lengths).tolist()
        self.where = torch.cat(
            [
                torch.arange(o + c - 1, o + len(ids) - 1)
                for o, (ids, c) in zip(offsets, rows, strict=True)
            ]
        )
        self.targets = self.input_ids[self.where + 1]
        for name, tensor in vars(self).items():
            setattr(self, name, tensor.to(device))


def continuation_nats(
    loaded: Loaded,
    requests: Sequence[Request],
    *,
    tokens_at_once: int = 8192,
    shared: bool = False,
) -> list[Likelihood]:
    """Negative log-likelihood of each continuation after its context, as plain text.

    Context and continuation are tokenised apart, after what the template says stands before every
    text. Where that and the context are empty, the end-of-text token stands in, so that the first
    token of the continuation is weighed too.

    Args:
        loaded: The student.
        requests: Any number of requests.
        tokens_at_once: Most tokens of one packed row; memory only, not the value. A model whose
            documents cannot share a row gets one at a time.
        shared: Whether all ranks are asked at the same place, and each does a share. What stands in
            a row is the same on any number of ranks, and so is the last digit.

    Returns:
        One likelihood per request, in order.
    """
    encoded = [_request_ids(loaded, request) for request in requests]
    longest = max((len(ids) for ids, _ in encoded), default=0)
    refuse_too_long(loaded, longest, "the longest text to be weighed", "the task's chunk size")
    most = tokens_at_once if why_alone(loaded.model) is None else 0
    rows = rows_of([len(ids) for ids, _ in encoded], most)
    own = share(len(rows)) if shared else range(len(rows))
    weighed = _row_nats(loaded, [[encoded[i] for i in rows[place]] for place in own])
    parts = [list(zip(own, weighed, strict=True))]
    found = {
        i: nats
        for part in (everybody(parts[0]) if shared else parts)
        for place, row in part
        for i, nats in zip(rows[place], row, strict=True)
    }
    return [found[i] for i in range(len(requests))]


def rows_of(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Texts that are weighed in one row: the longest first, beside it what still has room.

    Args:
        lengths: Tokens of each text.
        most: Most tokens of a row; a text that is longer has one for itself.

    Returns:
        Places of the texts, row by row; each is in one row.

    Example:
        >>> rows_of([1, 5, 2, 9], 7)
        [[3], [1, 2], [0]]
    """
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    rows = []
    while order:
        chosen = [order.pop()]
        room = most - lengths[chosen[0]]
        while order and lengths[order[-1]] <= room:
            chosen.append(order.pop())
            room -= lengths[chosen[-1]]
        rows.append(chosen)
    return rows


def _row_nats(
    loaded: Loaded, rows: Sequence[Sequence[tuple[list[int], int]]]
) -> list[list[Likelihood]]:
    """The likelihoods of the texts of each row, given as token ids and number of context tokens."""
    loss, found = StudentLoss(loaded.model), []
    with torch.inference_mode(), loaded.evaluating():
        for row in rows:
            nats = loss.token_nats(_Row(row, loaded.model.device))
            parts = nats.cpu().double().split([len(ids) - context for ids, context in row])
            found.append([Likelihood(float(part.sum()), len(part)) for part in parts])
    return found


def _request_ids(loaded: Loaded, request: Request) -> tuple[list[int], int]:
    """Token ids of a request, and how many of them are context."""
    encode = loaded.tokenizer.encode
    before: tuple[str, ...] = (loaded.template.begin, request.context)
    if request.asked:
        before = (loaded.template.prompt(request.context),)
    context = [i for text in before if text for i in encode(text, add_special_tokens=False)]
    context = context or [loaded.tokenizer.eos_token_id]
    return context + encode(request.continuation, add_special_tokens=False), len(context)

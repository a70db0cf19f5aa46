"""The tokens that a template is made of: which a student lacks or never saw, and their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from heed.core.errors import RunError
from heed.core.types import ChatTemplate

if TYPE_CHECKING:
    from heed.models.student import Loaded

FAR = 5.0
"""A norm so many robust standard deviations below the median is not that of a trained row."""

PARALLEL = 0.95
"""Cosine to another row from which on a row has learned nothing of its own."""


def template_tokens(template: ChatTemplate) -> tuple[str, ...]:
    """What must be single tokens of the student: its end of turn, and the template's own."""
    return tuple(dict.fromkeys((template.end_of_turn, *template.special_tokens)))


def pieces(tokenizer: Any, token: str) -> int:
    """How many tokens a text is spelt with.

    Returns:
        1 for a token of its own; 0 if the tokenizer cannot spell it; more, too, for a token that
        merges with its neighbours.
    """
    ids = tokenizer.encode(token, add_special_tokens=False)
    if len(ids) != 1:
        return len(ids)
    if ids[0] == tokenizer.unk_token_id and token != tokenizer.unk_token:
        return 0
    whole = tokenizer.encode(f"a{token}a", add_special_tokens=False)
    return 1 if ids[0] in whole else len(whole)


def lacking(tokenizer: Any, template: ChatTemplate) -> tuple[str, ...]:
    """The template's tokens that are no single tokens of a tokenizer."""
    return tuple(t for t in template_tokens(template) if pieces(tokenizer, t) != 1)


def add_tokens(tokenizer: Any, tokens: Sequence[str]) -> None:
    """Give a tokenizer tokens of its own for some texts; ids follow the last one."""
    from tokenizers import AddedToken

    new = [AddedToken(token, special=True, normalized=False) for token in tokens]
    tokenizer.add_tokens(new, special_tokens=True)


def place_rows(model: Any, ids: Sequence[int]) -> None:
    """Give new tokens a row in the embedding and the head: the mean of the rows before them.

    The matrices grow only if they must: many hold more rows than their tokenizer has tokens. The
    mean keeps the new tokens from changing what the student says before it has learned them.

    Source: Hewitt 2021, https://nlp.stanford.edu/~johnhew/vocab-expansion.html.
    """
    first = min(ids)
    if max(ids) >= model.get_input_embeddings().weight.shape[0]:
        with torch.random.fork_rng(devices=[]):  # the library draws rows that are overwritten here
            model.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    with torch.no_grad():
        for matrix in _matrices(model).values():
            matrix[list(ids)] = matrix[:first].float().mean(0).to(matrix.dtype)
        bias = getattr(model.get_output_embeddings(), "bias", None)
        if bias is not None:
            bias[list(ids)] = bias[:first].float().mean().to(bias.dtype)


def _matrices(model: Any) -> dict[str, Tensor]:
    """`embedding` and `head`, float[V, D] each, or `both` if they are one."""
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    return {"both": head} if head is embedding else {"embedding": embedding, "head": head}


def untrained_rows(matrix: Tensor, rows: Sequence[int], used: int) -> list[str]:
    """Why rows of an embedding or a head look as if no text ever trained them; "" if they do not.

    Two signs. The norm is far below the others': nothing but weight decay has moved the row. Or
    the row is all but parallel to another: tokens that are never the next one are all pushed the
    same way, and differ by little more than their initial noise. (A large norm alone is no sign:
    frequent tokens have one too.)

    Args:
        matrix: Float[V, D].
        rows: Which.
        used: Rows that belong to a token; those behind them are left out of the comparison.

    Source: after Land and Bartolo 2024, https://arxiv.org/abs/2405.05417, section 3.2, who look
    at the distance to rows that are known to be unused.
    """
    with torch.no_grad():
        matrix = matrix[: max(used, *(row + 1 for row in rows))].detach()
        norms = torch.linalg.vector_norm(matrix, dim=1, dtype=torch.float32).clamp(min=1e-30)
        logs = norms.log()
        middle = logs.median()
        off = (logs - middle) / (1.4826 * (logs - middle).abs().median()).clamp(min=1e-6)
        cosines = (matrix @ matrix[list(rows)].T).float() / (norms[:, None] * norms[list(rows)])
        cosines[list(rows), range(len(rows))] = -1.0
        nearest = cosines.max(0).values
    return [
        f"the norm of its row is {norms[row]:.2g}, the median is {middle.exp():.2g}"
        if not off[row] > -FAR
        else f"its row is all but that of another token (cosine {nearest[i]:.3f})"
        if nearest[i] > PARALLEL
        else ""
        for i, row in enumerate(rows)
    ]


def unseen_tokens(loaded: Loaded) -> dict[str, str]:
    """The template's tokens that the student cannot be trusted to know: token -> why.

    Those that were added to it; those whose rows look untrained (in the embedding if a prompt
    holds them, in the head if they end a turn; what begins every text is left out, for the student
    was pre-trained with it); and an end of turn that is not the end of text, the one stop that a
    base student is sure to have met.
    """
    tokenizer, template = loaded.tokenizer, loaded.template
    end, prompt = template.end_of_turn, template.prompt("")
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in template_tokens(template)}
    found = {token: "it was added to the student" for token in ids if token in loaded.added}
    for name, matrix in _matrices(loaded.model).items():
        read = [t for t in ids if t in prompt and t != template.begin]
        asked = [
            t for t in ids if (name != "head" and t in read) or (name != "embedding" and t == end)
        ]
        signs = untrained_rows(matrix, [ids[t] for t in asked], len(tokenizer)) if asked else []
        found |= {t: why for t, why in zip(asked, signs, strict=True) if why and t not in found}
    if ids[end] != tokenizer.eos_token_id:
        found.setdefault(end, "it ends a turn, and is not the student's end of text")
    return found


def tokens_to_learn(loaded: Loaded, *, trains_embeddings: bool, method: str) -> dict[str, str]:
    """The template's tokens that a tuning has to teach: token -> why.

    Args:
        loaded: The student, before an adapter is attached.
        trains_embeddings: Whether every row of embedding and head moves anyway.
        method: How the adapter is called, for the message.

    Raises:
        RunError: there are some, embeddings are frozen, and `new_tokens` is `refuse`.
    """
    found = unseen_tokens(loaded)
    if found and not trains_embeddings and loaded.new_tokens == "refuse":
        listed = "; ".join(f"{token!r}: {why}" for token, why in found.items())
        raise RunError(
            f"student {loaded.name!r}: the base may never have seen {len(found)} of the tokens "
            f"that its template is made of ({listed}), and method {method} leaves embeddings "
            f"frozen: it could not learn to read them, nor where to stop. Give "
            f"model.new_tokens=train (their rows, and no others, then move too), or method=full, "
            f"or a template of tokens it knows: model.template.end_of_turn="
            f"{loaded.tokenizer.eos_token!r}."
        )
    return found

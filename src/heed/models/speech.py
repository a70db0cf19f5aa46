"""How a student is spoken to: its tokenizer with its template, whatever its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from heed.core.errors import RunError
from heed.core.secrets import without_secrets
from heed.core.types import ChatTemplate
from heed.models.hub import said_by_hub

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

NewTokens = Literal["refuse", "train"]
"""What happens to tokens of the template that a student lacks or has never seen."""


@dataclass(frozen=True)
class Speech:
    """How a student is spoken to, which its weights have no part in.

    Attributes:
        template: How turns become text.
        tokenizer: How text becomes tokens; it knows the template's.
    """

    template: ChatTemplate
    tokenizer: PreTrainedTokenizerFast


def read_tokenizer(path: str, pinned: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """The tokenizer as it is at a place."""
    from transformers import AutoTokenizer

    found: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(path, **pinned)
    return found


@contextmanager
def reading(path: str, name: str, pinned: Mapping[str, Any]) -> Iterator[None]:
    """Say in one screen what could not be read inside the block.

    Raises:
        RunError: whatever the library found wrong.
    """
    from heed.models.memory import is_out_of_memory

    try:
        yield
    except unreadable() as error:
        if is_out_of_memory(error):
            raise
        said = said_by_hub(error, path, pinned["revision"])
        raise RunError(
            f"student {name!r}: {path!r} (revision {pinned['revision']}) could not be loaded: "
            f"{said or _in_general(error)}"
        ) from error


def unreadable() -> tuple[type[Exception], ...]:
    """How files that hold no whole model show themselves while one is made of them.

    Torn weights, no network, or a `config.json` whose values are of a wrong kind, or of another
    model: what a library does with those is up to each value.
    """
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    return (
        ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, OSError,
        RuntimeError, TypeError, ValueError, SafetensorError, StrictDataclassError,
    )  # fmt: skip


def _in_general(error: Exception) -> str:
    first = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    return (
        f"{without_secrets(first)} Check the id, the revision and the network, and that the "
        f"config.json is that of these weights; or give a local directory with config.json, "
        f"*.safetensors and a tokenizer as model.path."
    )


def no_bars() -> None:
    """Leave out the library's progress bars, a second each, between our own lines."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def with_template(tokenizer: Any, template: ChatTemplate, new_tokens: NewTokens) -> tuple[str, ...]:
    """Store a template with a tokenizer, in place, which then knows each of its tokens.

    Returns:
        The tokens that were added.

    Raises:
        RunError: the template's tokens are no single tokens of the tokenizer, and may not be added.
    """
    from heed.models.embeddings import add_tokens, lacking, pieces

    lacks = lacking(tokenizer, template)
    if lacks and new_tokens == "refuse":
        listed = ", ".join(f"{t!r} ({pieces(tokenizer, t)} tokens)" for t in lacks)
        raise RunError(
            f"the template is made of {listed}, which this tokenizer does not know as one token "
            f"each: generation would not stop there, and turns would be spelt out like words. Give "
            f"model.new_tokens=train (they are added and learned), or a template of the student's "
            f"own tokens (model.template.end_of_turn={tokenizer.eos_token!r})."
        )
    size = len(tokenizer)
    add_tokens(tokenizer, lacks)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.chat_template = template.jinja()
    return tuple(token for token in lacks if tokenizer.convert_tokens_to_ids(token) >= size)

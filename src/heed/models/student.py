"""A student: a small base model at a pinned revision, or one made from scratch."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from heed.core.component import component
from heed.core.errors import ConfigError, Mistake, RunError
from heed.core.identity import Incidental, digest_model
from heed.core.types import ChatTemplate
from heed.models.architectures import Llama, Vocabulary
from heed.models.speech import NewTokens, Speech, no_bars, read_tokenizer, reading, with_template
from heed.models.tokenizer import TokenizerRecipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Precision = Literal["32-true", "bf16-mixed", "bf16-true"]
"""Number format of a training step, as Lightning names it."""


@dataclass
class Loaded:
    """A student in memory.

    Attributes:
        name: How it is called in tables.
        model: A transformers causal language model; adapters stand inside it.
        tokenizer: Its tokenizer.
        template: Its template.
        source: What an adapter of it names as its base: a directory or a hub id.
        revision: Commit of a hub id.
        trust_remote_code: Whether code of that repository may run here.
        new_tokens: What happens to tokens of the template that it lacks or has never seen.
        added: Tokens of the template that it lacked, and was given when it was loaded.
    """

    name: str
    model: Any
    tokenizer: PreTrainedTokenizerFast
    template: ChatTemplate
    source: str
    revision: str | None = None
    trust_remote_code: bool = False
    new_tokens: NewTokens = "refuse"
    added: tuple[str, ...] = ()

    @property
    def loading(self) -> dict[str, Any]:
        """How `load` is to read what is saved of this student."""
        return {
            "name": self.name,
            "template": self.template,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "trust_remote_code": self.trust_remote_code,
            "new_tokens": self.new_tokens,
        }

    @property
    def speech(self) -> Speech:
        """How it is spoken to."""
        return Speech(self.template, self.tokenizer)

    @property
    def context(self) -> int | None:
        """Most positions, in tokens; None if the model does not say."""
        return getattr(self.model.config, "max_position_embeddings", None)

    def to(self, device: str) -> Loaded:
        """Move the model, in place."""
        self.model.to(device)
        return self

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end a response: the template's end of turn, and every end of text.

        The tokenizer names one end of text, the model's generation config may name more.
        """
        (end,) = self.tokenizer.encode(self.template.end_of_turn, add_special_tokens=False)
        own = self.model.generation_config.eos_token_id
        more = own if isinstance(own, list) else [own]
        found = (end, self.tokenizer.eos_token_id, *more)
        return tuple(dict.fromkeys(token for token in found if token is not None))

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Dropout off inside the block, and as before after it."""
        before = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(before)


class Student(ABC):
    """What a run starts from."""

    name: Annotated[str, Incidental]
    precision: Annotated[Precision, Incidental]
    template: ChatTemplate
    new_tokens: NewTokens
    pretraining: Any

    @abstractmethod
    def fresh(self) -> Loaded:
        """The student as the config alone makes it: random weights, or published ones."""

    @abstractmethod
    def bare_tokenizer(self) -> PreTrainedTokenizerFast:
        """Its tokenizer, before the template's tokens are added; no weights are loaded."""

    @abstractmethod
    def skeleton(self) -> Any:
        """Its model as the config alone makes it, on torch's device "meta": no numbers, no memory.

        Raises:
            RunError: its architecture cannot be read.
        """

    def speech(self) -> Speech:
        """How it will be spoken to, known without its weights."""
        tokenizer = self.bare_tokenizer()
        with_template(tokenizer, self.template, self.new_tokens)
        return Speech(self.template, tokenizer)

    @property
    def loading(self) -> dict[str, Any]:
        """How `load` is to read what is saved of this student."""
        return {"name": self.name, "template": self.template, "new_tokens": self.new_tokens}


@component
class Scratch(Student):
    """A student made here: architecture, tokenizer, and the run that pre-trains it."""

    name: Annotated[str, Incidental]
    """How the student is called in tables."""

    precision: Annotated[Precision, Incidental]
    """Number format in which it is tuned where `precision` is `student`; the run's own decides."""

    architecture: Llama
    """Shape of the network."""

    tokenizer: TokenizerRecipe
    """How text becomes tokens."""

    template: ChatTemplate
    """How turns become text."""

    new_tokens: NewTokens
    """Tokens of the template that the tokenizer lacks, or that no text of pre-training held, are
    refused; or the former are added, and an adapter learns the rows of both."""

    seed: int
    """Of the initial weights."""

    pretraining: Any
    """The recipe (`heed.training.run.Recipe`) that makes a base of it; null leaves it random."""

    def bare_tokenizer(self) -> PreTrainedTokenizerFast:
        """Made by its recipe."""
        return self.tokenizer.build()

    def skeleton(self) -> Any:
        """Of its architecture and the size of its vocabulary."""
        import torch

        with torch.device("meta"):
            return self.architecture.build(Vocabulary(self.tokenizer.size(self.template)))

    def fresh(self) -> Loaded:
        """Random weights drawn from `seed`; the global generator is left as it was."""
        import torch

        tokenizer = self.bare_tokenizer()
        added = with_template(tokenizer, self.template, self.new_tokens)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            model = self.architecture.build(tokenizer)
        made = Loaded(self.name, model, tokenizer, self.template, "")
        return replace(made, new_tokens=self.new_tokens, added=added)


@component
class Published(Student):
    """Weights from the hub at a pinned revision, or from a local directory in the same layout."""

    name: Annotated[str, Incidental]
    """How the student is called in tables."""

    precision: Annotated[Precision, Incidental]
    """Number format in which it is tuned where `precision` is `student`; the run's own decides."""

    path: Annotated[str, Incidental]
    """Hub id `organisation/name`, or a directory; in the run id stands what it holds."""

    revision: Annotated[str | None, Incidental]
    """Commit of the hub repository; required for a hub id, null for a directory."""

    dtype: Literal["float32", "bfloat16", "float16"]
    """Type in which the weights are held; full tuning wants float32 master weights."""

    trust_remote_code: bool
    """Whether code from the repository may run here. Leave it false unless you have read it."""

    template: ChatTemplate
    """How turns become text."""

    new_tokens: NewTokens
    """Tokens of the template that the student lacks, or that look untrained, are refused; or the
    former are added, and an adapter learns the rows of both."""

    pretraining: None
    """Always null: it comes trained."""

    def __post_init__(self) -> None:
        local = Path(self.path).is_dir()
        if local and self.revision is not None:
            why = f"{self.path!r} is a directory, whose files are what is pinned."
            raise ConfigError([Mistake("revision", self.revision, why, "Give it null.")])
        if not local and not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            why = (
                f"{self.path!r} is no directory here, and a hub id without a whole commit (40 "
                f"digits, no branch or tag) may change under the run id."
            )
            action = "Give model.revision=<commit>, or a directory as model.path."
            raise ConfigError([Mistake("revision", str(self.revision), why, action)])

    def digest(self) -> str:
        """The pinned commit, or a digest of what the directory's files hold."""
        return digest_model(self.path, self.revision)

    def bare_tokenizer(self) -> PreTrainedTokenizerFast:
        """From the hub or the directory; of its files, only those that a tokenizer needs."""
        pinned = {"revision": self.revision, "trust_remote_code": self.trust_remote_code}
        with reading(self.path, self.name, pinned):
            return read_tokenizer(self.path, pinned)

    def skeleton(self) -> Any:
        """Of its config.json."""
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        pinned = {"revision": self.revision, "trust_remote_code": self.trust_remote_code}
        with reading(self.path, self.name, pinned), torch.device("meta"):
            config = AutoConfig.from_pretrained(self.path, **pinned)
            kind = getattr(torch, self.dtype)
            trusted = self.trust_remote_code
            return AutoModelForCausalLM.from_config(config, dtype=kind, trust_remote_code=trusted)

    def fresh(self) -> Loaded:
        """Load from the hub or the directory; safetensors only."""
        return load(self.path, revision=self.revision, **self.loading)

    @property
    def loading(self) -> dict[str, Any]:
        """In the type of the config, and with its trust."""
        own = {"dtype": self.dtype, "trust_remote_code": self.trust_remote_code}
        return super().loading | own


def load(  # noqa: PLR0913 (what `loading` says, key by key)
    path: str,
    *,
    name: str,
    template: ChatTemplate,
    revision: str | None = None,
    dtype: str = "float32",
    trust_remote_code: bool = False,
    new_tokens: NewTokens = "refuse",
) -> Loaded:
    """Load a model and its tokenizer in Hugging Face layout.

    Raises:
        RunError: nothing loadable is there, or it lacks tokens of the template.
    """
    from heed.models.embeddings import place_rows

    pinned = {"revision": revision, "trust_remote_code": trust_remote_code}
    tokenizer, model = _read(path, name, dtype, pinned)
    added = with_template(tokenizer, template, new_tokens)
    if added:
        place_rows(model, tokenizer.convert_tokens_to_ids(list(added)))
    made = Loaded(name, model, tokenizer, template, path, revision, trust_remote_code)
    model.generation_config.eos_token_id = list(made.stop_ids)  # for others, once it is saved
    return replace(made, new_tokens=new_tokens, added=added)


def _read(path: str, name: str, dtype: str, pinned: Mapping[str, Any]) -> tuple[Any, Any]:
    """Tokenizer and model as they are at a place; every weight has its place and its shape."""
    import torch
    from transformers import AutoModelForCausalLM

    no_bars()
    with reading(path, name, pinned):
        tokenizer = read_tokenizer(path, pinned)
        model, found = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below
            **pinned,
        )
    if wrong := [
        w for kind in ("missing", "mismatched", "unexpected") for w in found[f"{kind}_keys"]
    ]:
        raise RunError(
            f"student {name!r}: {len(wrong)} weights of {path!r} do not fit its config.json (they "
            f"are missing, have another shape, or have no place), {wrong[0]!r} for one: another "
            f"network would stand in for it. Fetch it again."
        )
    return tokenizer, model


def refuse_too_long(loaded: Loaded, tokens: int, what: str, setting: str) -> None:
    """Refuse sequences that are longer than the student's context.

    Args:
        loaded: The student.
        tokens: Length of the longest sequence.
        what: What it is, for the message.
        setting: What makes it shorter.

    Raises:
        RunError: it does not fit.
    """
    if loaded.context is not None and tokens > loaded.context:
        raise RunError(
            f"student {loaded.name!r} has {loaded.context} positions, but {what} needs {tokens}: "
            f"beyond its context a model says nothing that means anything. Lower {setting}, or "
            f"take a student with a longer context."
        )

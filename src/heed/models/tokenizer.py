"""Tokenizers made here: a byte-level BPE trained on a corpus, or any other recipe."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from heed.core.component import component
from heed.core.types import ChatTemplate, Prompt, RowSource

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class TokenizerRecipe(ABC):
    """How to make a tokenizer, the same one every time."""

    @abstractmethod
    def build(self) -> PreTrainedTokenizerFast:
        """The tokenizer, with an end-of-text and a padding token."""

    def size(self, template: ChatTemplate) -> int:
        """Tokens, those of a template among them."""
        from heed.models.embeddings import lacking

        made = self.build()
        return len(made) + len(lacking(made, template))


@component
class TrainedBPE(TokenizerRecipe):
    """Byte-level byte-pair encoding trained on a corpus: every text can be spelt, losslessly.

    Source: Sennrich et al. 2016, https://arxiv.org/abs/1508.07909, on bytes as in GPT-2.
    """

    corpus: RowSource
    """The text it is trained on."""

    vocabulary: Annotated[int, Field(ge=260)]
    """Number of tokens, the 256 bytes and the special tokens included."""

    end_of_text: str
    """Special token between documents."""

    pad: str
    """Special token for padding, never trained on."""

    def size(self, template: ChatTemplate) -> int:
        """Known without training it; a corpus of very few words gives less."""
        from heed.models.embeddings import template_tokens

        own = {self.end_of_text, self.pad}
        return self.vocabulary + len(set(template_tokens(template)) - own)

    def build(self) -> PreTrainedTokenizerFast:
        """Train it (seconds for 17 MB of text); the result depends on the corpus alone."""
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
        from transformers import PreTrainedTokenizerFast

        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocabulary,
            special_tokens=[self.end_of_text, self.pad],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        texts = (message.content for row in self.corpus.rows() for message in row.messages)
        made.train_from_iterator(texts, trainer)
        return PreTrainedTokenizerFast(
            tokenizer_object=made,
            eos_token=self.end_of_text,
            pad_token=self.pad,
            clean_up_tokenization_spaces=False,
        )


def prompt_ids(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Token ids of a rendered prompt, each piece by itself, as training spells it."""
    pieces = (prompt,) if isinstance(prompt, str) else prompt
    return [id_ for text in pieces for id_ in tokenizer.encode(text, add_special_tokens=False)]

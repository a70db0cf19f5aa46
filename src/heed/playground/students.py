"""The playground's tokenizer: one token a word, a few hundred tokens, lossless on its own texts."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from heed.core.component import component
from heed.models.tokenizer import TokenizerRecipe
from heed.playground.language import PIECE, vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, END, USER, ASSISTANT = "<pad>", "<unk>", "<end>", "<user>", "<assistant>"


@component
class WordTokenizer(TokenizerRecipe):
    """One token for every piece of the playground's language, and five special ones.

    `<end>` ends documents and turns alike, so a student knows it before tuning. `<user>` and
    `<assistant>` stand in no document: tuning has to give them their meaning. A text outside the
    language becomes `<unk>`, and the proof before training refuses it.
    """

    def build(self) -> PreTrainedTokenizerFast:
        """The tokenizer in transformers' form; `decode` gives back the very text."""
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        words = {word: i for i, word in enumerate(_tokens())}
        tokenizer = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), behavior="isolated")
        tokenizer.decoder = decoders.Fuse()
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token=PAD,
            unk_token=UNKNOWN,
            eos_token=END,
            additional_special_tokens=[USER, ASSISTANT],
            clean_up_tokenization_spaces=False,
        )

    def digest(self) -> str:
        """Changes with the language."""
        return hashlib.sha256("\0".join((PIECE, *_tokens())).encode()).hexdigest()[:16]


def _tokens() -> tuple[str, ...]:
    return (PAD, UNKNOWN, END, USER, ASSISTANT, *vocabulary())

"""Properties of held-out text: bits add up, chunks lose nothing, n-grams are probabilities."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.component import component
from heed.core.errors import DataError
from heed.core.types import Answer, Example, Likelihood, Message
from heed.evaluation.heldout import HeldOut, cut
from heed.evaluation.ngrams import ngram_bits_per_byte, trigram, trigram_keys, unigram

WORDS = 30


@component
class Texts:
    """A corpus in memory."""

    texts: tuple[str, ...]
    name: str = "texts"

    def rows(self, on_bad=None):
        for i, text in enumerate(self.texts):
            yield Example(str(i), (Message("text", text),), self.name)

    def events(self):
        return {}

    def digest(self) -> str:
        return str(self.texts)


@given(st.text(alphabet="ab \nü", max_size=60), st.integers(1, 9))
def test_chunks_joined_are_the_text_and_none_is_too_long(text: str, chars: int):
    chunks = list(cut(text, chars))
    assert "".join(chunks) == text
    assert all(0 < len(chunk) <= chars for chunk in chunks)


def test_bits_per_byte_counts_bytes_not_characters():
    task = HeldOut(corpus=Texts(texts=("über",)), chunk_chars=10, chunks=5)
    (item,) = task.items()
    score = task.score("text", item, Answer("", 0, "stop", (Likelihood(10 * math.log(2), 2),)))
    assert score.metrics["bits_per_byte"] == pytest.approx((10, 5))
    assert "bits_per_byte" in task.lower_is_better


def test_chunks_are_taken_evenly_from_the_whole_text():
    task = HeldOut(corpus=Texts(texts=tuple(map(str, range(10)))), chunk_chars=5, chunks=5)
    assert [item.key for item in task.items()] == ["0/0", "2/0", "4/0", "6/0", "8/0"]
    assert task.digest() != HeldOut(corpus=task.corpus, chunk_chars=5, chunks=4).digest()


def test_a_corpus_without_text_is_refused():
    with pytest.raises(DataError, match="no text in its held-out part"):
        HeldOut(corpus=Texts(texts=()), chunk_chars=5, chunks=5).items()


@pytest.mark.parametrize("model", [unigram, trigram])
@pytest.mark.parametrize("context", [(WORDS, WORDS), (3, 7), (0, 0), (29, 28)])
def test_probabilities_after_any_context_sum_to_one(model, context: tuple[int, int]):
    text = np.random.default_rng(0).zipf(1.5, 3000) % (WORDS - 2)  # two tokens never occur
    counted = trigram_keys(text.tolist(), WORDS)
    size = WORDS + 1
    asked = (context[0] * size + context[1]) * size + np.arange(WORDS)
    found = model(counted, asked, WORDS)
    assert found.sum() == pytest.approx(1)
    assert (found > 0).all()


def test_the_unigram_model_is_about_as_good_as_the_entropy():
    letters = "".join(
        np.random.default_rng(0).choice(list("abcd"), 20_000, p=[0.5, 0.25, 0.125, 0.125])
    )
    found = ngram_bits_per_byte(
        [letters[:10_000]],
        [letters[10_000:]],
        encode=lambda s: [ord(c) - 97 for c in s],
        vocabulary=4,
    )
    assert found["unigram"] == pytest.approx(1.75, abs=0.02)
    assert found["trigram"] == pytest.approx(1.75, abs=0.02)  # nothing to learn from context


def test_the_trigram_model_learns_what_context_tells():
    found = ngram_bits_per_byte(
        ["abc" * 500], ["abc" * 50], encode=lambda s: [ord(c) - 97 for c in s], vocabulary=3
    )
    assert found["trigram"] < 0.1 < 1.5 < found["unigram"]


def test_references_count_the_training_text_in_the_students_tokens():
    class Letters:
        def encode(self, text: str, add_special_tokens: bool) -> list[int]:
            assert not add_special_tokens
            return [ord(c) - 97 for c in text]

        def __len__(self) -> int:
            return 3

    task = HeldOut(corpus=Texts(texts=("abc" * 20,)), chunk_chars=60, chunks=5)
    found = task.references(Texts(texts=("abc" * 200,)), Letters())
    assert found["trigram"] < found["unigram"] == pytest.approx(math.log2(3), abs=0.01)

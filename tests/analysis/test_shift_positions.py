"""Positions of real responses: equal to a plain transformers loop, whatever is held at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from heed.analysis.shift_numbers import ItemShift
from heed.analysis.shift_positions import Reader, Said, answers
from heed.core.errors import RunError
from heed.core.types import Item
from heed.models import likelihood
from heed.models.generate import generate
from heed.models.student import Loaded

ITEMS = [
    Item(str(i), text) for i, text in enumerate(["Name a fish.", "red", "Say blue and say why"])
]
ENGINE = {"max_new_tokens": 14, "batch_tokens": 4096, "max_rows": 8}
WHOLE = {"choice": "argmax", "shortlist": None, "framed": None}


@pytest.fixture(scope="module")
def pair(student) -> tuple[Loaded, Loaded]:
    """A base, and the same after its weights were moved; one of its answers ends by itself."""
    base, tuned = student.fresh(), student.fresh()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for weight in tuned.model.parameters():
            weight += 0.2 * torch.randn_like(weight)
    first = answers(tuned, ITEMS, lambda *_: None, **ENGINE)
    tuned.model.generation_config.eos_token_id = first[1].ids[8]
    return base, tuned


@pytest.fixture(scope="module")
def said(pair) -> list[Said]:
    return answers(pair[1], ITEMS, lambda *_: None, **ENGINE)


@pytest.fixture(scope="module")
def plain_pair(pair, tmp_path_factory) -> list:
    """Both as transformers itself reads them from disk."""
    read = []
    for name, loaded in zip(("base", "tuned"), pair, strict=True):
        path = tmp_path_factory.mktemp(name)
        loaded.model.save_pretrained(path)
        read.append(AutoModelForCausalLM.from_pretrained(path).eval())
    return read


def plain_loop(models: list, said: Said) -> dict[str, np.ndarray]:
    """One forward pass of each model over context and response, then a loop over positions."""
    ids, before = torch.tensor([said.context + said.ids]), len(said.context)
    with torch.no_grad():
        base, tuned = (m(input_ids=ids).logits[0].double().log_softmax(-1) for m in models)
    found: dict[str, list[float]] = {}
    for place, token in enumerate(said.ids):
        p, q = base[before + place - 1], tuned[before + place - 1]
        choice = int(q.argmax())
        row = {
            "choice": choice,
            "rank": int((p > p[choice]).sum()),
            "probability": p[choice].exp().item(),
            "kl_base_tuned": (p.exp() * (p - q)).sum().item(),
            "kl_tuned_base": (q.exp() * (q - p)).sum().item(),
            "nats_base": -p[token].item(),
            "nats_tuned": -q[token].item(),
        }
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in found.items()}


def test_rank_and_divergence_are_those_of_a_plain_transformers_loop(pair, said, plain_pair):
    reader, ranks = Reader(*pair, **WHOLE), []
    for one in said:
        found, expected = reader.read(one), plain_loop(plain_pair, one)
        for name, values in expected.items():
            exact = name in ("choice", "rank")
            assert getattr(found, name) == pytest.approx(values, abs=0 if exact else 1e-6), name
        ranks += expected["rank"].tolist()
    assert len(set(ranks)) > 3  # they really part


def test_the_students_own_answers_are_read_with_their_stop_token(pair, said):
    texts = dict(generate(pair[1], [pair[1].template.prompt(i.prompt) for i in ITEMS], **ENGINE))
    assert [one.item for one in said] == ITEMS
    assert {one.stop for one in said} == {"stop", "cap"}
    for place, one in enumerate(said):
        stopped = one.ids[-1] in pair[1].stop_ids
        text = pair[1].tokenizer.decode(one.ids[:-1] if stopped else one.ids)
        assert (text, one.stop, len(one.ids)) == (
            texts[place].text, texts[place].stop, texts[place].tokens
        )  # fmt: skip


def test_a_greedy_response_says_the_most_likely_token_at_each_position(pair, said):
    for one in said:
        found = Reader(*pair, **WHOLE).read(one)
        assert found.argmax == list(found.said) == one.ids


def test_the_base_never_leaves_itself(pair, said):
    found = Reader(pair[1], pair[1], **WHOLE).read(said[0])
    assert not found.rank.any()
    assert not found.kl_base_tuned.any()
    assert (found.nats_base == found.nats_tuned).all()


def numbers(found: ItemShift) -> np.ndarray:
    names = ("rank", "probability", "kl_base_tuned", "kl_tuned_base", "nats_base", "nats_tuned")
    return np.stack([getattr(found, name) for name in names])


@pytest.mark.parametrize("at_once", [1, 8 * 300, 24 * 300])
def test_positions_in_pieces_are_those_in_one(pair, said, monkeypatch, at_once: int):
    whole = numbers(Reader(*pair, **WHOLE).read(said[0]))
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", at_once)
    assert numbers(Reader(*pair, **WHOLE).read(said[0])) == pytest.approx(whole, abs=1e-6)


def test_reading_leaves_both_students_in_the_mode_they_were_in(pair, said):
    base, tuned = (loaded.model for loaded in pair)
    base.train()
    tuned.eval()
    Reader(*pair, **WHOLE).read(said[0])
    assert base.training
    assert not tuned.training


def test_a_student_in_training_mode_is_read_without_dropout(pair, said, student):
    still, dropping = student.fresh(), student.fresh()
    for layer in dropping.model.model.layers:
        layer.self_attn.attention_dropout = 0.9
    dropping.model.train()
    found = [numbers(Reader(base, pair[1], **WHOLE).read(said[0])) for base in (still, dropping)]
    assert (found[0] == found[1]).all()


def test_another_context_for_the_base_moves_the_base_alone(pair, said):
    same = Reader(*pair, **WHOLE).read(said[0])
    framed = Reader(*pair, **(WHOLE | {"framed": "# {prompt} ="})).read(said[0])
    assert (framed.nats_tuned == same.nats_tuned).all()
    assert (framed.nats_base != same.nats_base).any()
    own = pair[1].template.prompt("{prompt}").removeprefix(pair[1].template.begin)
    again = Reader(*pair, **(WHOLE | {"framed": own})).read(said[0])
    assert numbers(again) == pytest.approx(numbers(same), abs=1e-6)


def test_an_emitted_token_that_is_not_the_argmax_is_looked_up_when_asked(pair, said):
    other = said[0]._replace(ids=[t + 1 for t in said[0].ids[:4]], stop="cap")
    found = Reader(*pair, **(WHOLE | {"choice": "emitted"})).read(other)
    assert found.choice == other.ids
    assert found.argmax != other.ids
    assert found.probability == pytest.approx(np.exp(-found.nats_base))


def test_lists_of_the_most_likely_tokens_bound_the_rank(pair, said):
    found = Reader(*pair, **(WHOLE | {"shortlist": (2, True)})).read(said[0])
    assert set(found.rank) <= {0, 1, 2}
    assert (found.probability[found.rank == 2] == 0).all()


def test_what_tokens_spell_is_the_response(pair, said):
    for one in said:
        found = Reader(*pair, **WHOLE).read(one)
        if "\ufffd" not in "".join(found.texts):  # bytes that spell a character together only
            assert "".join(found.texts) == pair[1].tokenizer.decode(one.ids)


def test_students_of_different_tokens_are_refused(pair, student):
    other = student.fresh()
    other.tokenizer.add_tokens(["<new>"])
    with pytest.raises(RunError, match=r"token '<new>' has id \d+ in the base and None"):
        Reader(other, pair[1], **WHOLE)
    wider = student.fresh()
    wider.model.resize_token_embeddings(320, mean_resizing=False)
    with pytest.raises(RunError, match="300 tokens, and the tuned student of 320"):
        Reader(pair[0], wider, **WHOLE)


def test_a_context_that_the_base_cannot_hold_is_refused(pair, said):
    with pytest.raises(RunError, match="256 positions"):
        Reader(*pair, **(WHOLE | {"framed": 300 * "word {prompt}"})).read(said[0])


def test_a_response_that_was_cut_is_read_to_its_last_token(pair, said):
    cut = replace_ids(said[0], said[0].ids[:3])
    found = Reader(*pair, **WHOLE).read(cut)
    whole = Reader(*pair, **WHOLE).read(said[0])
    assert numbers(found) == pytest.approx(numbers(whole)[:, :3], abs=1e-6)


def replace_ids(said: Said, ids: list[int]) -> Said:
    return said._replace(ids=ids, stop="cap")


def test_a_tokenizer_that_drops_leading_blanks_still_spells_them(pair):
    class Dropping:
        """Decodes as SentencePiece does: the blank before the first word is not written."""

        words = ("a", " b", " c")

        def encode(self, text, add_special_tokens):
            return [0]

        def decode(self, ids, **_):
            return "".join(self.words[i] for i in ids).lstrip()

        def get_vocab(self):
            return {}

    ours = [replace(s, tokenizer=Dropping()) for s in pair]
    assert [Reader(*ours, **WHOLE).text_of(i) for i in (0, 1, 2)] == ["a", " b", " c"]

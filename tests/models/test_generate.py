"""Properties of greedy generation: batching changes the speed, never the texts."""

from types import SimpleNamespace

import pytest
import torch

from heed.core.errors import DataError, RunError
from heed.models.generate import generate, left_padded
from heed.models.student import Loaded

WORDS = 40
END = WORDS - 1


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    """A tiny random Llama whose logits are spread as if trained, over words that are numbers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({f"w{i}": i for i in range(WORDS)}, unk_token="w0"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token=f"w{END}", pad_token="w1")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
        initializer_range=0.3, bos_token_id=None, eos_token_id=END, pad_token_id=1,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    template = SimpleNamespace(end_of_turn=f"w{END}")
    return Loaded("tiny", model, tokenizer, template, "")


def prompts(count: int) -> list[str]:
    draw = torch.Generator().manual_seed(count)
    lengths = torch.randint(1, 20, (count,), generator=draw).tolist()
    return [" ".join(f"w{i}" for i in torch.randint(2, END, (n,), generator=draw)) for n in lengths]


def alone(loaded: Loaded, prompt: str, cap: int) -> list[int]:
    """Greedy decoding of one prompt without cache or padding."""
    ids = loaded.tokenizer.encode(prompt)
    start = len(ids)
    while len(ids) - start < cap and (len(ids) == start or ids[-1] != END):
        with torch.no_grad():
            ids.append(int(loaded.model.eval()(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[start:]


@pytest.fixture(scope="module")
def expected(loaded: Loaded) -> list[list[int]]:
    return [alone(loaded, prompt, 24) for prompt in prompts(24)]


@pytest.mark.parametrize("batch_tokens", [1, 100, 100_000])
def test_batched_texts_are_those_of_one_prompt_at_a_time(
    loaded: Loaded, expected: list[list[int]], batch_tokens: int
):
    answers = generate(loaded, prompts(24), max_new_tokens=24, batch_tokens=batch_tokens)
    texts = [loaded.tokenizer.decode([i for i in ids if i != END]) for ids in expected]
    assert [answer.text for answer in answers] == texts
    assert [answer.tokens for answer in answers] == [len(ids) for ids in expected]
    ends = ["stop" if ids[-1] == END else "cap" for ids in expected]
    assert [answer.stop for answer in answers] == ends
    assert {"stop", "cap"} == set(ends)  # both ways of ending are exercised


def test_the_order_of_prompts_does_not_change_an_answer(loaded: Loaded):
    asked = prompts(20)
    there = generate(loaded, asked, max_new_tokens=8, batch_tokens=200)
    back = generate(loaded, asked[::-1], max_new_tokens=8, batch_tokens=200)
    assert there == back[::-1]


def test_no_batch_exceeds_its_budget(loaded: Loaded, monkeypatch):
    sizes = []
    forward = loaded.model.forward

    def watched(**inputs):
        sizes.append(inputs["attention_mask"].shape)
        return forward(**inputs)

    monkeypatch.setattr(loaded.model, "forward", watched)
    generate(loaded, prompts(30), max_new_tokens=10, batch_tokens=90)
    assert max(rows * columns for rows, columns in sizes) <= 90


def test_no_prompts_give_no_answers(loaded: Loaded):
    assert generate(loaded, [], max_new_tokens=4, batch_tokens=100) == []


def test_progress_counts_every_prompt_once(loaded: Loaded):
    told: list[tuple[int, int]] = []
    generate(loaded, prompts(7), max_new_tokens=5, batch_tokens=60,
             on_progress=lambda done, total: told.append((done, total)))  # fmt: skip
    assert told == [(done, 7) for done in range(1, 8)]


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_in_the_mode_it_was_in(loaded: Loaded, training: bool):
    loaded.model.train(training)
    generate(loaded, prompts(2), max_new_tokens=2, batch_tokens=100)
    assert loaded.model.training is training


def test_a_prompt_that_does_not_fit_is_refused_and_counted(loaded: Loaded):
    long = " ".join(["w5"] * 60)
    with pytest.raises(RunError, match=r"1 of 2 prompts do not fit: the longest has 60.*64 posit"):
        generate(loaded, ["w5", long], max_new_tokens=5, batch_tokens=100)


def test_an_empty_prompt_is_refused(loaded: Loaded):
    with pytest.raises(DataError, match="nothing to continue"):
        generate(loaded, [""], max_new_tokens=5, batch_tokens=100)


def test_padding_stands_on_the_left():
    ids, mask = left_padded([[4, 5, 6], [7]], 0, "cpu")
    assert ids.tolist() == [[4, 5, 6], [0, 0, 7]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]

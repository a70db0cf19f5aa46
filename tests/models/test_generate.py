"""Properties of greedy generation: batching changes the speed, never the texts."""

import weakref
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from heed.core.errors import DataError, RunError
from heed.core.types import Answer
from heed.models.generate import generate, left_padded
from heed.models.sampling import Sampling, Ways
from heed.models.slots import Slots
from heed.models.student import Loaded

WORDS = 40
END = WORDS - 1
SHAPE = {
    "vocab_size": WORDS, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "initializer_range": 0.3, "bos_token_id": None, "eos_token_id": END, "pad_token_id": 1,
}  # fmt: skip
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
OPT = {"ffn_dim": 64, "word_embed_proj_dim": 32, "init_std": 0.3}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen2": {},
    "Mistral": {"sliding_window": 6},
    "Gemma2": {"sliding_window": 6, "head_dim": 8, "query_pre_attn_scalar": 8},  # capped logits
    "GPT2": GPT2,  # learned positions
    "OPT": OPT,  # positions counted from the mask
    "GPTNeoX": {},
    "Bloom": {"n_layer": 2, "n_head": 4},  # no positions, a bias by distance
}


def student(name: str) -> Loaded:
    """A tiny random model whose logits are spread as if trained, over words that are numbers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({f"w{i:02}": i for i in range(WORDS)}, unk_token="w00"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.decoder = decoders.Fuse()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=f"w{END}", pad_token="w01"
    )
    torch.manual_seed(0)
    shape = {**SHAPE, **ARCHITECTURES[name]}
    if name == "GPT2":  # its config has names of its own
        shape = {
            k: v for k, v in shape.items() if not k.startswith(("hidden", "num", "inter", "max"))
        }
    config = getattr(transformers, f"{name}Config")(**shape)
    kind = {"GPT2": "GPT2LMHeadModel"}.get(name, f"{name}ForCausalLM")
    model = getattr(transformers, kind)(config)
    return Loaded("tiny", model, tokenizer, SimpleNamespace(end_of_turn=f"w{END}"), "")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def loaded(request) -> Loaded:
    return student(request.param)


@pytest.fixture(scope="module")
def llama() -> Loaded:
    return student("Llama")


def prompts(count: int) -> list[str]:
    draw = torch.Generator().manual_seed(count)
    lengths = torch.randint(1, 20, (count,), generator=draw).tolist()
    return [
        " ".join(f"w{i:02}" for i in torch.randint(2, END, (n,), generator=draw)) for n in lengths
    ]


def answers(
    loaded: Loaded, asked: list[str], cap: int, batch_tokens: int = 10_000, max_rows: int = 64
) -> list[Answer]:
    """All answers in the order of the prompts; each place is yielded once."""
    found = list(
        generate(loaded, asked, max_new_tokens=cap, batch_tokens=batch_tokens, max_rows=max_rows)
    )
    assert sorted(place for place, _ in found) == list(range(len(asked)))
    return [answer for _, answer in sorted(found)]


def alone(loaded: Loaded, prompt: str, cap: int) -> list[int]:
    """Greedy decoding of one prompt without cache or padding."""
    ids = loaded.tokenizer.encode(prompt)
    start = len(ids)
    while len(ids) - start < cap and (len(ids) == start or ids[-1] not in loaded.stop_ids):
        with torch.no_grad():
            ids.append(int(loaded.model.eval()(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[start:]


@pytest.fixture(scope="module")
def expected(loaded: Loaded) -> tuple[tuple[int, ...], list[Answer]]:
    """Tokens that stop this student, and what it says to one prompt at a time."""
    free = [alone(loaded, p, 20) for p in prompts(24)]
    said_by = {t: sum(t in ids for ids in free) for t in range(WORDS)}
    stops = (END, min(said_by, key=lambda t: abs(said_by[t] - 12)))  # half of the texts say it
    cut = [next((i + 1 for i, t in enumerate(ids) if t in stops), len(ids)) for ids in free]
    return stops, [
        Answer(
            loaded.tokenizer.decode([t for t in ids[:n] if t not in stops]),
            n,
            "stop" if ids[n - 1] in stops else "cap",
        )
        for ids, n in zip(free, cut, strict=True)
    ]


@pytest.mark.parametrize(("batch_tokens", "rows"), [(1, 64), (500, 64), (9_999, 5), (9_999, 64)])
def test_every_architecture_says_what_it_says_to_one_prompt_at_a_time(
    loaded: Loaded, expected, batch_tokens: int, rows: int, monkeypatch
):
    stops, said = expected
    monkeypatch.setattr(Loaded, "stop_ids", property(lambda _: stops))
    assert {a.stop for a in said} == {"stop", "cap"}  # both ways of ending are exercised
    assert answers(loaded, prompts(24), 20, batch_tokens, rows) == said


@settings(max_examples=12)
@given(
    st.integers(2, 25),
    st.integers(1, 12),
    st.integers(1, 900),
    st.integers(1, 9),
)
def test_no_setting_of_speed_changes_a_text(
    llama: Loaded, count: int, cap: int, batch_tokens: int, rows: int
):
    one = answers(llama, prompts(count), cap, batch_tokens=1)
    assert answers(llama, prompts(count), cap, batch_tokens, rows) == one


def test_the_order_of_prompts_does_not_change_an_answer(llama: Loaded):
    asked = prompts(20)
    assert answers(llama, asked, 8, 200) == answers(llama, asked[::-1], 8, 200)[::-1]


@pytest.mark.parametrize("budget", [900, 2000, 4000])
def test_keys_and_values_stay_within_their_budget(llama: Loaded, monkeypatch, budget: int):
    held, made = [], []
    forward, begin = llama.model.forward, Slots.__init__

    def watched(**inputs):
        out = forward(**inputs)
        alive = [cache for ref in made if (cache := ref()) is not None and cache.filled]
        held.append(sum(len(c.filled[0].keys) * c.capacity for c in alive))
        return out

    def noted(cache, model):
        begin(cache, model)
        made.append(weakref.ref(cache))

    monkeypatch.setattr(llama.model, "forward", watched)
    monkeypatch.setattr(Slots, "__init__", noted)
    answers(llama, prompts(40), 30, batch_tokens=budget)
    assert budget / 8 < max(held) <= budget


def test_no_more_rows_than_asked_for_are_decoded_together(llama: Loaded, monkeypatch):
    rows = []
    forward = llama.model.forward
    monkeypatch.setattr(
        llama.model,
        "forward",
        lambda **inputs: (rows.append(len(inputs["input_ids"])), forward(**inputs))[1],
    )
    answers(llama, prompts(30), 10, max_rows=7)
    assert max(rows) == 7


def test_a_model_whose_positions_depend_on_the_longest_row_is_asked_one_by_one():
    """With longrope the library scales all rows alike once one of them is long."""
    rope = {
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4, "original_max_position_embeddings": 16,
    }  # fmt: skip
    config = transformers.Phi3Config(
        **SHAPE, original_max_position_embeddings=16, rope_parameters=rope
    )
    torch.manual_seed(0)
    model = transformers.Phi3ForCausalLM(config)
    phi = replace(student("Llama"), model=model)
    one = [answers(phi, [p], 12)[0] for p in prompts(12)]
    assert answers(phi, prompts(12), 12) == one


def test_a_model_that_keeps_nothing_in_the_cache_is_refused():
    shape = {k: v for k, v in SHAPE.items() if not k.startswith(("hid", "num", "inter", "max"))}
    torch.manual_seed(0)
    model = transformers.OpenAIGPTLMHeadModel(transformers.OpenAIGPTConfig(**shape, **GPT2))
    with pytest.raises(RunError, match=r"OpenAIGPTLMHeadModel keeps .*backend=vllm"):
        answers(replace(student("Llama"), model=model), prompts(2), 3)


def test_a_finished_row_makes_room_at_once(llama: Loaded, monkeypatch):
    """Steps are far fewer than batches that wait for their last row would need."""
    lengths = [len(alone(llama, p, 40)) for p in prompts(24)]
    assert min(lengths) < 10
    steps = []
    forward = llama.model.forward
    monkeypatch.setattr(
        llama.model, "forward", lambda **inputs: (steps.append(1), forward(**inputs))[1]
    )
    answers(llama, prompts(24), 40, max_rows=4)
    order = sorted(range(24), key=lambda i: -len(llama.tokenizer.encode(prompts(24)[i])))
    waiting = sum(max(lengths[i] for i in order[k : k + 4]) for k in range(0, 24, 4))
    assert len(steps) < waiting


def test_every_end_of_text_of_the_generation_config_stops(llama: Loaded, monkeypatch):
    said = alone(llama, prompts(3)[0], 6)
    assert END not in said
    monkeypatch.setattr(llama.model.generation_config, "eos_token_id", [END, said[2]])
    assert said[2] in llama.stop_ids
    (answer,) = answers(llama, prompts(3)[:1], 6)
    assert answer.stop == "stop"
    assert answer.tokens == said.index(said[2]) + 1


def test_no_prompts_give_no_answers(llama: Loaded):
    assert answers(llama, [], 4) == []


def test_answers_come_as_they_finish(llama: Loaded, monkeypatch):
    """A reader may keep each before the next is made: nothing is lost when the process dies."""
    calls = []
    forward = llama.model.forward
    monkeypatch.setattr(
        llama.model, "forward", lambda **inputs: (calls.append(1), forward(**inputs))[1]
    )
    said = generate(llama, prompts(12), max_new_tokens=8, batch_tokens=1, max_rows=1)
    next(said)
    first = len(calls)
    assert len(list(said)) == 11
    assert first < len(calls) / 2


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_in_the_mode_it_was_in(llama: Loaded, training: bool):
    llama.model.train(training)
    answers(llama, prompts(2), 2)
    assert llama.model.training is training


def test_a_reader_between_two_answers_may_train(llama: Loaded):
    for _ in generate(llama, prompts(3), max_new_tokens=3, batch_tokens=1, max_rows=1):
        assert not torch.is_inference_mode_enabled()


def test_a_prompt_that_does_not_fit_is_refused_and_counted(llama: Loaded):
    long = " ".join(["w05"] * 60)
    with pytest.raises(RunError, match=r"1 of 2 prompts do not fit: the longest has 60.*64 posit"):
        answers(llama, ["w05", long], 5)


def test_an_empty_prompt_is_refused(llama: Loaded):
    with pytest.raises(DataError, match="nothing to continue"):
        answers(llama, [""], 5)


def test_padding_stands_on_the_left():
    ids, mask = left_padded([[4, 5, 6], [7]], 0, "cpu")
    assert ids.tolist() == [[4, 5, 6], [0, 0, 7]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]


def lettered(name: str = "Llama") -> Loaded:
    """A student most of whose words are one character of a fence, a line end or a letter."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    made = student(name)
    words = {text: i for i, text in enumerate(["\n", "`", "``", "\n`", "a", "b`", "```"])}
    words |= {f"w{i:02}": i for i in range(len(words), WORDS)}
    spelt = Tokenizer(models.WordLevel(words, unk_token="w30"))
    spelt.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    spelt.decoder = decoders.Fuse()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=spelt, eos_token=f"w{END}", pad_token="w08"
    )
    with torch.no_grad():  # it says little else
        made.model.lm_head.weight[len(words) // 4 :] *= 0.3
    return replace(made, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def fenced() -> Loaded:
    return lettered()


def fence_at(loaded: Loaded, ids: list[int]) -> int | None:
    """Number of tokens after which a line has begun with a fence, read from the start each time."""
    for count in range(1, len(ids) + 1):
        text = loaded.tokenizer.decode(ids[:count])
        if any(line.startswith("```") for line in text.split("\n")):
            return count
    return None


@pytest.mark.parametrize(("batch_tokens", "rows"), [(1, 64), (9_999, 5), (9_999, 64)])
def test_an_answer_ends_with_the_line_that_it_is_told_to_end_with(fenced, batch_tokens, rows):
    asked, cap = prompts(40), 24
    found = dict(
        generate(
            fenced, asked, max_new_tokens=cap, batch_tokens=batch_tokens, max_rows=rows,
            ways=Ways(last_line="```"),
        )
    )  # fmt: skip
    ended = 0
    for place, prompt in enumerate(asked):
        ids = alone(fenced, prompt, cap)
        count = fence_at(fenced, ids) or len(ids)
        text = fenced.tokenizer.decode([i for i in ids[:count] if i != END])
        stop = "stop" if count < cap or ids[count - 1] == END else "cap"
        assert found[place] == Answer(text, count, stop)
        ended += count < len(ids)
    assert 5 <= ended <= 35, "the students' answers show both"


def test_without_a_last_line_a_fence_ends_nothing(fenced):
    asked = prompts(40)
    found = answers(fenced, asked, 24)
    assert [a.tokens for a in found] == [len(alone(fenced, p, 24)) for p in asked]


DRAWN = Sampling(temperature=0.9, top_p=0.95, seed=3)


def drawn(loaded: Loaded, asked: list[str], rows: int, sampling: Sampling = DRAWN) -> list[str]:
    """What is drawn for each prompt, many at a time."""
    caps = {"max_new_tokens": 12, "batch_tokens": 9_999, "max_rows": rows}
    said = dict(generate(loaded, asked, **caps, ways=Ways(sampling=sampling)))
    return [str(said[place].text) for place in range(len(asked))]


@settings(max_examples=12)
@given(st.integers(2, 20), st.integers(2, 30), st.randoms(use_true_random=False))
def test_a_drawn_text_hangs_on_its_prompt_and_seed_alone(llama: Loaded, count, rows, random):
    asked = prompts(count)
    alone = [drawn(llama, [prompt], 1)[0] for prompt in asked]
    order = random.sample(range(count), count)
    assert drawn(llama, [asked[i] for i in order], rows) == [alone[i] for i in order]


@pytest.mark.parametrize("name", ["Gemma2", "GPT2"])
def test_every_architecture_draws_alike_alone_and_beside_others(name: str):
    loaded, asked = student(name), prompts(9)
    assert drawn(loaded, asked, 9) == [drawn(loaded, [prompt], 1)[0] for prompt in asked]


def test_another_seed_or_number_draws_another_text(llama: Loaded):
    asked = prompts(8)
    said = [
        drawn(llama, asked, 8, sampling)
        for sampling in (DRAWN, replace(DRAWN, seed=4), DRAWN.numbered(1))
    ]
    assert all(one != two for i, one in enumerate(said) for two in said[:i])


def test_a_cold_draw_is_the_likeliest_text(llama: Loaded):
    asked = prompts(8)
    cold = replace(DRAWN, temperature=1e-4, top_p=1.0)
    assert drawn(llama, asked, 8, cold) == [str(a.text) for a in answers(llama, asked, 12)]

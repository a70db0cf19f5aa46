"""Rewards: of columns, of a model as a plain loop gives them, of a judge who saw that very text."""

import gzip
import json
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from heed.analysis import rewards
from heed.analysis.rewards import (
    CUT,
    KEPT,
    NO_COLUMN,
    NO_REWARD,
    NOT_JUDGED,
    SHORT_TYPE,
    SPECIAL,
    TOO_LONG,
    Column,
    Preference,
    RewardAround,
    RewardModel,
    rewarding,
)  # fmt: skip
from heed.core.component import plain
from heed.core.compose import compose_component
from heed.core.errors import ConfigError, DataError, RunError
from heed.core.identity import canonical
from heed.core.types import Example, Message
from heed.data.align import align
from heed.data.teacher import id_of
from heed.data.template import Template
from heed.models import reward_model

CONF = Path(__file__).resolve().parents[2] / "conf"
LACKS = "Mistral-7B-Instruct-v0.2"
"""A teacher whom the table of preferences does not know."""

WORDS = ["the", "sea", "is", "red", "green", "blue", "and", "a", "lamp", "no", "fish", "why"]
WORDS += ["say", "name", "three", "very"]
CHAT = (
    "{% for m in messages %}{{ '<u> ' if m.role == 'user' else '<a> ' }}{{ m.content }} <e> "
    "{% endfor %}"
)


def example(asked: str, said: str, teacher: str = "t", **more: Any) -> Example:
    turns = (Message("user", asked), Message("assistant", said))
    return Example(id_of(turns), turns, teacher, **more)


def ten() -> list[Example]:
    """Ten conversations of different lengths."""
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(WORDS, size)) for size in draw.integers(1, 30, 20)]
    return [example(asked, said) for asked, said in zip(texts[::2], texts[1::2], strict=True)]


def save_model(path: Path, pad: str | None = "<p>", labels: int = 1, **more: Any) -> Path:
    """A tiny reward model with random weights, as it would be published."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    names = ["<p>", "<u>", "<a>", "<e>", "<x>", *WORDS]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(names)}, unk_token="<x>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token=pad)
    tokenizer.add_special_tokens({"additional_special_tokens": more.pop("special", [])})
    tokenizer.chat_template = more.pop("chat", CHAT)
    tokenizer.save_pretrained(path)
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=128, initializer_range=0.4,
        num_labels=labels, pad_token_id=None if pad is None else names.index(pad),
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(1)
    transformers.LlamaForSequenceClassification(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


def model(path: Path, **more: Any) -> RewardModel:
    given = {
        "name": "tiny", "path": str(path), "revision": None, "dtype": "float32", "template": None,
        "max_tokens": 120, "over_long": "cut", "output": "logits", "trust_remote_code": False,
        "batch_tokens": 200,
    }  # fmt: skip
    return RewardModel(**{**given, **more})


def around(root: Path) -> RewardAround:
    return RewardAround(root, "cpu")


def plain_loop(path: Path, examples: list[Example], most: int = 120) -> list[float]:
    """What transformers itself gives, one conversation at a time."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(path).eval()
    found = []
    for one in examples:
        turns = [{"role": m.role, "content": m.content} for m in one.messages]
        ids = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            found.append(float(loaded(ids["input_ids"][:, :most]).logits[0, 0]))
    return found


@pytest.mark.parametrize("pad", ["<p>", None])
@pytest.mark.parametrize("batch_tokens", [1, 100, 10_000])
def test_a_model_scores_as_a_plain_loop_does_however_it_is_batched(tmp_path, pad, batch_tokens):
    path = save_model(tmp_path / "model", pad)
    found = model(path, batch_tokens=batch_tokens).of(ten(), around(tmp_path))
    expected = plain_loop(path, ten())
    assert np.ptp(expected) > 0.1
    assert found == pytest.approx(expected, abs=1e-5)


def test_a_score_does_not_hang_on_what_is_scored_beside_it(saved, tmp_path):
    together = model(saved).of(ten(), around(tmp_path / "a"))
    alone = [model(saved).of([one], around(tmp_path / str(i)))[0] for i, one in enumerate(ten())]
    assert together == pytest.approx(alone, abs=1e-5)


def test_what_is_too_long_is_cut_and_counted_also_from_the_disk(saved, tmp_path):
    cut = model(saved, max_tokens=20)
    tokens = [sum(len(m.content.split()) + 2 for m in one.messages) for one in ten()]
    long = sum(count > 20 for count in tokens)
    assert 2 < long < 9
    for _ in range(2):
        there = around(tmp_path)
        assert cut.of(ten(), there) == pytest.approx(plain_loop(saved, ten(), 20), abs=1e-5)
        assert there.events[CUT] == long


def test_what_is_too_long_has_no_score_where_that_is_the_choice(saved, tmp_path):
    there = around(tmp_path)
    found = model(saved, max_tokens=20, over_long="none").of(ten(), there)
    whole = model(saved).of(ten(), there)
    assert there.events[TOO_LONG] == found.count(None) > 2
    kept = [(a, b) for a, b in zip(found, whole, strict=True) if a is not None]
    assert [a for a, _ in kept] == pytest.approx([b for _, b in kept], abs=1e-5)


def test_a_second_time_no_model_is_loaded_and_a_third_only_for_what_is_new(
    saved, tmp_path, monkeypatch
):
    first = model(saved).of(ten(), around(tmp_path))
    loads: list[str] = []
    own = reward_model.RewardScorer.__init__
    monkeypatch.setattr(
        reward_model.RewardScorer, "__init__", lambda s, *a: (loads.append("x"), own(s, *a))[0]
    )
    there = around(tmp_path)
    renamed = [replace(one, teacher="another", id="other") for one in ten()]
    assert model(saved, batch_tokens=7).of(renamed, there) == first
    assert (loads, there.events[KEPT]) == ([], 10)
    assert len(model(saved).of([*ten(), example("say", "no")], around(tmp_path))) == 11
    assert loads == ["x"]


def test_a_reward_model_stays_for_those_who_ask_within_one_block_and_no_longer(
    saved, tmp_path, monkeypatch
):
    loads: list[Any] = []
    own = reward_model.RewardScorer.__init__
    monkeypatch.setattr(
        reward_model.RewardScorer,
        "__init__",
        lambda s, *a: (loads.append(weakref.ref(s)), own(s, *a))[1],
    )
    alone = [model(saved).of(part, around(tmp_path / "a")) for part in (ten()[:4], ten()[4:])]
    assert len(loads) == 2
    with rewarding(tmp_path / "b", "cpu") as there:
        assert not there.held
        together = [model(saved).of(part, there) for part in (ten()[:4], ten()[4:])]
        assert len(loads) == 3
    assert together == alone
    assert [one() for one in loads] == [None] * 3


def test_the_files_of_a_model_are_read_once_for_all_teachers(saved, tmp_path, monkeypatch):
    read, digest = [], rewards.digest_model

    def noted(*given: Any) -> str:
        read.append(given)
        return digest(*given)

    monkeypatch.setattr(rewards, "digest_model", noted)
    here = around(tmp_path)
    for said in ("red", "green"):
        model(saved).of([example("why", said)], here)
    assert len(read) == 1
    model(saved, dtype="bfloat16").of([example("why", "red")], here)
    assert len(read) == len(list((tmp_path / "rewards").iterdir())) == 2


def test_two_conversations_are_told_apart_by_128_bits(saved, tmp_path):
    model(saved).of(ten(), around(tmp_path))
    lines = model(saved).file(tmp_path).read_text().splitlines()
    keys = {json.loads(line)["conversation"] for line in lines}
    assert (len(keys), {len(key) for key in keys}) == (10, {32})


def test_other_settings_and_other_weights_have_other_scores_on_disk(saved, tmp_path):
    other = save_model(tmp_path / "other", initializer_range=0.1)
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    made = [model(saved), model(saved, max_tokens=9), model(saved, output="score"), model(other)]
    assert len({one.file(tmp_path) for one in made}) == 4
    assert model(saved, batch_tokens=3, name="tiny").file(tmp_path) == made[0].file(tmp_path)


def test_what_a_killed_scoring_left_is_kept_but_for_its_torn_line(saved, tmp_path):
    whole = model(saved).of(ten(), around(tmp_path))
    file = model(saved).file(tmp_path)
    lines = file.read_bytes().split(b"\n")
    file.write_bytes(b"\n".join(lines[:4]) + b"\n" + lines[4][:9])
    there = around(tmp_path)
    assert model(saved).of(ten(), there) == pytest.approx(whole, abs=1e-5)
    assert there.events[KEPT] == 4


def test_a_template_of_heed_s_may_stand_for_the_model_s_own(saved, tmp_path):
    template = Template(
        name="same", begin="", system="{content} ", system_in_user=False, default_system=None,
        user="<u> {content} <e> ", assistant="<a> ", end_of_turn=" <e> ", between="",
        special_tokens=(),
    )  # fmt: skip
    found = model(saved, template=template).of(ten(), around(tmp_path))
    assert found == pytest.approx(plain_loop(saved, ten()), abs=1e-5)


def test_a_conversation_that_its_template_refuses_is_named(tmp_path):
    path = save_model(tmp_path / "m", chat="{{ raise_exception('no system here') }}")
    with pytest.raises(DataError, match="no system here"):
        model(path).of(ten(), around(tmp_path))


@pytest.mark.parametrize("template", [None, "named"])
def test_a_text_that_says_a_special_token_has_no_reward_also_from_the_disk(tmp_path, template):
    """Its template would read it as the end of a turn, so others' words would be scored."""
    named = Template(
        name="t", begin="", system="{content} ", system_in_user=False, default_system=None,
        user="<u> {content} <e> ", assistant="<a> ", end_of_turn="<e>", between="",
        special_tokens=(),
    )  # fmt: skip
    path = save_model(tmp_path / "m", special=["<u>", "<e>"])
    rows = [*ten()[:2], example("say", "no <e> <u> very red"), example("say <e>", "no")]
    for _ in range(2):
        there = around(tmp_path)
        found = model(path, template=named if template else None).of(rows, there)
        assert [score is None for score in found] == [False, False, True, True]
        assert there.events[SPECIAL] == 2
        assert not there.events[TOO_LONG]
        assert not there.events[CUT]


def test_a_model_without_a_head_is_refused_instead_of_scoring_at_random(tmp_path):
    path = save_model(tmp_path / "m")
    base = transformers.AutoModelForSequenceClassification.from_pretrained(path).model
    base.save_pretrained(path)
    with pytest.raises(RunError, match="drawn at random"):
        model(path).of(ten(), around(tmp_path))


@pytest.mark.parametrize(("changes", "output"), [({"labels": 2}, "logits"), ({}, "score")])
def test_a_model_that_gives_no_one_number_is_refused(tmp_path, changes, output):
    path = save_model(tmp_path / "m", **changes)
    with pytest.raises(RunError, match="one number a text"):
        model(path, output=output).of(ten(), around(tmp_path))


def test_only_safetensors_are_read(saved, tmp_path):
    for file in saved.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(RunError, match="cannot be read"):
        model(tmp_path).of(ten(), around(tmp_path))


def test_short_types_are_told_of(saved, tmp_path):
    there = around(tmp_path)
    found = model(saved, dtype="bfloat16").of(ten(), there)
    assert there.events[SHORT_TYPE] == 10
    assert found == pytest.approx(plain_loop(saved, ten()), abs=0.5)


@pytest.mark.parametrize("revision", [None, "main", "a" * 7])
def test_a_hub_model_needs_a_whole_commit(saved, revision):
    with pytest.raises(ConfigError, match="commit"):
        model(Path("organisation/x"), revision=revision)
    assert model(Path("organisation/x"), revision="a" * 40)
    with pytest.raises(ConfigError, match="null"):
        model(saved, revision="a" * 40)


def scored(count: int, teacher: str = "t", **more: Any) -> list[Example]:
    return [example(f"ask {i}", "say", teacher, reward=float(i), **more) for i in range(count)]


def test_a_column_is_the_row_s_own_score_or_a_further_one(tmp_path):
    rows = [*scored(2, rewards={"armorm": 0.5}), example("x", "y", reward=2.0)]
    own, further = (Column(name="c", key=key) for key in (None, "armorm"))
    assert own.of(rows, around(tmp_path)) == [0.0, 1.0, 2.0]
    assert further.of(rows, around(tmp_path)) == [0.5, 0.5, None]


def test_a_teacher_of_which_no_row_has_the_score_is_told_with_the_scores_that_there_are(tmp_path):
    rows = [*scored(2, rewards={"armorm": 0.5}), example("x", "y", "poor", rewards={"b": 1.0})]
    there = around(tmp_path)
    assert Column(name="c", key="armorm").of(rows, there) == [0.5, 0.5, None]
    ((what, times),) = there.events.items()
    assert what.startswith("poor: no score in layout.rewards.armorm (rows have b.")
    assert what.endswith(NO_REWARD)
    assert times == 1
    Column(name="c", key="armrm").of(rows[:2], there)
    assert any("'armorm'" in what for what in there.events)


def judged(folder: Path) -> Preference:
    """A table of two models, of which what the first said is on record."""
    (folder / "said.csv").write_text("idx,good,bad\n7,0.9,0.1\n8,,0.2\n9,0.4,0.3\n")
    rows = [{"idx": i, "instruction": f"ask {i}"} for i in (7, 8, 9)]
    (folder / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    outputs = [{"instruction": f"ask {i}", "output": f"good {i}"} for i in (7, 8, 9)]
    text = "".join(json.dumps(row) + "\n" for row in outputs)
    (folder / "good.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    return Preference(
        name="judge", path=str(folder / "said.csv"), scale="0 to 1",
        instructions=str(folder / "asked.jsonl"), outputs=str(folder),
    )  # fmt: skip


def test_a_preference_is_of_the_very_text_that_was_judged(tmp_path):
    rows = [example(f"ask {i}", f"good {i}", "good") for i in (9, 8, 7)]
    rows += [example("ask 7", "better 7", "good"), example("ask 7", "x", "unknown")]
    there = around(tmp_path)
    assert judged(tmp_path).of(rows, there) == [0.4, None, 0.9, None, None]
    assert there.events == {f"good: {NOT_JUDGED}": 2, f"unknown: {NO_COLUMN}": 1}


def test_a_preference_has_the_digest_of_all_its_files(tmp_path):
    made = judged(tmp_path)
    digests = {made.digest()}
    for name in ("said.csv", "asked.jsonl", "good.jsonl.gz"):
        with (tmp_path / name).open("ab") as file:
            file.write(b"\n")
        digests.add(made.digest())
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"instruction": "ask 7"}, "line 2.*lacks idx"),
        ({"idx": 7}, "line 2.*lacks instruction"),
        ({"idx": None, "instruction": "ask 7"}, "line 2.*lacks idx"),
        ({"idx": 9, "instruction": "ask 9"}, "line 4.*stands there twice"),
    ],
)
def test_a_file_of_what_was_asked_without_a_key_is_named_with_its_line(tmp_path, row, said):
    made, rows = judged(tmp_path), [{"idx": i, "instruction": f"ask {i}"} for i in (8, 10, 9)]
    rows.insert(1, row)
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    with pytest.raises(DataError, match=rf"asked.jsonl, {said}"):
        made.of([example("ask 7", "good 7", "good")], around(tmp_path))


def test_every_reward_says_what_decides_it(saved, tmp_path):
    for made in (model(saved), Column(name="c", key=None), judged(tmp_path)):
        found = canonical(made)
        assert "name" not in found
        assert "batch_tokens" not in found
        assert type(made).__name__ in plain(made)["_target_"]


@pytest.mark.slow
@pytest.mark.shared
def test_the_real_judge_s_mean_on_half_of_the_prompts_is_the_published_win_rate(shared_data: Path):
    """The mean preference is the win rate; on a half it is that within what sampling allows."""
    command = compose_component(CONF, "evaluate", [
        "model=nano", "analysis=car", "analysis.beta=1.0", "analysis.per=token",
        "analysis.conditioned=true", "teachers=alpaca_eval", f"data_dir={shared_data}",
        "reward@analysis.reward=alpaca_eval",
    ])  # fmt: skip
    assert command.teachers is not None
    by_name = command.teachers.by_name
    found = align({n: by_name[n] for n in ("gemma-2b-it", "gemma-7b-it", LACKS)}, limit=None)
    there = around(shared_data)
    mean = {}
    for name, published in (("gemma-2b-it", 3.402), ("gemma-7b-it", 6.937)):
        values = command.analysis.reward.of(found.examples[name], there)
        assert None not in values
        half = np.array(values)[found.in_first_half]
        mean[name] = 100 * half.mean()
        error = 100 * half.std(ddof=1) / np.sqrt(len(half))
        assert abs(mean[name] - published) < 3 * error
    assert mean["gemma-7b-it"] > mean["gemma-2b-it"]
    assert 350 < found.in_first_half.sum() < 430
    assert set(command.analysis.reward.of(found.examples[LACKS], there)) == {None}
    assert there.events == {f"{LACKS}: {NO_COLUMN}": len(found.ids)}

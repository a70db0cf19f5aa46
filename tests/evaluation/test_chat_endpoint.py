"""A teacher behind an endpoint is asked for just what the generation says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_in import StandIn, reply

from heed.core.errors import ConfigError, RunError
from heed.core.files import append_jsonl
from heed.core.identity import canonical
from heed.evaluation import chat_api
from heed.evaluation.chat_api import NoReplyError, RefusedError
from heed.evaluation.chat_endpoint import ChatEndpoint
from heed.models.sampling import Sampling

KEY = "sk-of-a-test-0123456789"
DRAWN = Sampling(temperature=0.7, top_p=0.9, seed=0)


@pytest.fixture
def server(monkeypatch) -> Iterator[StandIn]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("THE_KEY", KEY)
    monkeypatch.setattr(chat_api.time, "sleep", lambda _: None)
    made = StandIn()
    yield made
    made.close()


def endpoint(url: str = "http://127.0.0.1:1/v1", **more: Any) -> ChatEndpoint:
    given = {
        "name": "far", "base_url": url, "model": "m", "key_variable": "THE_KEY",
        "cap": "max_tokens", "arguments": {}, "retries": 1, "wait_seconds": 1.0,
        "timeout_seconds": 5.0,
    }  # fmt: skip
    return ChatEndpoint(**{**given, **more})


def test_greedy_is_temperature_0_and_the_cap_has_its_name():
    assert endpoint(cap="max_completion_tokens").request("Hi", 7, None) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_completion_tokens": 7,
        "temperature": 0,
    }


def test_drawn_answers_have_a_seed_for_each_instruction_and_number():
    def body(text: str, sampling: Sampling) -> dict[str, Any]:
        return dict(endpoint().request(text, 7, sampling))

    one = body("Hi", DRAWN)
    assert (one["temperature"], one["top_p"]) == (0.7, 0.9)
    assert body("Hi", DRAWN) == one
    seeds = {body(t, DRAWN.numbered(n))["seed"] for t in ("Hi", "Ho") for n in (0, 1)}
    assert len(seeds) == 4


def test_a_reply_comes_with_its_end_and_its_cost(server: StandIn, tmp_path: Path):
    made = endpoint(server.url)
    found = made.api.ask(made.request("Hi", 7, None), tmp_path)
    assert (found["content"], found["read"], found["written"]) == ("1", 11, 2)
    ((path, _, body),) = server.asked
    assert path == "/v1/chat/completions"
    assert body["max_tokens"] == 7


@pytest.mark.parametrize(
    ("status", "kind", "attempts"),
    [
        (400, RefusedError, 1),
        (422, RefusedError, 1),
        (401, NoReplyError, 1),
        (503, NoReplyError, 2),
    ],
)
def test_a_request_that_is_refused_is_told_from_an_endpoint_that_fails(
    server: StandIn, tmp_path: Path, status: int, kind: type[RunError], attempts: int
):
    server.script = [(status, f"no, not with {KEY}")]
    made = endpoint(server.url)
    with pytest.raises(RunError) as caught:
        made.api.ask(made.request("Hi", 7, None), tmp_path)
    assert type(caught.value) is kind
    assert len(server.asked) == attempts
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"arguments": {"temperature": 1.0}}, "arguments"),
        ({"arguments": {"api_key": KEY}}, "arguments"),
        ({"arguments": {"min_p": float("nan")}}, "arguments"),
        ({"arguments": {"deep": [{"er": float("inf")}]}}, "arguments"),
        ({"base_url": f"https://user:{KEY}@host/v1"}, "base_url"),
        ({"key_variable": "sk-not a name"}, "key_variable"),
    ],
)
def test_what_cannot_be_said_here_is_a_mistake_without_the_key(wrong, where):
    with pytest.raises(ConfigError) as caught:
        endpoint(**wrong)
    assert [mistake.where for mistake in caught.value.mistakes] == [where]
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("cap", "arguments", "where"),
    [
        ("messages", {}, "cap"),
        ("model", {}, "cap"),
        ("temperature", {}, "cap"),
        ("seed", {}, "cap"),
        ("stream", {}, "cap"),
        ("", {}, "cap"),
        ("max_output_tokens", {"max_output_tokens": 5}, "arguments"),
    ],
)
def test_the_cap_takes_no_other_field_s_place_and_no_argument_takes_its(cap, arguments, where):
    """Else the question, or how it is answered, would be overwritten unsaid."""
    with pytest.raises(ConfigError) as caught:
        endpoint(cap=cap, arguments=arguments)
    assert [mistake.where for mistake in caught.value.mistakes] == [where]


@pytest.mark.parametrize("cap", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_a_request_holds_all_that_it_is_to_hold(cap: str):
    body = endpoint(cap=cap, arguments={"top_k": 5}).request("Hi", 7, DRAWN)
    assert set(body) == {"model", "messages", cap, "temperature", "top_p", "seed", "top_k"}
    assert body[cap] == 7


def test_patience_and_the_key_s_name_decide_nothing():
    other = endpoint(retries=9, wait_seconds=2.0, timeout_seconds=9.0, key_variable=None, name="x")
    assert canonical(other) == canonical(endpoint())
    assert canonical(endpoint(model="n")) != canonical(endpoint())


def test_a_reply_cut_by_the_endpoint_says_so(server: StandIn, tmp_path: Path):
    cut = reply("Once")
    cut["choices"][0]["finish_reason"] = "length"
    server.script = [(200, cut)]
    made = endpoint(server.url)
    assert made.api.ask(made.request("Hi", 1, None), tmp_path)["finish"] == "length"


def test_half_a_character_is_replaced_and_told(server: StandIn, tmp_path: Path):
    """A server that cuts at a token may cut an emoji in two; no file can hold the half."""
    server.script = [(200, reply("half \ud83d and \U0001f600"))]
    made = endpoint(server.url)
    found = made.api.ask(made.request("Hi", 1, None), tmp_path)
    assert found["content"] == "half \ufffd and \U0001f600"
    assert found["halves"] == 1
    append_jsonl(tmp_path / "kept.jsonl", found)
    server.script = [(200, reply("whole"))]
    assert made.api.ask(made.request("Hi", 1, None), tmp_path)["halves"] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"extra_body": {"api_key": "x"}},
        {"access_token": "x"},
        {"a": [{"b": {"clientSecret": "x"}}]},
        {"x-api-key": "x"},
        {"headers": {"Authorization": "x"}},
        {"password": "x"},
        {"note": f"with {KEY} in it"},
        {"note": [{"deep": KEY}]},
        {KEY: 1},
    ],
)
def test_a_secret_among_the_arguments_is_a_mistake_at_any_depth(monkeypatch, arguments):
    """What is given there stands in the files that a generation leaves."""
    monkeypatch.setenv("THE_KEY", KEY)
    with pytest.raises(ConfigError) as caught:
        endpoint(arguments=arguments)
    assert [mistake.where for mistake in caught.value.mistakes] == ["arguments"]
    assert KEY not in str(caught.value)


def test_arguments_that_only_sound_like_a_secret_are_let_through(monkeypatch):
    monkeypatch.setenv("THE_KEY", "")
    fine = {"top_k": 5, "min_tokens": 1, "stop_token_ids": [2], "skip_special_tokens": True}
    assert endpoint(arguments={**fine, "extra": {"stop": ["key"]}}).arguments["top_k"] == 5

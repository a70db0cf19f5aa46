"""A judge over HTTP: retried within bounds, never paid twice, and its key never told."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_in import StandIn, reply

from heed.core.component import plain
from heed.core.errors import ConfigError, RunError
from heed.core.identity import canonical, short_hash
from heed.evaluation import chat_api as module
from heed.evaluation.chat_api import LONGEST_WAIT
from heed.evaluation.endpoint import Endpoint, read_reply, reference_first
from heed.evaluation.judge import UNREAD, Pairwise

KEY = "sk-very-secret-key"
PAIR = Pairwise("7", "Name a colour.", "Grey.", "Blue, as {first} and \\1 {instruction}.")
QUESTION = "I: {instruction} | one: {first} | two: {second}"


@pytest.fixture
def server(monkeypatch) -> Iterator[StandIn]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("THE_KEY", KEY)
    made = StandIn()
    yield made
    made.close()


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """How long was waited between attempts, without waiting."""
    found: list[float] = []
    monkeypatch.setattr(module.time, "sleep", found.append)
    return found


def judge(url: str, folder: Path, **more: Any) -> Endpoint:
    given = {
        "base_url": url, "model": "judge", "key_variable": "THE_KEY", "question": QUESTION,
        "arguments": {"temperature": 0}, "order": "random", "seed": 0, "retries": 3,
        "wait_seconds": 1.0, "timeout_seconds": 10.0, "journal": str(folder / "kept"),
    }  # fmt: skip
    return Endpoint(**{**given, **more})


def test_the_request_is_what_the_config_says(server, tmp_path):
    found = judge(server.url, tmp_path).judge(PAIR)
    ((path, headers, body),) = server.asked
    assert path == "/v1/chat/completions"
    sent = {name.lower(): value for name, value in headers.items()}
    assert sent["authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["temperature"]) == ("judge", 0)
    assert (found.read, found.written, found.served) == (11, 2, ("judge-0125",))


def test_a_response_cannot_fill_a_place_of_the_question(server, tmp_path):
    judge(server.url, tmp_path, order="both").judge(PAIR)
    said = PAIR.response
    assert server.texts == [
        f"I: Name a colour. | one: Grey. | two: {said}",
        f"I: Name a colour. | one: {said} | two: Grey.",
    ]


@pytest.mark.parametrize(("said", "preference"), [("1", 0.0), ("2", 1.0), ("tie", 0.5)])
def test_a_reply_counts_for_the_response_that_stood_there(server, tmp_path, said, preference):
    server.script = [(200, reply(said))]
    keys = {reference_first(0, str(key)): str(key) for key in range(9)}
    for first, key in keys.items():
        found = judge(server.url, tmp_path).judge(PAIR._replace(key=key, instruction=key))
        assert found.orders == (first,)
        assert found.preference == (preference if first else 1 - preference)


def test_the_order_is_drawn_by_the_seed_and_not_always_the_same():
    drawn = [[reference_first(seed, str(key)) for key in range(400)] for seed in (0, 1)]
    assert drawn[0] != drawn[1]
    assert all(150 < sum(orders) < 250 for orders in drawn)


def test_a_judge_that_prefers_the_first_place_sways_and_decides_nothing(server, tmp_path):
    found = judge(server.url, tmp_path, order="both").judge(PAIR)
    assert (found.preference, found.swayed, found.orders) == (0.5, True, (True, False))


def test_a_judge_that_prefers_a_response_says_so_in_either_order(server, tmp_path):
    def fair(body: dict[str, Any]) -> tuple[int, Any]:
        text = body["messages"][0]["content"]
        return 200, reply("1" if "one: Blue" in text else "2")

    server.script = [fair]
    found = judge(server.url, tmp_path, order="both").judge(PAIR)
    assert (found.preference, found.swayed) == (1.0, False)
    assert (found.read, found.written) == (22, 4)


@pytest.mark.parametrize("said", ["", None, "both are good", "1 or 2", "12", "The first", "0"])
def test_a_reply_that_cannot_be_read_is_no_score_and_is_not_asked_for_again(server, tmp_path, said):
    server.script = [(200, reply(said))]
    found = judge(server.url, tmp_path).judge(PAIR)
    assert (found.preference, found.missing) == (None, UNREAD)
    assert judge(server.url, tmp_path).judge(PAIR).preference is None
    assert len(server.asked) == 1


def test_one_order_that_cannot_be_read_leaves_no_half_score(server, tmp_path):
    server.script = [(200, reply("2")), (200, reply("hm"))]
    found = judge(server.url, tmp_path, order="both").judge(PAIR)
    assert (found.preference, found.missing, found.swayed) == (None, UNREAD, False)


def test_marks_around_a_reply_do_not_matter():
    assert [read_reply(t) for t in ("**2**", " 1.\n", "I thought.\n\n2", '"Tie"', "TIE!")] == [
        1.0, 0.0, 1.0, 0.5, 0.5,
    ]  # fmt: skip


def test_nothing_is_asked_twice_also_by_another_process(server, tmp_path):
    first = judge(server.url, tmp_path, order="both").judge(PAIR)
    again = judge(server.url, tmp_path, order="both").judge(PAIR)
    assert len(server.asked) == 2
    assert (first.kept, again.kept) == (0, 2)
    assert (again.preference, again.replies, again.read) == (
        first.preference, first.replies, first.read,
    )  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"model": "other"}, {"arguments": {"temperature": 1}}, {"question": QUESTION + "?"}],
)
def test_another_request_is_asked_anew(server, tmp_path, change):
    judge(server.url, tmp_path).judge(PAIR)
    judge(server.url, tmp_path, **change).judge(PAIR)
    assert len(server.asked) == 2


def test_a_torn_line_of_the_journal_is_asked_again_and_the_rest_kept(server, tmp_path):
    one = judge(server.url, tmp_path)
    one.judge(PAIR)
    one.judge(PAIR._replace(instruction="More."))
    whole = one.journal_file.read_bytes()
    one.journal_file.write_bytes(whole[:-9])
    again = judge(server.url, tmp_path)
    again.judge(PAIR)
    assert len(server.asked) == 2
    again.judge(PAIR._replace(instruction="More."))
    assert len(server.asked) == 3
    assert judge(server.url, tmp_path).judge(PAIR._replace(instruction="More.")).kept == 1


@pytest.mark.parametrize(
    "passing", [(429, "slow down"), (503, "busy"), (200, "<html>"), (200, {"choices": []})]
)
def test_what_may_pass_is_tried_again(server, tmp_path, waits, passing):
    server.script = [passing, passing, (200, reply("2"))]
    assert judge(server.url, tmp_path).judge(PAIR).preference is not None
    assert waits == [1.0, 2.0]


def test_attempts_and_waits_are_bounded(server, tmp_path, waits):
    server.script = [(503, "busy")]
    with pytest.raises(RunError, match=r"no reply \(9 attempts\): status 503: busy.*goes on"):
        judge(server.url, tmp_path, retries=8).judge(PAIR)
    assert len(server.asked) == 9
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, LONGEST_WAIT, LONGEST_WAIT]


@pytest.mark.parametrize(("asked", "waited"), [("7", 7.0), ("9999", LONGEST_WAIT), ("soon", 1.0)])
def test_the_wait_that_is_asked_for_is_kept_within_a_minute(server, tmp_path, waits, asked, waited):
    server.script = [(429, "slow", {"Retry-After": asked}), (200, reply("2"))]
    judge(server.url, tmp_path).judge(PAIR)
    assert waits == [waited]


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_what_will_not_pass_is_not_tried_again(server, tmp_path, waits, status):
    server.script = [(status, f"wrong key {KEY}")]
    with pytest.raises(RunError, match=rf"\(1 attempts\): status {status}"):
        judge(server.url, tmp_path).judge(PAIR)
    assert (len(server.asked), waits) == (1, [])


def test_a_redirect_is_not_followed_with_the_key(server, tmp_path, waits):
    server.script = [(307, "", {"Location": f"{server.url}/elsewhere"})]
    with pytest.raises(RunError, match="status 307"):
        judge(server.url, tmp_path).judge(PAIR)
    assert len(server.asked) == 1


def test_a_server_that_is_not_there_is_named(tmp_path, waits, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("THE_KEY", KEY)
    with pytest.raises(RunError, match=r"127\.0\.0\.1:9/v1 gave no reply \(2 attempts\): Connect"):
        judge("http://127.0.0.1:9/v1", tmp_path, retries=1).judge(PAIR)


@pytest.mark.parametrize("address", ["http://[:::::]/v1", "http://...:80/v1"])
def test_an_address_that_is_none_is_named_at_once(tmp_path, waits, monkeypatch, address):
    monkeypatch.setenv("THE_KEY", KEY)
    with pytest.raises(RunError, match="so base_url is no address") as caught:
        judge(address, tmp_path, retries=3).judge(PAIR)
    assert "1 attempt" in str(caught.value)
    assert KEY not in str(caught.value)


def test_the_key_is_written_nowhere(server, tmp_path, waits):
    server.script = [(401, f"wrong key {KEY}"), (200, reply("1"))]
    one = judge(server.url, tmp_path)
    with pytest.raises(RunError) as caught:
        one.judge(PAIR)
    one.judge(PAIR)
    assert KEY not in str(caught.value)
    assert "<key>" in str(caught.value)
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert not [text for text in [*written, repr(one), str(plain(one))] if KEY in text]


def test_a_missing_key_is_named_before_anything_is_sent(server, tmp_path, monkeypatch):
    monkeypatch.setenv("THE_KEY", " ")
    with pytest.raises(RunError, match="variable THE_KEY is not set"):
        judge(server.url, tmp_path).judge(PAIR)
    assert not server.asked
    judge(server.url, tmp_path, key_variable=None).judge(PAIR)
    assert "authorization" not in {name.lower() for name in server.asked[0][1]}


@pytest.mark.parametrize("length", range(270, 302))
def test_no_part_of_a_key_is_left_where_a_long_error_is_cut(server, tmp_path, length):
    server.script = [(401, "x" * length + KEY)]
    with pytest.raises(RunError) as caught:
        judge(server.url, tmp_path).judge(PAIR)
    assert "sk-" not in str(caught.value)


def test_a_key_that_the_judge_repeats_is_not_kept(server, tmp_path):
    server.script = [(200, reply(f"I see {KEY}\n1", model=KEY))]
    one = judge(server.url, tmp_path)
    found = one.judge(PAIR)
    assert found.preference is not None
    assert KEY not in one.journal_file.read_text() + repr(found)


@pytest.mark.parametrize("key", ["sk-one\nsk-two", "sk-é", "sk one", "sk-\x7f"])
def test_a_key_that_no_header_may_hold_is_refused_and_not_shown(
    server, tmp_path, monkeypatch, waits, key
):
    monkeypatch.setenv("THE_KEY", key)
    with pytest.raises(RunError, match="THE_KEY holds spaces, line ends") as caught:
        judge(server.url, tmp_path).judge(PAIR)
    assert "sk" not in str(caught.value).partition("asked")[0]
    assert not server.asked


def test_what_decides_a_judgement_is_in_the_identity_and_nothing_else(tmp_path):
    one = judge("http://x/v1", tmp_path)
    for change in ({"order": "both"}, {"seed": 1}, {"question": QUESTION + "."}, {"model": "x"}):
        assert short_hash(judge("http://x/v1", tmp_path, **change)) != short_hash(one)
    for change in ({"retries": 9}, {"timeout_seconds": 1.0}, {"key_variable": "OTHER"}):
        assert short_hash(judge("http://x/v1", tmp_path, **change)) == short_hash(one)
    assert "journal" not in canonical(one)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"base_url": "ftp://x/v1"}, "base_url"),
        ({"base_url": f"https://me:{KEY}@x/v1"}, "base_url"),
        ({"base_url": f"https://x/v1?api-key={KEY}"}, "base_url"),
        ({"base_url": f"https://x/v1#{KEY}"}, "base_url"),
        ({"base_url": "http://[x/v1"}, "base_url"),
        ({"base_url": "http://x:port/v1"}, "base_url"),
        ({"key_variable": KEY}, "key_variable"),
        ({"arguments": {"api_key": KEY}}, "arguments"),
        ({"question": "{first} or {second}?"}, "question"),
        ({"arguments": {"stream": True}}, "arguments"),
    ],
)
def test_a_judge_that_cannot_work_is_a_mistake_without_the_key(change, where, tmp_path):
    with pytest.raises(ConfigError) as caught:
        judge(**{"url": "http://x/v1", "folder": tmp_path, **change})
    (mistake,) = caught.value.mistakes
    assert mistake.where == where
    assert KEY not in repr(mistake)

"""A server is asked for a few seconds at most, once, and any answer of its own counts."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from heed.tracking import finish, server
from heed.tracking.finish import finish_online
from heed.tracking.server import why_silent


@contextmanager
def answering(words: bytes | None) -> Iterator[tuple[str, list[bytes]]]:
    """A server that says the same to everybody; None: it takes connections and says nothing."""
    asked: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        held = []
        while True:
            try:
                one, _ = listener.accept()
            except OSError:
                for one in held:
                    one.close()
                return
            held.append(one)
            asked.append(one.recv(65536))
            if words is not None:
                one.sendall(words)
                one.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def status(code: int) -> bytes:
    return f"HTTP/1.1 {code} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


@pytest.mark.parametrize(("code", "away"), [(200, False), (401, False), (404, False), (503, True)])
def test_any_answer_of_its_own_counts_and_no_key_is_sent(code, away, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", 40 * "7")
    with answering(status(code)) as (url, asked):
        said = why_silent(url)
    assert said == (f"it answers {code}" if away else None)
    assert asked[0].startswith(b"POST /graphql")
    assert 40 * b"7" not in asked[0]
    assert b"uthorization" not in asked[0]


def test_who_takes_a_connection_and_says_nothing_is_away(monkeypatch):
    monkeypatch.setattr(server, "SECONDS", 0.2)
    with answering(None) as (url, _):
        assert why_silent(url)


def test_who_was_away_is_asked_once_unless_that_is_wanted(monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(server, "_asked", lambda url: asked.append(url) or "away")
    assert why_silent("one") == why_silent("one") == "away"
    assert asked == ["one"]
    assert why_silent("two") == why_silent("one", again=True) == "away"
    assert asked == ["one", "two", "one"]


def test_a_name_that_nobody_looks_up_costs_no_more(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(server, "SECONDS", 0.05)
    monkeypatch.setattr(server, "_answer", lambda _: over.wait())
    assert why_silent("http://a.name") == "no answer in 0.05 s"
    over.set()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "no url", "ftp://127.0.0.1:9"])
def test_what_is_no_server_is_away(url: str):
    assert why_silent(url)


def test_a_server_that_comes_back_is_there_again(monkeypatch):
    told = iter(["away", None])
    monkeypatch.setattr(server, "_asked", lambda _: next(told))
    assert why_silent("u") == why_silent("u") == "away"
    assert why_silent("u", again=True) is None
    monkeypatch.setattr(server, "_asked", lambda _: "not asked")
    assert why_silent("u") == "not asked"


class Ends:
    """A run of W&B whose end takes until it is let go."""

    def __init__(self, error: Exception | None = None):
        self.free, self.error, self.code = threading.Event(), error, -1

    def finish(self, exit_code: int) -> None:
        self.free.wait()
        self.code = exit_code
        if self.error is not None:
            raise self.error


def test_an_upload_is_waited_for_while_the_server_answers(monkeypatch):
    monkeypatch.setattr(finish, "LOOK_SECONDS", 0.02)
    run, asked = Ends(), []

    def silence() -> str | None:
        asked.append(time.monotonic())
        if len(asked) == 3:
            run.free.set()
        return None

    finish_online(run, 1, silence)
    assert run.code == 1
    assert len(asked) >= 3


def test_an_upload_to_a_server_that_went_away_is_left(monkeypatch):
    monkeypatch.setattr(finish, "LOOK_SECONDS", 0.02)
    left = []
    monkeypatch.setattr(finish, "abandon", left.append)
    run = Ends()
    with pytest.raises(ConnectionError, match=r"does not answer any more \(gone\)"):
        finish_online(run, 0, lambda: "gone")
    assert left == [run]
    run.free.set()


def test_what_the_end_of_a_run_raises_is_told():
    run = Ends(TimeoutError("not all has arrived"))
    run.free.set()
    with pytest.raises(TimeoutError, match="not all has arrived"):
        finish_online(run, 0, lambda: None)


def test_a_process_that_is_gone_already_is_no_trouble(monkeypatch):
    import wandb

    def ends() -> None:
        raise SystemExit(-9)

    joined = []
    checker = SimpleNamespace(join=lambda: joined.append(True))
    monkeypatch.setattr(wandb, "setup", lambda: SimpleNamespace(_connection=None))
    monkeypatch.setattr(wandb, "teardown", ends)
    finish.abandon(SimpleNamespace(_run_status_checker=checker))
    assert joined == [True]

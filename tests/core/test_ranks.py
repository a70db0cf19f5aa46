"""Who is who in a process group, how work is shared, what is said to all; alone, and by three."""

import io
from contextlib import redirect_stderr
from typing import Any

import pytest
from forked import run_ranks
from hypothesis import given
from hypothesis import strategies as st

from heed.core import ranks
from heed.core.console import progress_console

WORLD = 3
COUNT = 7


def test_a_process_alone_leads_does_all_the_work_and_hears_itself():
    assert (ranks.rank(), ranks.world()) == (0, 1)
    assert ranks.leads()
    assert list(ranks.share(COUNT)) == list(range(COUNT))
    value = object()
    assert ranks.everybody(value) == [value], "it is the thing itself, not a copy"
    assert ranks.from_leader(value) is value
    ranks.leave()
    ranks.leave()


def test_what_the_environment_says_is_nothing_before_the_ranks_have_met(monkeypatch):
    """A job of a cluster that heed has not begun may have such variables."""
    for name, said in {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "2"}.items():
        monkeypatch.setenv(name, said)
    assert (ranks.rank(), ranks.world()) == (0, 1)
    assert ranks.everybody("me") == ["me"]


@given(st.integers(0, 200), st.integers(1, 16))
def test_every_piece_of_work_is_some_ranks_once_and_no_rank_has_two_more_than_another(count, world):
    shares = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ranks, "world", lambda: world)
        for rank in range(world):
            patched.setattr(ranks, "rank", lambda rank=rank: rank)
            shares.append(list(ranks.share(count)))
    assert sorted(i for share in shares for i in share) == list(range(count))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("environment", "rank", "follower"),
    [
        ({}, False, False),
        ({"RANK": "0"}, False, False),
        ({"WORLD_SIZE": "2"}, False, False),
        ({"RANK": "0", "WORLD_SIZE": "2"}, True, False),
        ({"RANK": "1", "WORLD_SIZE": "2"}, True, True),
        ({"RANK": "10", "WORLD_SIZE": "16"}, True, True),
    ],
)
def test_who_was_begun_as_a_rank_is_known_by_its_environment(
    environment: dict[str, str], rank: bool, follower: bool, monkeypatch
):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, said in environment.items():
        monkeypatch.setenv(name, said)
    assert ranks.is_rank() == rank
    assert ranks.is_follower() == follower
    told = io.StringIO()
    with redirect_stderr(told):
        progress_console().print("how far it is")
    assert bool(told.getvalue()) != follower


def meet() -> dict[str, Any]:
    """What a rank of three finds."""
    me = ranks.rank()
    found: dict[str, Any] = {
        "me": (me, ranks.world(), ranks.leads()),
        "begun": (ranks.is_rank(), ranks.is_follower()),
        "share": list(ranks.share(COUNT)),
        "everybody": ranks.everybody({"rank": me, "longer": "x" * 10**me}),
        "in order": [ranks.everybody((me, turn))[turn] for turn in range(WORLD)],
        "leader": ranks.from_leader({"said by": me, "none": None}),
        "nothing": ranks.from_leader(None if me == 0 else "something"),
    }
    ranks.leave()
    return found | {"after": (ranks.rank(), ranks.world(), ranks.everybody(me))}


def test_three_ranks_know_their_places_and_hear_one_another():
    told = run_ranks(WORLD, meet)
    assert [one["me"] for one in told] == [(i, WORLD, i == 0) for i in range(WORLD)]
    assert [one["begun"] for one in told] == [(True, i > 0) for i in range(WORLD)]
    assert sorted(i for one in told for i in one["share"]) == list(range(COUNT))
    for me, one in enumerate(told):
        assert one["everybody"] == [{"rank": i, "longer": "x" * 10**i} for i in range(WORLD)]
        assert one["in order"] == [(turn, turn) for turn in range(WORLD)]
        assert one["leader"] == {"said by": 0, "none": None}
        assert one["nothing"] is None
        assert one["after"] == (0, 1, [me]), "who has left is alone again"

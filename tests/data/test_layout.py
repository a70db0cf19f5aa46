"""How rows read: the same conversation from every layout, and nothing that is not one."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.errors import ConfigError, DataError
from heed.core.types import Message
from heed.data.layout import Columns, Turns, check_order, value_of


def columns(**changes) -> Columns:
    rest = {"system": None, "input": None, "sparse": False, "reward": None}
    return Columns(**({"instruction": "asked", "response": "said", **rest} | changes))


def sharegpt(**changes) -> Turns:
    whole = {
        "turns": "conversations", "response": None, "role": "from", "content": "value",
        "roles": {"system": "system", "human": "user", "gpt": "assistant"},
        "weight": "weight", "reward": None,
    }  # fmt: skip
    return Turns(**whole | changes)


def turn(role: str, text: str, **more) -> dict:
    return {"from": role, "value": text, **more}


HELLO = (Message("system", "Be kind."), Message("user", "Hi"), Message("assistant", "Hello"))


@pytest.mark.parametrize(
    ("layout", "row"),
    [
        (columns(system="sys"), {"sys": "Be kind.", "asked": "Hi", "said": "Hello"}),
        (
            columns(system="s", instruction="q.text", response="gemma-2.5.content"),
            {"s": "Be kind.", "q": {"text": "Hi"}, "gemma-2.5": {"content": "Hello"}},
        ),
        (
            sharegpt(),
            {
                "conversations": [
                    turn("system", "Be kind.", weight=None),
                    turn("human", "Hi", weight=0.0),
                    turn("gpt", "Hello", weight=1.0),
                ]
            },
        ),
        (
            sharegpt(turns="in.turns", response="chosen"),
            {
                "in": {"turns": [turn("system", "Be kind."), turn("human", "Hi")]},
                "chosen": turn("gpt", "Hello"),
            },
        ),
        (
            sharegpt(turns="x", response="y", role="r", content="c", weight=None),
            {
                "x": [{"r": "system", "c": "Be kind."}, {"r": "human", "c": "Hi"}],
                "y": [{"r": "gpt", "c": "Hello"}],
            },
        ),
    ],
)
def test_every_layout_reads_the_same_conversation(layout, row: Mapping):
    assert layout.read(row).messages == HELLO


def test_a_response_of_weight_zero_is_kept_and_not_supervised():
    turns = [
        turn("human", "1", weight=1),
        turn("gpt", "2", weight=0.0),
        turn("human", "3", weight=None),
        turn("gpt", "4", weight=None),
        turn("human", "5"),
        turn("gpt", "6", weight=1.0),
    ]
    read = sharegpt().read({"conversations": turns}).messages
    assert [message.content for message in read] == ["1", "2", "3", "4", "5", "6"]
    assert [m.supervised for m in read if m.role == "assistant"] == [False, True, True]
    plain = sharegpt(weight=None).read({"conversations": turns}).messages
    assert all(message.supervised for message in plain)


@pytest.mark.parametrize(
    ("extra", "asked"), [("1, 2", "Add.\n\n1, 2"), ("", "Add."), (None, "Add.")]
)
def test_further_input_is_joined_by_a_blank_line(extra, asked: str):
    read = columns(input="more").read({"asked": "Add.", "more": extra, "said": "3"})
    assert read.messages[0] == Message("user", asked)


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_system_column_is_no_system_turn(empty):
    read = columns(system="sys").read({"sys": empty, "asked": "Hi", "said": "Hello"})
    assert read.messages == HELLO[1:]


@pytest.mark.parametrize("row", [{}, {"out": {}}, {"out": {"a": None}}, {"out": None}])
def test_a_response_that_a_sparse_row_lacks_is_empty_and_elsewhere_an_error(row: dict):
    layout = {"response": "out.a", "reward": "out.score"}
    found = columns(**layout, sparse=True).read({"asked": "Hi", **row})
    assert (found.messages[-1].content, found.reward) == ("", None)
    if row in ({}, {"out": {}}):
        with pytest.raises(DataError, match=r"no column 'out\.a'; expected it among 'asked'"):
            columns(**layout).read({"asked": "Hi", **row})


@pytest.mark.parametrize(
    ("value", "reward"), [(3, 3.0), (-0.5, -0.5), ("0.25", 0.25), (None, None)]
)
def test_a_reward_is_a_number_or_none(value, reward):
    found = columns(reward="score").read({"asked": "a", "said": "b", "score": value})
    assert found.reward == reward


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.just("human"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["from", "value", "weight", "0"]), inner, max_size=3)
    ),
    max_leaves=12,
)
SAID = st.text(st.characters(codec=None), max_size=4) | st.none() | st.integers()
TURN = st.fixed_dictionaries(
    {"from": st.sampled_from(["human", "gpt", "system", "tool"]), "value": SAID},
    optional={"weight": st.sampled_from([0, 1, 0.0, 1.0, None, 0.5, "1", True])},
)


@given(JSON | st.lists(TURN, max_size=5))
def test_whatever_stands_in_a_row_is_a_conversation_in_order_or_a_data_error(value):
    said = None
    try:
        messages = sharegpt(reward="r").read({"conversations": value, "r": value}).messages
    except DataError as error:
        said = str(error)
    if said is not None:
        assert said.encode()  # a message with half a character could not be printed
        return
    roles = [message.role for message in messages]
    assert roles[-1] == "assistant"
    assert roles[1 if roles[0] == "system" else 0 :: 2] == ["user"] * (len(roles) // 2)


@given(st.lists(st.sampled_from(["system", "user", "assistant"]), max_size=6))
def test_an_order_is_right_only_if_user_and_assistant_take_turns(roles: list[str]):
    pairs = len(roles) // 2
    right = roles in (["user", "assistant"] * pairs, ["system"] + ["user", "assistant"] * pairs)
    try:
        check_order(roles)
    except DataError:
        assert not right or not pairs
    else:
        assert right


@given(st.dictionaries(st.text("ab."), st.dictionaries(st.text("ab."), st.text("xy"))))
def test_a_name_that_stands_as_it_is_is_never_read_as_a_path(row: dict):
    for name, value in row.items():
        assert value_of(row, name) is value


def test_of_two_names_that_begin_a_path_the_longer_counts():
    row = {"v2": {"5.said": "no", "5": {"said": "no"}}, "v2.5": {"said": "yes"}}
    assert value_of(row, "v2.5.said") == "yes"


def test_a_list_is_looked_into_by_number():
    row = {"said": ["one", {"score": 2}]}
    assert (value_of(row, "said.0"), value_of(row, "said.1.score")) == ("one", 2)
    for wrong in ("said.2", "said.-1", "said.x", "said.0.x", "said.\u0661"):
        with pytest.raises(DataError, match="no column"):
            value_of(row, wrong)


@pytest.mark.parametrize("roles", [{}, {"gpt": "assistant"}, {"human": "user"}])
def test_roles_without_a_user_or_an_assistant_are_refused(roles: dict):
    with pytest.raises(ConfigError, match="nobody is the"):
        sharegpt(roles=roles)


WEIGHTLESS = [turn("human", "1", weight=1), turn("gpt", "2"), turn("gpt", "2", weight=None)]


@pytest.mark.parametrize(
    ("layout", "rows", "found"),
    [
        (sharegpt(), [WEIGHTLESS, [], None, [3]], 4),
        (sharegpt(weight="wieght"), [[turn("gpt", "2", weight=1)]], 1),
        (sharegpt(), [WEIGHTLESS, [turn("gpt", "2", weight=0)], WEIGHTLESS], 0),
        (sharegpt(weight=None), [WEIGHTLESS], 0),
        (sharegpt(), [], 0),
    ],
    ids=["no weight", "a slip", "one weight", "no key is named", "no row"],
)
def test_a_weight_that_no_response_has_is_told_of(layout: Turns, rows: list, found: int):
    events = layout.events({"conversations": turns} for turns in rows)
    assert sum(events.values()) == found
    assert all(repr(layout.weight) in event for event in events)


def test_no_more_rows_are_looked_at_than_up_to_the_first_weight():
    rows = iter([{"conversations": [turn("gpt", "2", weight=1)]}] * 3)
    assert sharegpt().events(rows) == {}
    assert len(list(rows)) == 2

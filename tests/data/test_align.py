"""Compared teachers answer the same instructions, whatever order and gaps they come with."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.compose import compose_component
from heed.core.errors import ConfigError, DataError
from heed.core.resample import first_half
from heed.core.types import Example, Message
from heed.data.align import (
    EMPTY,
    MISSING,
    NOT_SHARED,
    OVER_LIMIT,
    REPEATED,
    SEVERAL_TURNS,
    UNREAD,
    align,
)
from heed.data.teacher import Teacher, id_of

CONF = Path(__file__).resolve().parents[2] / "conf"
Rows = list[tuple[int, str]]


@dataclass
class Said(Teacher):
    """A teacher of given rows: the number of an instruction, and a response; -1 is broken."""

    name: str
    given: Rows

    def rows(self, on_bad=None) -> Iterator[Example]:
        for number, response in self.given:
            if number < 0:
                on_bad(DataError("broken"))
                continue
            turns = (Message("user", f"Ask {number}"), Message("assistant", response))
            yield Example("its own id", turns, self.name)

    def digest(self) -> str:
        return self.name


def set_of(tables: Mapping[str, Rows]) -> dict[str, Teacher]:
    return {name: Said(name, rows) for name, rows in tables.items()}


ROWS = st.lists(st.tuples(st.integers(-1, 12), st.sampled_from(["", " ", "a", "b"])), max_size=30)
COMMON: Rows = [(1, "x"), (2, "y"), (3, "z")]


def id_number(number: int) -> str:
    return id_of((Message("user", f"Ask {number}"),))


@given(st.lists(ROWS, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_it_is_the_intersection_whatever_the_order_of_rows_and_teachers(tables, random):
    given = {f"t{i}": rows + COMMON for i, rows in enumerate(tables)}
    found = align(set_of(given), limit=None)
    answered = [{n for n, said in rows if n >= 0 and said.strip()} for rows in given.values()]
    assert set(found.ids) == set(map(id_number, set.intersection(*answered)))
    shuffled = {name: random.sample(rows, len(rows)) for name, rows in given.items()}
    names = random.sample(list(shuffled), len(shuffled))
    other = align(set_of({name: shuffled[name] for name in names}), limit=None)
    assert other.ids == found.ids
    assert other.events == found.events
    assert (other.in_first_half == found.in_first_half).all()


@given(st.lists(ROWS, min_size=1, max_size=4), st.none() | st.integers(2, 8))
def test_all_rows_are_accounted_for(tables, limit):
    given = {f"t{i}": rows + COMMON for i, rows in enumerate(tables)}
    found = align(set_of(given), limit=limit)
    assert len(found.ids) <= (limit or 99)
    for name, rows in given.items():
        events = found.events[name]
        left = [events.get(what, 0) for what in (EMPTY, REPEATED, UNREAD, NOT_SHARED, OVER_LIMIT)]
        assert len(found.examples[name]) + sum(left) == len(rows)
        assert [example.id for example in found.examples[name]] == list(found.ids)
        assert all(id_of(example.messages) == example.id for example in found.examples[name])
        assert {example.teacher for example in found.examples[name]} == {name}


@given(st.lists(ROWS, min_size=2, max_size=4))
def test_a_response_that_lacks_is_missing_or_empty_and_never_both(tables):
    given = {f"t{i}": rows + COMMON for i, rows in enumerate(tables)}
    events = align(set_of(given), limit=None).events
    answered = {name: {n for n, said in rows if said.strip() and n >= 0}
                for name, rows in given.items()}  # fmt: skip
    every = set.union(*answered.values())
    for name, rows in given.items():
        empty = {n for n, said in rows if n >= 0 and not said.strip()}
        assert events[name].get(MISSING, 0) == len(every - answered[name] - empty)


def test_the_first_response_that_says_something_counts():
    rows = {"a": [(1, ""), (1, "one"), (1, "two"), (2, "y")], "b": COMMON}
    found = align(set_of(rows), limit=None)
    said = {e.messages[0].content: e.messages[1].content for e in found.examples["a"]}
    assert said == {"Ask 1": "one", "Ask 2": "y"}
    assert dict(found.events["a"]) == {EMPTY: 1, REPEATED: 1, MISSING: 1}


@given(st.integers(2, 12))
def test_a_limit_takes_the_same_instructions_of_every_set(limit: int):
    rows: Rows = [(n, "x") for n in range(12)]
    few = align(set_of({"a": rows, "b": rows[::-1]}), limit=limit)
    whole = align(set_of({"b": rows, "c": rows}), limit=None)
    assert few.ids == whole.ids[:limit]


def test_the_split_is_that_of_every_study():
    rows: Rows = [(n, "x") for n in range(400)]
    found = align(set_of({"a": rows, "b": rows}), limit=None)
    assert (found.in_first_half == first_half(found.ids)).all()
    assert 150 < found.in_first_half.sum() < 250


@pytest.mark.parametrize("rows", [[], [(1, "x")], [(1, "x"), (7, "y")], [(1, ""), (2, "")]])
def test_teachers_that_share_next_to_nothing_are_refused_with_their_counts(rows: Rows):
    with pytest.raises(DataError, match=r"a 3, b \d") as caught:
        align(set_of({"a": COMMON, "b": rows}), limit=None)
    assert "generate=" in str(caught.value)


def test_plain_text_answers_no_instruction():
    class Text(Said):
        def rows(self, on_bad=None):
            yield Example("0/0", (Message("text", "Once upon a time"),), self.name)

    with pytest.raises(DataError, match="plain text"):
        align({"a": Said("a", COMMON), "books": Text("books", [])}, limit=None)


def test_a_conversation_of_several_answers_answers_no_one_instruction():
    """Its first turn is that of others, and its last response is to something else."""

    class Talks(Said):
        def rows(self, on_bad=None):
            more = (Message("user", f"Now {self.name}"), Message("assistant", "done"))
            for example in super().rows(on_bad):
                turns = (*example.messages, *(more if example.messages[1].content == "x" else ()))
                yield Example("id", turns, self.name)

    found = align({name: Talks(name, [*COMMON, (4, "v")]) for name in "ab"}, limit=None)
    assert set(found.ids) == {id_number(number) for number in (2, 3, 4)}
    assert found.events == {name: {SEVERAL_TURNS: 1} for name in "ab"}


def teacher_set(*overrides: str):
    ranking = ["model=nano", "analysis=car", "analysis.beta=1.0", "analysis.per=token"]
    more = ["analysis.conditioned=true", "reward@analysis.reward=play"]
    return compose_component(CONF, "evaluate", [*ranking, *more, *overrides]).teachers


def test_two_teachers_of_one_name_are_a_mistake():
    with pytest.raises(ConfigError, match="cannot be told apart"):
        teacher_set("teachers=play", "teachers.teachers.play_15_long_rare.name=play_00_long_rare")


def test_the_paper_s_20_are_a_set_whose_commit_is_given_once():
    commit = f"teachers.teachers.Phi_3_mini_128k_instruct.source.revision={40 * 'c'}"
    path = "teachers.teachers.GPT_4.source.path=rows.jsonl"
    found = teacher_set("teachers=generator_zoo", commit, path).by_name
    assert len(found) == 20
    assert found.pop("GPT-4").source.path == "rows.jsonl"
    assert {teacher.source.revision for teacher in found.values()} == {40 * "c"}
    for name, teacher in found.items():
        assert teacher.layout.response == f"{name}.content"
    assert (
        len(teacher_set("teachers=generator_zoo", commit, "~teachers.teachers.GPT_4").by_name) == 19
    )


def test_the_playground_s_set_answers_the_same_instructions():
    teachers = teacher_set("teachers=play").by_name
    assert len(teachers) >= 10
    assert len({teacher.digest() for teacher in list(teachers.values())[:3]}) == 3
    found = align(dict(list(teachers.items())[:3]), limit=None)
    assert len(found.ids) == 2080
    assert not any(found.events.values())


@pytest.mark.slow
@pytest.mark.shared
def test_the_24_real_teachers_share_all_instructions_that_each_of_them_answered(shared_data: Path):
    teachers = teacher_set("teachers=alpaca_eval", f"data_dir={shared_data}").by_name
    found = align(teachers, limit=None)
    assert len(found.examples) == 24
    assert len(found.ids) == 779
    assert found.events["phi-2"][MISSING] == 2
    assert (found.events["gemma-2b-it"][EMPTY], found.events["text_davinci_003"][EMPTY]) == (22, 2)
    assert MISSING not in found.events["gemma-2b-it"]

"""A generation gives a row for each instruction, goes on after a kill, and takes the best."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import ROOT, evaluation

from heed.analysis.rewards import Column, Preference, Reward, RewardAround
from heed.core.component import component
from heed.core.compose import compose_component
from heed.core.errors import ConfigError, DataError, RunError
from heed.core.files import read_json, read_jsonl
from heed.core.types import Answer, Example
from heed.data.align import align
from heed.evaluation.chat_api import KEPT_IN, RefusedError
from heed.models.sampling import Sampling
from heed.study.answering import (
    ENDED,
    FILTERED,
    FIRST,
    HALVES,
    NO_ROOM,
    REFUSED,
    SPECIAL,
    Answering,
    EndpointAnswering,
    ModelAnswering,
)
from heed.study.drawn import KEPT, Draws, answers_of
from heed.study.evaluation import run_evaluation
from heed.study.generation import (
    AGAIN,
    AT_CAP,
    EMPTY,
    EMPTY_DRAW,
    FAILED,
    FAILED_DRAW,
    FEWER,
    UNSCORED,
    Generation,
    Job,
    generate,
)  # fmt: skip
from heed.study.instructions import read_instructions

DRAWN = Sampling(temperature=0.8, top_p=1.0, seed=0)


@component
class Length(Reward):
    """A reward that counts characters; none for what begins with a question mark."""

    name: str = "length"

    def of(self, examples: Sequence[Example], around: RewardAround) -> list[float | None]:
        around.events["weighed"] += len(examples)
        texts = [one.messages[-1].content for one in examples]
        return [None if text.startswith("?") else float(len(text)) for text in texts]


@dataclass
class Says(Answering):
    """Answers from a table: instruction -> an answer for each number; None is a failure."""

    table: dict[str, list[str | None]]
    asked: list[tuple[str, int]] = field(default_factory=list)
    dies_after: int = 10**9
    name: str = "somebody"
    calls: int = 0
    released: bool = False

    @property
    def about(self) -> dict[str, Any]:
        return {"table": self.table}

    def answers(
        self, asked: Sequence[str], most: int, ways: Sequence[Sampling] | None, events: Counter[str]
    ) -> Iterator[tuple[int, Answer]]:
        self.calls += 1
        for place in reversed(range(len(asked))):  # in an order of its own
            if len(self.asked) >= self.dies_after:
                raise KeyboardInterrupt
            number = 0 if ways is None else ways[place].number
            self.asked.append((asked[place], number))
            text = self.table[asked[place]][number]
            stop = "cap" if (text or "").endswith("...") else "stop"
            events["said"] += text is not None
            yield place, Answer(text, 2, None if text is None else stop)

    def told(self, answers: int) -> dict[str, int]:
        return {"told": answers}

    def release(self) -> None:
        self.released = True


def way(**more: Any) -> Generation:
    given = {
        "name": "w", "column": "instruction", "input": None, "max_new_tokens": 5,
        "sampling": None, "answers": 1,
        "pick": "only", "reward": None,
    }  # fmt: skip
    return Generation(**{**given, **more})


def best(pick: str = "best", answers: int = 3) -> Generation:
    return way(sampling=DRAWN, answers=answers, pick=pick, reward=Length())


def file_of(folder: Path, asked: Sequence[str]) -> Path:
    path = folder / "asked.jsonl"
    path.write_text("".join(json.dumps({"instruction": text}) + "\n" for text in asked))
    return path


def made(folder: Path, how: Generation, who: Answering, asked: Sequence[str]) -> tuple[list, dict]:
    """The rows and the events of a generation."""
    path = file_of(folder, asked)
    around = RewardAround(folder / "out", "cpu")
    directory = generate(Job(how, who, path, around), read_instructions(str(path), "instruction"))
    about = read_json(directory / "manifest.json")
    return read_jsonl(directory / "responses.jsonl"), about["events"]


TEXTS = st.lists(st.sampled_from(["", " ", "a", "bb", "ccc...", "?", None]), min_size=3, max_size=3)


@given(st.lists(st.tuples(st.sampled_from("pqrstu"), TEXTS), min_size=1, max_size=9))
def test_n_instructions_give_n_rows_in_their_order(tmp_path_factory, given):
    folder = tmp_path_factory.mktemp("g")
    asked, table = [text for text, _ in given] + ["z"], {**dict(given), "z": ["fine"] * 3}
    rows, events = made(folder, way(), Says(table), asked)
    assert [row["prompt"] for row in rows] == asked
    assert [row["completion"] for row in rows] == [table[text][0] or "" for text in asked]
    said = [table[text][0] for text in asked]
    assert events.get(FAILED, 0) == said.count(None)
    assert events.get(EMPTY, 0) == sum(text is not None and not text.strip() for text in said)
    assert events.get(AT_CAP, 0) == said.count("ccc...")
    assert events.get(AGAIN, 0) == len(asked) - len(set(asked))


@given(st.lists(TEXTS, min_size=1, max_size=6), st.sampled_from(["best", "worst"]))
def test_the_best_and_the_worst_are_those_of_the_reward(tmp_path_factory, given, pick: str):
    folder = tmp_path_factory.mktemp("g")
    table = {**{str(i): texts for i, texts in enumerate(given)}, "z": ["a", "bb", "ccc"]}
    rows, events = made(folder, best(pick), Says(table), list(table))
    for row in rows:
        texts = [text for text in table[row["prompt"]] if (text or "").strip()]
        scores = [len(text) for text in texts if text and not text.startswith("?")]
        if scores:
            wanted = (max if pick == "best" else min)(scores)
            assert row["reward"] == len(row["completion"]) == wanted
            assert table[row["prompt"]][row["answer"]] == row["completion"]
        else:
            assert (row["reward"], row["completion"].strip()) == (None, texts[0] if texts else "")
    weighed = [row for row in rows if row["completion"].startswith("?")]
    assert events.get(UNSCORED, 0) == len(weighed)


@pytest.mark.parametrize("killed", [1, 4, 7, 8])
def test_a_generation_that_was_killed_goes_on_and_ends_as_if_it_had_not_been(tmp_path, killed: int):
    table = {str(i): [f"{i}a", f"{i}bb", f"{i}c..."] for i in range(3)}
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole, _ = made(tmp_path / "whole", best(), Says(table), list(table))
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "cut", best(), Says(table, dies_after=killed), list(table))
    (journal,) = (tmp_path / "cut/out/teachers").glob("*.answers.jsonl")
    with journal.open("ab") as file:
        file.write(b'{"asked": "2", "num')  # what a writer left that was killed in a line
    left = Says(table)
    rows, events = made(tmp_path / "cut", best(), left, list(table))
    assert rows == whole
    assert (events["said"], events["told"]) == (9, 9)  # whoever of the two processes was told
    assert len(left.asked) == 9 - killed
    assert events[KEPT] == killed


def test_all_draws_are_asked_for_at_once_so_that_an_engine_is_begun_once(tmp_path):
    table: dict[str, list[str | None]] = {str(i): [f"{i}a", f"{i}bb", f"{i}c"] for i in range(3)}
    who = Says(table)
    made(tmp_path, best(), who, list(table))
    assert who.calls == 1
    assert sorted(who.asked) == sorted((text, n) for text in table for n in range(3))


def test_who_has_answered_is_out_of_memory_before_a_reward_is_asked_for(tmp_path, monkeypatch):
    who, seen = Says({"a": ["x", "yy", "z"]}), []
    scores = Length.of
    monkeypatch.setattr(Length, "of", lambda *given: (seen.append(who.released), scores(*given))[1])
    made(tmp_path, best(), who, ["a"])
    assert seen == [True]


def test_a_model_that_answers_is_loaded_when_it_is_asked_and_given_back(loaded):
    loads: list[str] = []

    class Untuned:
        title, identity = "u", "u"

        def load(self) -> Any:
            loads.append("x")
            return loaded

    suite = command("model=nano").suite
    who = ModelAnswering(Untuned(), suite)  # type: ignore[arg-type]
    who.release()
    assert not loads
    asked, events = ["What is red?", "word " * 999, "Say <|end|>"], Counter[str]()
    ways = [DRAWN.numbered(n) for n in (0, 1) for _ in asked]
    for _ in range(2):
        said = dict(who.answers(asked * 2, 3, ways, events))
        assert [place for place in range(6) if said[place].text is None] == [1, 2, 4, 5]
        assert said[0].text != said[3].text
        who.release()
    assert loads == ["x", "x"]
    assert (events[NO_ROOM], events[SPECIAL]) == (2, 2)  # once an instruction, twice asked


def test_answers_of_another_vllm_are_other_answers(monkeypatch):
    class Untuned:
        identity = "u"

        def make(self) -> None:
            return

    who = ModelAnswering(Untuned(), command("model=nano", "backend=vllm").suite)  # type: ignore[arg-type]
    made_by = []
    for version in ("1.0", "2.0"):
        monkeypatch.setattr("heed.models.vllm.version", lambda _, found=version: found)
        made_by.append(who.about)
    assert [about["backend"]["version"] for about in made_by] == ["1.0", "2.0"]
    assert made_by[0] | {"backend": None} == made_by[1] | {"backend": None}


def test_another_choice_of_the_same_draws_asks_nobody(tmp_path):
    """So that the best and the worst are of the same answers, and are paid once."""
    table = {"a": ["x", "xx", "xxx"], "b": ["y", "yyy", "yy"]}
    first, _ = made(tmp_path, best(), Says(table), list(table))
    silent = Says(table, dies_after=0)
    last, events = made(tmp_path, best("worst"), silent, list(table))
    assert [row["completion"] for row in first] == ["xxx", "yyy"]
    assert [row["completion"] for row in last] == ["x", "y"]
    assert (events[KEPT], events["told"]) == (6, 6)
    (only,), _ = made(tmp_path, way(sampling=DRAWN), Says({"a": ["x"]}), ["a"])
    assert only["completion"] == "x"
    hot = Sampling(temperature=1.5, top_p=1.0, seed=0)
    for other in (replace(best(), max_new_tokens=6), replace(best(), sampling=hot)):
        with pytest.raises(KeyboardInterrupt):
            made(tmp_path, other, silent, list(table))


def test_an_answer_that_stands_in_the_journal_twice_is_told_once(tmp_path):
    """As two processes on a shared folder may leave it."""
    table: dict[str, list[str | None]] = {"a": ["x", "xx", "xxx"]}
    made(tmp_path, best(), Says(table), ["a"])
    (journal,) = (tmp_path / "out/teachers").glob("*.answers.jsonl")
    journal.write_bytes(journal.read_bytes() * 2)
    rows, events = made(tmp_path, best("worst"), Says(table, dies_after=0), ["a"])
    assert [row["completion"] for row in rows] == ["x"]
    assert (events["said"], events[KEPT]) == (3, 3)


def test_what_failed_alone_is_asked_again_where_the_rows_are_removed(tmp_path):
    made(tmp_path, way(), Says({"a": ["x"], "b": [None]}), ["a", "b"])
    (done,) = (tmp_path / "out/teachers").glob("*/")
    shutil.rmtree(done)
    again = Says({"a": ["x"], "b": [None]})
    made(tmp_path, way(), again, ["a", "b"])
    assert again.asked == [("b", 0)]


def test_draws_that_cannot_be_chosen_are_counted(tmp_path):
    table: dict[str, list[str | None]] = {
        "a": ["abc", "", "", None], "b": ["", "", "", "z"], "c": ["1", "2", "3", "4"],
    }  # fmt: skip
    _, events = made(tmp_path, best(answers=4), Says(table), list(table))
    assert (events[EMPTY_DRAW], events[FAILED_DRAW], events[FEWER]) == (5, 1, 2)
    _, events = made(tmp_path, way(), Says(table), list(table))
    assert not {EMPTY_DRAW, FAILED_DRAW, FEWER} & set(events)


def test_further_input_is_part_of_what_is_asked(tmp_path):
    rows = [{"instruction": "Translate.", "input": text} for text in ("Good day", "", None)]
    path = tmp_path / "asked.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_instructions(str(path), "instruction", "input")
    assert found == ["Translate.\n\nGood day", "Translate.", "Translate."]
    with pytest.raises(DataError, match=r"line 1: the column 'input' is not empty.*generation.inp"):
        read_instructions(str(path), "instruction")
    path.write_text(json.dumps({"instruction": "Hi", "input": "", "system": "Be brief."}) + "\n")
    with pytest.raises(DataError, match="'system' is not empty"):
        read_instructions(str(path), "instruction")
    path.write_text(json.dumps({"input": "Hi"}) + "\n")
    assert read_instructions(str(path), "input") == ["Hi"]
    path.write_text(json.dumps({"instruction": "Hi", "inputs": "x"}) + "\n")
    with pytest.raises(DataError, match=r"generation.input=<column>"):
        read_instructions(str(path), "instruction", "input")


def test_further_input_is_the_same_in_a_table_of_columns(tmp_path):
    path = tmp_path / "asked.csv"
    path.write_text("instruction,input,output\nTranslate.,Good day,x\nSing.,,y\n")
    found = read_instructions(str(path), "instruction", "input")
    assert found == ["Translate.\n\nGood day", "Sing."]
    with pytest.raises(DataError, match="'input' is not empty"):
        read_instructions(str(path), "instruction")


def test_failures_are_tried_again_after_an_interruption(tmp_path):
    table: dict[str, list[str | None]] = {"a": [None], "b": ["x"], "c": ["y"]}
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, way(), Says(table, dies_after=2), ["c", "b", "a"])
    again = Says(table)
    made(tmp_path, way(), again, ["c", "b", "a"])
    assert again.asked == [("a", 0), ("c", 0)]


def test_a_second_time_nobody_is_asked(tmp_path):
    table: dict[str, list[str | None]] = {"a": ["x"], "b": [None]}
    first = made(tmp_path, way(), Says(table), ["a", "b"])
    silent = Says(table, dies_after=0)
    assert made(tmp_path, way(), silent, ["a", "b"]) == first


def test_what_decides_the_responses_names_their_folder(tmp_path):
    around, path = RewardAround(tmp_path, "cpu"), file_of(tmp_path, ["a"])
    who = Says({"a": ["x"]})
    ways = [way(), way(max_new_tokens=6), way(sampling=DRAWN), best(), best("worst")]
    folders = {Job(how, who, path, around).directory() for how in ways}
    folders.add(Job(way(), Says({"a": ["y"]}), path, around).directory())
    assert len(folders) == 6
    assert Job(way(name="other"), who, path, around).directory() in folders
    file_of(tmp_path, ["b"])
    assert Job(way(), who, path, around).directory() not in folders


def test_a_teacher_who_says_nothing_is_none(tmp_path):
    with pytest.raises(RunError, match="no response to any of 2"):
        made(tmp_path, way(), Says({"a": [None], "b": [" "]}), ["a", "b"])
    with pytest.raises(DataError, match="scores none of 3 answers"):
        made(tmp_path, best(), Says({"a": ["?", "?", "?"]}), ["a"])


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"answers": 2}, {"answers"}),
        ({"pick": "best"}, {"answers", "sampling", "reward"}),
        ({"pick": "best", "answers": 2, "reward": Length()}, {"sampling"}),
        ({"reward": Length()}, {"reward"}),
        ({"pick": "worst", "answers": 2, "sampling": DRAWN,
          "reward": Column(name="c", key=None)}, {"reward"}),
        ({"pick": "best", "answers": 2, "sampling": DRAWN, "reward": Preference(
            name="j", path="", scale="0 to 1", instructions="", outputs="")}, {"reward"}),
    ],
)  # fmt: skip
def test_ways_that_contradict_themselves_are_mistakes(wrong, where):
    with pytest.raises(ConfigError) as caught:
        way(**wrong)
    assert {mistake.where for mistake in caught.value.mistakes} == where


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no instruction"),
        ('{"prompt": "x"}\n', "generation.column="),
        ('{"instruction": "x"}\n{"instruction": " "}\n', "line 2: the instruction is empty"),
        ('{"instruction": 3}\n', "not text"),
        ('{"instruction": "x"\n', "not JSON"),
    ],
)
def test_a_bad_file_of_instructions_is_named_with_its_line(tmp_path, text: str, said: str):
    path = tmp_path / "asked.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_instructions(str(path), "instruction")


def command(*words: str):
    return compose_component(ROOT / "conf", "evaluate", words)


GREEDY = ("generation=greedy", "generation.max_new_tokens=4")


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (["model=nano", "generate=a.jsonl"], {"generation"}),
        (["model=nano", *GREEDY], {"generation"}),
        (["generate=a.jsonl", *GREEDY], {"model"}),
        (["endpoint=openai", "endpoint.model=m"], {"endpoint"}),
        (["model=nano", "generate=a.txt", *GREEDY], {"generate"}),
        (["control=sure", "generate=a.jsonl", *GREEDY], {"control"}),
        (["model=nano", "generate=a.jsonl", *GREEDY, "endpoint=openai", "endpoint.model=m"],
         {"model"}),
        (["model=nano", "generate=a.jsonl", *GREEDY, "trainer.devices=2"], {"trainer.devices"}),
    ],
)  # fmt: skip
def test_half_a_command_is_a_mistake(words: list[str], where: set[str]):
    with pytest.raises(ConfigError) as caught:
        command(*words)
    assert {mistake.where for mistake in caught.value.mistakes} == where


@pytest.mark.parametrize("word", ["generate=NONE", "generation.column=prompt"])
def test_a_bad_file_is_one_screen_before_anything_heavy(tmp_path, word: str):
    asked = file_of(tmp_path, ["Hi"])
    words = [f"generate={asked}", "model=nano", *GREEDY, f"outputs={tmp_path}/out"]
    words.append(word.replace("NONE", f"{tmp_path}/none.jsonl"))
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['evaluate.py', *{words}]\n"
        "try:\n"
        f"    runpy.run_path('{ROOT}/evaluate.py', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 2\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert said.returncode == 0, said.stderr
    assert "Cannot go on" in said.stderr
    assert not (tmp_path / "out").exists()


class Refusing:
    """An API that refuses one instruction and answers the others."""

    def ask(self, request: dict[str, Any], kept: Path) -> dict[str, Any]:
        (message,) = request["messages"]
        if message["content"] == "no":
            raise RefusedError("status 400")
        end = {"long": "length", "cut": "content_filter", "tool": "tool_calls", "null": None}
        finish = end.get(message["content"], "stop")
        halves = int(message["content"] == "half")
        return {
            "content": "yes", "read": 3, "written": 1, "served": "m-1", "finish": finish,
            "halves": halves,
        }  # fmt: skip


def test_an_endpoint_s_refusal_is_a_row_and_its_cost_is_told(tmp_path, monkeypatch):
    made_of = command(
        "generate=a.jsonl", *GREEDY, "endpoint=openai", "endpoint.model=m", f"outputs={tmp_path}"
    )
    who = EndpointAnswering(made_of.endpoint, tmp_path)
    monkeypatch.setattr(type(made_of.endpoint), "api", property(lambda _: Refusing()))
    rows, events = made(tmp_path, made_of.generation, who, ["hi", "no", "long"])
    assert [row["completion"] for row in rows] == ["yes", "", "yes"]
    assert [row["stop"] for row in rows] == ["stop", None, "cap"]
    assert events == {
        REFUSED: 1, FAILED: 1, f"{FIRST} status 400": 1, AT_CAP: 1, "served by m-1": 2,
        "tokens read, as charged": 6, "tokens written, as charged": 2,
    }  # fmt: skip


def test_an_endpoint_that_refuses_all_is_asked_five_times_and_quoted(tmp_path, monkeypatch):
    made_of = command(
        "generate=a.jsonl", *GREEDY, "endpoint=openai", "endpoint.model=m-0125",
        f"outputs={tmp_path}", "generation.max_new_tokens=9",
    )  # fmt: skip
    assert made_of.endpoint.name == "m-0125"
    who, asked = EndpointAnswering(made_of.endpoint, tmp_path), []

    class No(Refusing):
        def ask(self, request, kept):
            asked.append(request)
            said = "no reply: use max_completion_tokens"
            raise RefusedError(f"{said}. {KEPT_IN} here: go on.")

    monkeypatch.setattr(type(made_of.endpoint), "api", property(lambda _: No()))
    texts = [str(i) for i in range(50)]
    with pytest.raises(RunError, match=r"first 5.*use max_completion_tokens") as caught:
        made(tmp_path, made_of.generation, who, texts)
    assert "go on" not in str(caught.value)
    assert len(asked) == 5


def test_answers_that_are_refused_are_counted_as_requests_and_not_as_instructions(tmp_path):
    """Of two instructions with three draws each, all is given up after five requests."""

    class No:
        name, patience = "m", 5

        def answers(self, asked, most, ways, events):
            events["status 400"] += 1
            yield from ((place, Answer(None, 0, None)) for place in range(len(asked)))

    draws = Draws(None, 3, 9)
    with pytest.raises(RunError, match=r"each of the first 5 requests, .*status 400") as said:
        answers_of(No(), draws, ["a", "b"], tmp_path / "journal.jsonl", Counter())
    assert "instructions" not in str(said.value)


def test_a_few_that_are_refused_again_end_nothing(tmp_path, monkeypatch):
    made_of = command(
        "generate=a.jsonl", *GREEDY, "endpoint=openai", "endpoint.model=m", f"outputs={tmp_path}"
    )
    who = EndpointAnswering(made_of.endpoint, tmp_path)

    class Some(Refusing):
        def ask(self, request, kept):
            if int(request["messages"][0]["content"]) > 1:
                raise RefusedError("status 400")
            return super().ask(request, kept)

    monkeypatch.setattr(type(made_of.endpoint), "api", property(lambda _: Some()))
    texts = [str(i) for i in range(12)]
    for _ in range(2):  # the second time only those are asked that were refused
        _, events = made(tmp_path, made_of.generation, who, texts)
        assert (events[FAILED], events["served by m-1"], events[REFUSED]) == (10, 2, 10)
        (done,) = (tmp_path / "out/teachers").glob("*/")
        shutil.rmtree(done)


def test_how_a_reply_ended_is_told_and_a_filtered_one_is_none(tmp_path, monkeypatch):
    made_of = command(
        "generate=a.jsonl", *GREEDY, "endpoint=openai", "endpoint.model=m", f"outputs={tmp_path}"
    )
    who = EndpointAnswering(made_of.endpoint, tmp_path)
    monkeypatch.setattr(type(made_of.endpoint), "api", property(lambda _: Refusing()))
    rows, events = made(tmp_path, made_of.generation, who, ["hi", "cut", "tool", "null", "half"])
    assert [row["completion"] for row in rows] == ["yes", "", "yes", "yes", "yes"]
    assert [row["missing"] for row in rows] == [None, FAILED, None, None, None]
    told = {what: n for what, n in events.items() if "tokens" not in what and "served" not in what}
    assert told == {FILTERED: 1, FAILED: 1, f"{ENDED} tool_calls": 1, f"{ENDED} None": 1, HALVES: 1}


@pytest.mark.slow
def test_a_student_s_responses_are_a_teacher_to_train_on_and_to_compare(tmp_path, capsys):
    asked = [f"Tell me the color of {name}." for name in ("Ada", "Ivan", "Dora")]
    asked += ["Say " + "red " * 130]  # more than the student's context
    asked += ["What does <end> mean?"]
    path = file_of(tmp_path, asked)
    student = [
        "model=nano", "model.architecture.hidden=16", "model.architecture.ffn=16",
        "model.architecture.heads=2", "model.architecture.kv_heads=2",
        "model.pretraining.data.steps=2", "model.pretraining.teacher.documents=200",
        f"generate={path}", "generation.max_new_tokens=6",
    ]  # fmt: skip
    drawn = ["generation=sampled", "generation.sampling.temperature=1.0"]
    ways = {"greedy": ["generation=greedy"], "drawn": [*drawn, "generation.sampling.top_p=0.9"]}
    teachers = {}
    for name, words in ways.items():
        run_evaluation(evaluation(tmp_path / "out", *student, *words))
        said = capsys.readouterr().out
        assert "5 responses of nano, untuned" in said
        assert f"1 x {NO_ROOM}" in said
        assert f"1 x {SPECIAL}" in said
        assert "remove this folder" in said
        (line,) = [text for text in said.splitlines() if text.lstrip().startswith("python train")]
        settings = line.split()[2:]
        teachers[name] = compose_component(ROOT / "conf", "train", settings).teacher
    found = align(teachers, limit=None)
    assert len(found.ids) == 3
    assert {e.messages[0].content for e in found.examples["drawn"]} == set(asked[:3])
    texts = {name: [e.messages[1].content for e in found.examples[name]] for name in teachers}
    assert texts["greedy"] != texts["drawn"]
    run_evaluation(evaluation(tmp_path / "out", *student, *ways["greedy"]))
    assert "5 responses" in capsys.readouterr().out

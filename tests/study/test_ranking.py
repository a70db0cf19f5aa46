"""Teachers are weighed on the same instructions, whatever cannot be read is said, and kept once."""

import json
import re
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
import pytest
from tiny import ROOT, STUDENT, evaluation

import heed.study.rank_teachers as rank_module
from heed.analysis import reader
from heed.analysis.ranking import CAR
from heed.analysis.response_loss import response_losses
from heed.analysis.rewards import KEPT, Column, Reward, RewardModel
from heed.core.component import component
from heed.core.errors import ConfigError, DataError, RunError
from heed.core.files import read_json, write_json
from heed.core.identity import Incidental
from heed.data.align import TeacherSet, align
from heed.data.layout import Columns
from heed.data.source import LocalFile
from heed.data.teacher import Responses, Teacher
from heed.models.student import Scratch
from heed.study.rank_teachers import Asked, rank_teachers
from heed.study.ranking import UNREWARDED, further_columns, measure

AROUND: Any = SimpleNamespace(trainer=SimpleNamespace(device="cpu"))
ASKED = [f"Name thing {i}." for i in range(12)]
RANKING = (
    "analysis=car", "teachers=play", "reward@analysis.reward=play", "analysis.beta=1",
    "analysis.per=token", "analysis.conditioned=true",
)  # fmt: skip


@component
class Reds(Reward):
    """How often a response says red; of a response that says blank there is none."""

    name: Annotated[str, Incidental]
    less: float = 0.0

    def of(self, examples, around):
        said = [example.messages[-1].content for example in examples]
        around.events["looked at"] += len(said)
        return [None if "blank" in text else text.count("red") - self.less for text in said]


@component
class Telling(Reds):
    """The same, and it says why there is none."""

    def of(self, examples, around):
        found = super().of(examples, around)
        around.events["blank, no reward"] += found.count(None)
        return found


def settings(**changes: Any) -> CAR:
    given = {
        "reward": Reds(name="reds"), "also": {}, "beta": 1.0, "betas": (), "per": "token",
        "conditioned": True, "negative": "refuse", "unrewarded": "refuse", "rewarded": "all",
        "weighed": "all", "max_tokens": None, "over_long": "drop", "on_bad_row": "error",
        "precision": "weights", "reference": None, "limit": None, "batch_tokens": 512,
    }  # fmt: skip
    return CAR(**(given | changes))


@pytest.fixture
def teachers(teacher_of) -> dict[str, Teacher]:
    """Three teachers; b's third response is long, c has no eighth."""
    rows: dict[str, list[tuple[str, str]]] = {
        "a": [(asked, "red lamp") for asked in ASKED],
        "b": [(asked, f"a red, red fish {i}") for i, asked in enumerate(ASKED)],
        "c": [(asked, f"green {'red ' * (i % 3)}") for i, asked in enumerate(ASKED)],
    }
    rows["b"][2] = (ASKED[2], "very " * 20 + "red")
    del rows["c"][7]
    return {name: teacher_of(said, name) for name, said in rows.items()}


@pytest.fixture
def found_by(student: Scratch, teachers, tmp_path: Path) -> Callable[..., Any]:
    def found(given=teachers, where: str = "analysis", **changes: Any) -> Any:
        return measure(settings(**changes), student, given, lambda: AROUND, tmp_path, where)

    return found


def test_a_response_that_is_too_long_takes_its_instruction_from_all_teachers(found_by):
    found = found_by(max_tokens=60)
    assert found.counts == {"shared": 11, "asked": 11, "kept": 10, "rewarded": 10, "weighed": 10}
    assert found.events["b"]["dropped: over-long (read by tiny)"] == 1
    assert not [what for what in found.events["a"] if "over-long" in what]
    assert found.measured.read["self"].given.shape == (3, 10)
    assert found_by().counts["kept"] == 11  # 120 tokens fit into the student's context


def test_what_is_left_out_is_read_of_no_teacher(found_by, monkeypatch):
    weighed = []

    def noted(loaded, examples, **how):
        weighed.append(len(examples))
        return response_losses(loaded, examples, **how)

    monkeypatch.setattr(reader, "response_losses", noted)
    assert found_by(max_tokens=60).counts["kept"] == 10
    assert weighed == [10] * 6  # three teachers, after the instruction and alone
    with pytest.raises(DataError, match="cannot be read"):
        found_by(max_tokens=50, over_long="refuse")
    assert len(weighed) == 6


def test_a_record_that_left_out_what_another_keeps_is_no_loss_of_zero(found_by, tmp_path):
    found_by()
    file, *_ = [
        f for f in (tmp_path / "cache" / "response_losses").iterdir() if read_json(f)["conditioned"]
    ]
    record = read_json(file)
    record["losses"] |= {min(record["losses"]): [0.0, 0, "dropped: as other code said"]}
    write_json(file, record)
    with pytest.raises(DataError, match=r"tiny could read all.*as other code said.*Remove .*cache"):
        found_by()


def test_too_few_instructions_are_refused_before_anything_is_weighed(found_by, monkeypatch):
    monkeypatch.setattr(reader, "response_losses", lambda *_, **__: pytest.fail("weighed"))
    with pytest.raises(DataError, match="an interval needs at least two"):
        found_by(max_tokens=22)


def test_what_is_measured_is_what_the_student_reads(found_by, student, teachers):
    found, aligned, loaded = found_by(), align(teachers, limit=None), student.fresh()
    for place, (name, examples) in enumerate(aligned.examples.items()):
        for kind, conditioned in (("given", True), ("alone", False)):
            expected = response_losses(loaded, examples, conditioned=conditioned, batch_tokens=99)
            values = getattr(found.measured.read["self"], kind)[place]
            assert values == pytest.approx([one.nats for one in expected], rel=1e-5), name
        said = [example.messages[-1].content.count("red") for example in examples]
        assert found.measured.rewards["reds"][place].tolist() == said


def test_the_order_of_teachers_changes_no_number(found_by, teachers):
    one, two = found_by(), found_by(dict(reversed(teachers.items())))
    assert one.measured.ids == two.measured.ids
    for place, name in enumerate(one.measured.teachers):
        other = two.measured.teachers.index(name)
        assert np.array_equal(
            one.measured.read["self"].given[place], two.measured.read["self"].given[other]
        )


def test_too_long_is_refused_where_that_was_chosen(found_by):
    with pytest.raises(DataError, match=r"'b': 1 responses cannot be read by tiny.*over_long=drop"):
        found_by(max_tokens=60, over_long="refuse")


def test_what_cannot_be_rendered_is_refused_or_dropped_for_all(found_by, teachers, teacher_of):
    odd = teachers | {"d": teacher_of([(a, "<|end|>" if a == ASKED[4] else a) for a in ASKED], "d")}
    with pytest.raises(DataError, match=r"'d': 1 responses.*on_bad_row=drop"):
        found_by(odd)
    found = found_by(odd, on_bad_row="drop")
    assert found.counts["kept"] == 10
    assert found.events["d"]["dropped: row cannot be rendered (read by tiny)"] == 1


def test_a_reference_reads_too_and_what_it_cannot_read_is_dropped_for_all(found_by, student):
    short = replace(student, name="short", architecture=replace(student.architecture, context=60))
    found = found_by(reference=short)
    assert found.counts["kept"] == 10
    assert found.events["b"]["dropped: over-long (read by short)"] == 1
    assert found.measured.read["reference"].given.shape == (3, 10)


def test_a_missing_reward_leaves_the_instruction_out_of_all_means(found_by, teachers, teacher_of):
    said = [(asked, "blank" if i == 1 else "red") for i, asked in enumerate(ASKED)]
    found = found_by(teachers | {"d": teacher_of(said, "d")})
    assert found.counts == {"shared": 11, "asked": 11, "kept": 11, "rewarded": 10, "weighed": 11}
    assert found.events["d"]["reds: looked at"] == 11


def test_a_teacher_without_rewards_is_refused_or_left_out(found_by, teachers, teacher_of):
    more = teachers | {"d": teacher_of([(asked, "blank") for asked in ASKED], "d")}
    with pytest.raises(DataError, match=r"no response of d has one.*unrewarded=leave_out"):
        found_by(more)
    found = found_by(more, unrewarded="leave_out")
    assert found.counts["rewarded"] == 11
    assert np.isnan(found.measured.rewards["reds"][3]).all()
    assert any("no CAR and no rank" in what for what in found.events["d"])
    bare = {name: teacher_of([(a, "blank") for a in ASKED], name) for name in ("a", "b")}
    with pytest.raises(DataError, match="no response of a, b has one"):
        found_by(bare, unrewarded="leave_out")


def test_instructions_that_a_lacking_reward_costs_are_counted_for_its_teacher(
    found_by, teachers, teacher_of
):
    said = [(asked, "red" if i in (2, 5) else "blank") for i, asked in enumerate(ASKED)]
    found = found_by(teachers | {"d": teacher_of(said, "d")})
    assert found.counts["rewarded"] == 2
    assert found.events["d"][f"reds: {UNREWARDED}"] == 9
    assert not any(UNREWARDED in what for name in "abc" for what in found.events[name])


def test_a_reward_that_tells_what_it_lacks_is_not_counted_twice(found_by, teachers, teacher_of):
    said = [(asked, "red" if i in (2, 5) else "blank") for i, asked in enumerate(ASKED)]
    found = found_by(teachers | {"d": teacher_of(said, "d")}, reward=Telling(name="reds"))
    assert found.events["d"]["reds: blank, no reward"] == 9
    assert not any(UNREWARDED in what for what in found.events["d"])


def test_a_teacher_without_a_column_is_left_out_where_that_was_chosen(
    found_by, teachers, teacher_of
):
    """The paper's own set: the zoo has rewards, GPT-4 has none."""
    some = {
        name: replace(one, examples=tuple(replace(e, reward=0.5) for e in one.examples))
        for name, one in teachers.items()
    }
    bare = {name: teacher_of([(asked, "fine") for asked in ASKED], name) for name in "de"}
    column = Column(name="judge", key=None)
    with pytest.raises(DataError, match="no response of d, e has one"):
        found_by(some | bare, reward=column)
    found = found_by(some | bare, reward=column, unrewarded="leave_out")
    rewards = found.measured.rewards["judge"]
    assert np.isnan(rewards[3:]).all()
    assert (rewards[:3] == 0.5).all()
    assert found.counts["rewarded"] == 11
    assert any("no CAR and no rank" in what for what in found.events["d"])
    assert not any("in no mean reward" in what for what in found.events["d"])
    with pytest.raises(DataError, match="no response of d, e has one"):
        found_by(bare, reward=column, unrewarded="leave_out")


def test_instructions_beyond_the_limit_are_shared_and_not_read(found_by):
    found = found_by(limit=6)
    assert (found.counts["shared"], found.counts["asked"]) == (11, 6)


def test_a_set_of_which_one_teacher_has_no_column_is_ranked_without_it(found_by, tmp_path: Path):
    teachers = {"s": scored(tmp_path, mine="good"), "t": scored(tmp_path)}
    mine = Column(name="c", key="mine")
    with pytest.raises(DataError, match=r"no response of t has one.*no score in layout.rewards"):
        found_by(teachers, reward=mine)
    found = found_by(teachers, reward=mine, unrewarded="leave_out")
    assert found.counts["rewarded"] == 12
    assert np.isnan(found.measured.rewards["c"]).all(axis=1).tolist() == [False, True]


def test_what_is_refused_for_its_rewards_is_refused_before_anything_is_read(
    found_by, teachers, teacher_of, monkeypatch
):
    monkeypatch.setattr(Scratch, "fresh", never)
    more = teachers | {"d": teacher_of([(asked, "blank") for asked in ASKED], "d")}
    with pytest.raises(DataError, match="no response of d has one"):
        found_by(more)


def test_a_negative_mean_is_refused_before_any_loss_is_read(found_by, monkeypatch):
    monkeypatch.setattr(reader, "response_losses", never)
    with pytest.raises(DataError, match=r"reward reds: the mean of a, b, c is negative"):
        found_by(reward=Reds(name="reds", less=9.0))
    with pytest.raises(AssertionError):  # on to the reading
        found_by(reward=Reds(name="reds", less=9.0), negative="keep")


class Scorer:
    """Stands for a reward model in memory: counts letters."""

    tokenizer = SimpleNamespace(all_special_tokens=[], added_tokens_decoder={})

    def text_of(self, messages):
        return messages[-1].content

    def ids_of(self, text):
        return [ord(letter) for letter in text]

    def scores(self, rows, batch_tokens):
        yield from ((place, float(len(row))) for place, row in enumerate(rows))


@pytest.fixture
def scorers(monkeypatch) -> list[Any]:
    """Every reward model that is loaded, by a reference that does not keep it."""
    loaded: list[Any] = []

    def load(reward: RewardModel, device: str) -> Scorer:
        assert not [one for one in loaded if one() is not None], "two in memory at once"
        scorer = Scorer()
        loaded.append(weakref.ref(scorer))
        return scorer

    monkeypatch.setattr(RewardModel, "_load", load)
    return loaded


def scoring(folder: Path, name: str) -> RewardModel:
    place = folder / name
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(json.dumps(name))
    return RewardModel(
        name=name, path=str(place), revision=None, dtype="float32", template=None,
        max_tokens=500, over_long="cut", output="logits", trust_remote_code=False,
        batch_tokens=100,
    )  # fmt: skip


def test_a_reward_model_is_loaded_once_for_all_teachers_and_gone_before_a_student_reads(
    found_by, scorers, tmp_path: Path, monkeypatch
):
    fresh = Scratch.fresh

    def loads_student(student: Scratch) -> Any:
        assert len(scorers) == 2
        assert [one() for one in scorers] == [None, None]
        return fresh(student)

    monkeypatch.setattr(Scratch, "fresh", loads_student)
    one, two = (scoring(tmp_path, name) for name in ("one", "two"))
    found = found_by(reward=one, also={"two": two})
    assert len(scorers) == 2
    assert found.measured.rewards["one"].tolist()[0] == [len("red lamp")] * 11
    assert not any(KEPT in what for events in found.events.values() for what in events)
    again = found_by(reward=one, also={"two": two})
    assert len(scorers) == 2  # all rewards are on the disk
    assert {name: again.events[name][f"two: {KEPT}"] for name in "abc"} == {
        "a": 11, "b": 11, "c": 11
    }  # fmt: skip


@pytest.mark.parametrize("where", ["analysis", "study.teaching"])
def test_every_refusal_names_its_choice_as_it_is_typed(found_by, teachers, teacher_of, where: str):
    """A study has the same choices under a key of its own."""
    bare = teachers | {"d": teacher_of([(asked, "blank") for asked in ASKED], "d")}
    odd = teachers | {"d": teacher_of([(a, "<|end|>" if a == ASKED[4] else a) for a in ASKED], "d")}
    refused: list[tuple[Any, dict[str, Any], set[str]]] = [
        (bare, {}, {"unrewarded"}),
        (teachers, {"max_tokens": 60, "over_long": "refuse"}, {"over_long", "max_tokens"}),
        (odd, {}, {"on_bad_row"}),
        (teachers, {"limit": 1}, {"max_tokens", "limit"}),
    ]
    for given, changes, keys in refused:
        with pytest.raises(DataError) as caught:
            found_by(given, where=where, **changes)
        named = re.findall(rf"{re.escape(where)}\.([a-z_]+)", str(caught.value))
        assert set(named) == keys
        assert ("analysis." in str(caught.value)) == (where == "analysis")
    with pytest.raises(DataError, match=rf"Give {where}\.negative=shift_min"):
        found_by(where=where, reward=Reds(name="reds", less=9.0))


def test_halves_share_no_instruction(found_by):
    found = found_by(rewarded="first_half", weighed="second_half")
    rewarded, weighed = found.measured.rewarded, found.measured.weighed
    assert not (rewarded & weighed).any()
    assert (rewarded | weighed).all()
    assert 0 < rewarded.sum() < 11


@pytest.fixture
def asked(student: Scratch, teachers, tmp_path: Path) -> Asked:
    whom = TeacherSet(name="toys", teachers=teachers)
    bootstrap = {"level": 0.95, "resamples": 50, "seed": 0}
    return Asked(settings(), student, whom, bootstrap, lambda: AROUND, tmp_path)


def scored(folder: Path, **columns: str) -> Responses:
    """A teacher whose rows hold two scores; `columns` says which is called what."""
    path = folder / "scored.jsonl"
    rows = [{"p": text, "r": "a", "good": i, "bad": -i} for i, text in enumerate(ASKED)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    layout = Columns(
        system=None, instruction="p", input=None, response="r", sparse=False, reward=None,
        rewards=columns,
    )  # fmt: skip
    return Responses(name="s", source=LocalFile(path=str(path)), layout=layout)


def test_a_score_of_another_column_is_another_ranking(asked: Asked, tmp_path: Path):
    """Further scores are in no teacher's digest, because no training reads them."""
    found = {}
    for column in ("good", "bad"):
        teachers = {"s": scored(tmp_path, mine=column), "t": replace(
            scored(tmp_path, mine=column), name="t")}  # fmt: skip
        whom = replace(asked.teachers, teachers=teachers)
        column_of = settings(reward=Column(name="c", key="mine"), negative="keep")
        found[column], _ = rank_teachers(replace(asked, teachers=whom, analysis=column_of))
    assert found["good"] != found["bad"]


def test_scores_that_no_reward_reads_decide_no_ranking(tmp_path: Path):
    teachers = {"s": scored(tmp_path, mine="good", other="bad"), "t": scored(tmp_path)}
    reads = settings(reward=Column(name="c", key="mine"))
    assert further_columns(reads, teachers) == {"s": [{"mine": "good"}], "t": []}
    assert further_columns(settings(), teachers) == {"s": [], "t": []}
    own = settings(reward=Column(name="c", key=None))
    assert further_columns(own, teachers) == {"s": [], "t": []}


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("made again")


def test_a_ranking_is_made_once_and_whole(asked: Asked, monkeypatch):
    directory, said = rank_teachers(asked)
    assert {path.name for path in directory.iterdir()} == {
        "figures", "manifest.json", "report.html", "summary.json", "table.csv"
    }  # fmt: skip
    assert directory.parent == asked.root / "rankings"
    assert directory.name.startswith("tiny-toys--")
    assert said[0].startswith("toys for tiny: b is ranked first in ")
    monkeypatch.setattr(rank_module, "measure", never)
    assert rank_teachers(asked) == (directory, said)


def test_another_beta_is_another_ranking_of_the_same_losses(asked: Asked, monkeypatch):
    directory, _ = rank_teachers(asked)
    monkeypatch.setattr(Scratch, "fresh", never)
    other = replace(asked, analysis=settings(beta=3.0))
    assert rank_teachers(other)[0] != directory
    with pytest.raises(AssertionError, match="made again"):
        rank_teachers(replace(asked, analysis=settings(max_tokens=50)))


@pytest.mark.parametrize("what", ["teacher", "student", "bootstrap"])
def test_what_decides_a_ranking_gives_it_another_place(asked: Asked, teacher_of, what: str):
    directory, _ = rank_teachers(asked)
    changed = {
        "teacher": {"teachers": TeacherSet(name="toys", teachers=dict(asked.teachers.teachers)
                    | {"a": teacher_of([(a, "lamp red") for a in ASKED], "a")})},
        "student": {"student": replace(asked.student, seed=1)},
        "bootstrap": {"bootstrap": {**asked.bootstrap, "seed": 1}},
    }  # fmt: skip
    assert rank_teachers(replace(asked, **changed[what]))[0] != directory


@pytest.mark.parametrize(
    "refused",
    [{"max_tokens": 60, "over_long": "refuse"}, {"reward": Reds(name="reds", less=9.0)}],
)
def test_a_failed_ranking_leaves_nothing_behind(asked: Asked, refused: dict[str, Any]):
    """Whether it fails where responses are read, or where the page is written."""
    with pytest.raises(DataError):
        rank_teachers(replace(asked, analysis=settings(**refused)))
    assert not list(asked.root.glob("rankings/*"))


@pytest.mark.parametrize("found", [{}, {"said": 3, "code": "x"}, []])
def test_a_damaged_record_is_named(asked: Asked, found: Any):
    directory, _ = rank_teachers(asked)
    write_json(directory / "manifest.json", found)
    with pytest.raises(RunError, match=r"does not hold a whole ranking.*Remove the directory"):
        rank_teachers(asked)


def mistakes(*words: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        evaluation(Path("nowhere"), *words)
    return {m.where: f"{m.why} {m.action}" for m in caught.value.mistakes}


def test_a_ranking_needs_a_student_and_teachers():
    said = mistakes(*(word for word in RANKING if "teachers" not in word), "run=abc")
    assert "no run" in said["analysis"]
    assert "Give teachers=<set>" in said["teachers"]
    assert (
        "by analysis=car, and by nothing else"
        in mistakes("model=nano", "teachers=play")["teachers"]
    )


def test_what_the_paper_leaves_open_is_asked_for():
    said = mistakes("model=nano", "analysis=car", "teachers=play", "reward@analysis.reward=play")
    assert set(said) == {f"analysis.{key}" for key in ("beta", "per", "conditioned")}
    said = mistakes("model=nano", *(word for word in RANKING if "@" not in word))
    assert "Give reward@analysis.reward=<reward>" in said["analysis.reward"]


@pytest.mark.slow
def test_the_recorded_ranking_of_a_command_imports_nothing_heavy(tmp_path: Path):
    """The command by itself, twice: pre-trained, weighed and ranked; then read back."""
    line = ["evaluate.py", "model=nano", *STUDENT, *RANKING, "analysis.limit=40",
            "analysis.on_bad_row=drop", f"outputs={tmp_path}"]  # fmt: skip
    code = (
        "import runpy, sys\n"
        f"sys.argv = {line}\n"
        "runpy.run_path('evaluate.py', run_name='__main__')\n"
        "heavy = {'torch', 'transformers', 'matplotlib', 'scipy'} & sys.modules.keys()\n"
        "print('heavy:', sorted(heavy))\n"
    )
    printed = []
    for _ in range(2):
        made = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=240
        )
        assert made.returncode == 0, made.stderr
        printed.append(made)
    (directory,) = tmp_path.glob("rankings/*")
    assert "torch" in printed[0].stdout.splitlines()[-1]
    assert printed[1].stdout.splitlines()[-1] == "heavy: []"
    assert "this is the recorded ranking" in printed[1].stderr
    assert printed[0].stdout.splitlines()[:-1] == printed[1].stdout.splitlines()[:-1]
    assert len(read_json(directory / "summary.json")["teachers"]) == 16
    shutil.rmtree(directory)

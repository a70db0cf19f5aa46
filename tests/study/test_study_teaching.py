"""A study of teachers: cells become deltas, deltas are ranked once, and what is missing is said."""

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from made_up import CONF, METRIC, planned

from heed.analysis.contrasts import Change
from heed.analysis.rewards import Column
from heed.core.compose import compose_component
from heed.core.errors import ConfigError, DataError, StoppedError
from heed.core.types import ItemScore, Ratio
from heed.data.teacher import Teacher
from heed.study import teaching
from heed.study.measured import Measured, MeasuredCell
from heed.study.ranking import Found
from heed.study.study import Study
from heed.study.teaching import deltas, teaching_of
from heed.study.teaching_groups import Group, groups_of, of_one_state, shared_teachers

BOOTSTRAP = {"level": 0.95, "resamples": 50, "seed": 0}
AXES = ("model", "teacher")
ITEMS = 24
TEACHERS = ("a", "b", "c", "d", "e")


@pytest.fixture(scope="module")
def study() -> Study:
    asked = compose_component(CONF, "sweep", ["study=teachers_play"]).study
    return replace(asked, name="made")


def scores(right: int) -> list[ItemScore]:
    ratios = [Ratio(int(i < right), 1) for i in range(ITEMS)]
    metric = "inst_level_strict_acc"
    named = [{metric: ratio} for ratio in ratios]
    return [ItemScore("play_follow", str(i), "", "", None, 0, m) for i, m in enumerate(named)]


def cell(root: Path, student: str, teacher: str, right: int, seed: int = 1) -> MeasuredCell:
    one = planned(root, seed, student=student, teacher=teacher)
    quick = replace(one.cell, suite=replace(one.cell.suite, resamples=100))
    one = replace(one, cell=quick)
    key = (f"{student}-{teacher}-{seed}-{right}", one.key[1])
    return MeasuredCell(replace(one, key=key), AXES, METRIC, {}, scores(6), scores(right))


def matrix(root: Path, students=("nano", "micro"), teachers=TEACHERS) -> list[MeasuredCell]:
    return [cell(root, s, t, 8 + 3 * i) for s in students for i, t in enumerate(teachers)]


def made_measure(calls: list[str]):
    """Instead of reading weights: rewards in the order of the deltas, losses in the other."""

    def measure(analysis, student, teachers: Mapping, around, root: Path, where: str) -> Found:
        from heed.analysis.car import SELF, Measured, Read

        calls.append(student.name)
        shape = (len(teachers), 10)
        rewards = np.linspace(0.2, 0.9, len(teachers))[:, None] + np.zeros(shape)
        tokens = np.full(shape, 7.0)
        nats = tokens * np.linspace(2.0, 1.0, len(teachers))[:, None]
        every = np.ones(10, dtype=bool)
        numbers = Measured(
            tuple(teachers), tuple("0123456789"), {"play": rewards},
            {SELF: Read(nats, nats + 1, tokens)}, every, every, where,
        )  # fmt: skip
        counts = {"shared": 12, "asked": 11, "kept": 10, "rewarded": 10, "weighed": 10}
        return Found(numbers, {name: {"cut": 1} for name in teachers}, counts)

    return measure


@pytest.fixture
def asked(study: Study, tmp_path: Path, monkeypatch):
    """Ask for the teaching of some cells; how often each student was read is counted."""
    calls: list[str] = []
    monkeypatch.setattr(teaching, "measure", made_measure(calls))

    def ask(cells: list[MeasuredCell], of: Study = study, lost: tuple[str, ...] = ()):
        monkeypatch.setattr(teaching, "measured", lambda *_: Measured(tuple(cells), lost))
        done = {c.planned.key: {"deltas": [c.change.delta]} for c in cells}
        return teaching_of(of, [c.planned for c in cells], done, tmp_path)

    return SimpleNamespace(of=ask, calls=calls, root=tmp_path)


def test_a_study_that_does_not_ask_is_told_nothing(study: Study, tmp_path: Path):
    assert teaching_of(replace(study, teaching=None), [], {}, tmp_path) is None


def test_all_is_found_where_it_was_put_and_read_only_once(asked, tmp_path: Path):
    cells = matrix(tmp_path)
    found = asked.of(cells)
    assert [s["name"] for s in found["students"]] == ["nano", "micro"]
    assert [row["teacher"] for row in found["students"][0]["teachers"]] == list(TEACHERS)
    made = [row["delta"] for row in found["students"][1]["teachers"]]
    assert made == pytest.approx([(2 + 3 * i) / ITEMS for i in range(5)])
    rhos = {name: rho["value"] for name, rho in found["mean"].items() if rho is not None}
    assert (rhos["reward"], rhos["loss"], rhos["car"]) == (1, -1, 1)
    assert (found["items"], found["reward"], found["notes"]) == (ITEMS, "play", [])
    assert [one["kept"] for one in found["counts"].values()] == [10, 10]
    assert list(found["counts"]) == ["nano", "micro"]
    assert "rewarded all" in found["choices"]
    assert found["events"]["micro"]["b"] == {"cut": 1}
    assert asked.calls == ["nano", "micro"]
    assert asked.of(cells) == found
    assert asked.calls == ["nano", "micro"]


def test_another_result_or_another_choice_is_read_anew(asked, study: Study, tmp_path: Path):
    cells = matrix(tmp_path)
    asked.of(cells)
    asked.of([*cells[:-1], cell(tmp_path, "micro", "e", 9)])
    assert len(asked.calls) == 4
    other = replace(study, teaching=replace(study.teaching, beta=3.0))
    assert asked.of(cells, other)["formula"].startswith("beta 3,")
    assert len(asked.calls) == 6
    assert len(list((tmp_path / "studies" / "made" / "teaching").iterdir())) == 3


def test_teachers_that_one_student_lacks_are_left_out_by_name(asked, tmp_path: Path):
    cells = matrix(tmp_path)[:-1]
    found = asked.of(cells)
    assert [row["teacher"] for row in found["students"][0]["teachers"]] == list("abcd")
    assert "left out here: e." in found["notes"][0]


def test_of_too_few_teachers_the_reason_is_said_and_nothing_is_read(asked, tmp_path: Path):
    found = asked.of(matrix(tmp_path, teachers=TEACHERS[:3]))
    assert "3 teachers are finished" in found["reason"]
    assert "0 teachers are finished" in asked.of([])["reason"]
    assert not asked.calls


def test_what_cannot_be_read_leaves_a_page_with_its_reason(asked, tmp_path: Path, monkeypatch):
    def refuse(*_):
        raise DataError("No reward at all.")

    monkeypatch.setattr(teaching, "measure", refuse)
    found = asked.of(matrix(tmp_path))
    assert found["reason"].endswith("No reward at all.")
    assert found["failed"] == f"{found['reason']} The same command tries again."
    assert not (tmp_path / "studies").exists()


def test_a_refusal_names_the_study_s_own_key(asked, tmp_path: Path, monkeypatch):
    made = made_measure([])

    def below_zero(*given):
        found = made(*given)
        found.measured.rewards["play"][:] -= 1
        return found

    monkeypatch.setattr(teaching, "measure", below_zero)
    reason = asked.of(matrix(tmp_path))["reason"]
    assert "Give study.teaching.negative=shift_min" in reason
    assert "analysis." not in reason


class OutOfMemoryError(RuntimeError):
    """As torch's is."""


@pytest.mark.parametrize("error", [OutOfMemoryError("21 GiB <short>"), IndexError("9 of 8")])
def test_an_error_that_nobody_foresaw_is_said_with_its_traceback_and_ends_no_page(
    asked, tmp_path: Path, monkeypatch, capsys, error: Exception
):
    def breaks(*_):
        raise error

    monkeypatch.setenv("HF_TOKEN", secret := "hf_" + 30 * "a")
    error.add_note(f"sent with {secret}")
    working = teaching.measure
    monkeypatch.setattr(teaching, "measure", breaks)
    found = asked.of(matrix(tmp_path))
    log = tmp_path / "studies" / "made" / "teaching.log"
    for said in (found["reason"], found["failed"], capsys.readouterr().err.replace("\n", " ")):
        assert f"{type(error).__name__}: {error}" in said
        assert "teaching.log" in said
    assert "in breaks" in log.read_text()
    assert secret not in log.read_text()
    monkeypatch.setattr(teaching, "measure", working)
    assert "failed" not in asked.of(matrix(tmp_path))
    assert not log.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), StoppedError("asked to end", 15)])
def test_who_asks_to_stop_while_teachers_are_read_stops_it(
    asked, tmp_path: Path, monkeypatch, error: BaseException
):
    def stops(*_):
        raise error

    monkeypatch.setattr(teaching, "measure", stops)
    with pytest.raises(type(error)):
        asked.of(matrix(tmp_path))


def test_what_is_only_not_finished_has_not_failed(asked, tmp_path: Path):
    cells = matrix(tmp_path, students=("nano",))
    for few in (cells[:3], [*cells[:-1], cell(tmp_path, "nano", "e", 20, seed=2)]):
        assert set(asked.of(few)) == {"reason"}


def test_seeds_are_averaged_and_other_axes_make_groups_of_their_own(tmp_path: Path):
    cells = [cell(tmp_path, "nano", "a", right, seed) for seed, right in ((1, 8), (2, 14))]
    (group,) = groups_of(cells, AXES)
    assert deltas(group, ["a"], BOOTSTRAP).values == pytest.approx([5 / ITEMS])
    moved = [
        replace(one, axes=(*AXES, "lr"), planned=replace(one.planned, overrides=(f"lr={lr}",)))
        for one, lr in zip(cells, ("gentle", "harsh"), strict=True)
    ]
    names = [g.name for g in groups_of(moved, (*AXES, "lr"))]
    assert names == ["nano, lr gentle", "nano, lr harsh"]


def test_shared_teachers_are_those_of_every_group(tmp_path: Path):
    groups = groups_of(matrix(tmp_path)[1:], AXES)
    assert shared_teachers(groups) == list("bcde")
    assert shared_teachers([]) == []


@given(st.lists(st.integers(0, ITEMS), min_size=2, max_size=5), st.integers(0, 5))
def test_items_are_drawn_once_for_all_teachers(rights: list[int], seed: int):
    root = Path("nowhere")
    cells = [cell(root, "nano", f"t{i}", right) for i, right in enumerate(rights)]
    (group,) = groups_of(cells, AXES)
    names = [f"t{i}" for i in range(len(rights))]
    found = deltas(group, names, BOOTSTRAP | {"seed": seed})
    assert found.values == pytest.approx([(right - 6) / ITEMS for right in rights])
    for one, two in ((i, j) for i in range(len(rights)) for j in range(i)):
        if rights[one] == rights[two]:
            assert np.array_equal(found.draws[:, one], found.draws[:, two])
    assert np.allclose(found.draws.mean(axis=0), found.values, atol=0.15)
    turned = deltas(group, names, BOOTSTRAP | {"seed": seed}, sign=-1)
    assert np.array_equal(turned.draws, -found.draws)


def test_cells_of_other_items_are_refused(tmp_path: Path):
    (group,) = groups_of(matrix(tmp_path, students=("nano",)), AXES)
    short = Change({}, np.ones(3), np.ones(3))
    group.by_teacher["b"][0].__dict__["change"] = short
    with pytest.raises(DataError, match="other items"):
        deltas(group, list("ab"), BOOTSTRAP)


def test_families_of_the_study_are_those_of_its_teachers(asked, study: Study, tmp_path: Path):
    cells = matrix(tmp_path)
    (tmp_path / "rows.jsonl").write_text("{}")
    line = ["teacher=file", f"teacher.source.path={tmp_path / 'rows.jsonl'}"]
    file = compose_component(CONF, "train", line).teacher
    sized = []
    for one in cells:
        known = replace(one.planned.cell, teacher=of_family(one, file))
        sized.append(replace(one, planned=replace(one.planned, cell=known)))
    found = asked.of(sized, replace(study, own_families={"nano": ("F",)}))
    assert found["about"]["a"] == {"family": "F", "size_b": 1.0}
    assert [one["student"] for one in found["families"]] == ["nano"]
    assert [(o["smaller"], o["larger"]) for o in found["larger"]] == [
        ("a", "b"),
        ("b", "c"),
        ("d", "e"),
    ]
    assert [one["students"] for one in found["larger"]] == [2, 2, 2]
    assert asked.of(cells)["larger"] == []


def test_only_seeds_that_all_teachers_have_are_averaged(asked, tmp_path: Path):
    """Else the difference of two seeds would be told as one of two teachers."""
    cells = matrix(tmp_path)
    more = [cell(tmp_path, "nano", t, 20, seed=2) for t in TEACHERS[:-1]]
    found = asked.of([*cells, *more])
    nano, micro = found["students"]
    assert [row["delta"] for row in nano["teachers"]] == [r["delta"] for r in micro["teachers"]]
    assert found["notes"] == [
        "nano: 4 cells of seeds that not every teacher has finished are left out (seeds 2); "
        "deltas are means over seeds 1."
    ]
    whole = asked.of([*cells, *more, cell(tmp_path, "nano", "e", 20, seed=2)])
    assert whole["notes"] == []
    assert whole["students"][0]["teachers"][0]["delta"] == pytest.approx((2 + 14) / 2 / ITEMS)


def test_teachers_without_a_seed_in_common_are_not_ranked(asked, tmp_path: Path):
    cells = matrix(tmp_path, students=("nano",))[:-1]
    found = asked.of([*cells, cell(tmp_path, "nano", "e", 20, seed=2)])
    assert "no seed" in found["reason"]
    assert not asked.calls


def test_lost_cells_are_said(asked, tmp_path: Path):
    cells, lost = matrix(tmp_path), ("runs/abc: scores are lost",)
    (one,) = asked.of(cells, lost=lost)["notes"]
    assert one == "A finished cell is left out: runs/abc: scores are lost"
    assert "runs/abc: scores are lost" in asked.of(cells[:3], lost=lost)["reason"]


def made_by(code: str, cells: list[MeasuredCell], **settings: str) -> list[MeasuredCell]:
    return [replace(one, beside={"heed's code": code, **settings}) for one in cells]


def test_cells_of_one_state_of_code_and_settings_are_ranked_and_the_others_are_counted(
    asked, tmp_path: Path
):
    """Else the effect of a change of code would be told as one of a teacher."""
    nano, micro = (matrix(tmp_path, students=(name,)) for name in ("nano", "micro"))
    cells = [*made_by("old", nano[:1]), *made_by("new", nano[1:]), *made_by("old", micro)]
    found = asked.of(cells)
    assert [row["teacher"] for row in found["students"][0]["teachers"]] == list("bcde")
    one, two = found["notes"]
    assert one.startswith(
        "nano: cells that differ in heed's code are not ranked together. Ranked: 4 teachers (4 "
        "cells) with heed's code new. Left out: 1 teacher (1 cell) with heed's code old."
    )
    assert two == (
        "Not finished for every student, in the state that is ranked, and left out here: a."
    )
    whole = asked.of(made_by("old", [*nano, *micro]))
    assert (whole["notes"], len(whole["students"][0]["teachers"])) == ([], 5)


def test_of_two_states_with_as_many_teachers_the_newest_is_ranked(asked, tmp_path: Path):
    early = matrix(tmp_path, students=("nano",))
    late = [cell(tmp_path, "nano", t, 20 - i, seed=2) for i, t in enumerate(TEACHERS)]
    for newer, older in ((early, late), (late, early)):
        (tmp_path / "ledger.jsonl").write_text(
            "".join(ended(one, hour) for part, hour in ((newer, 9), (older, 8)) for one in part)
        )
        found = asked.of([*made_by("y", early, **{"data.x": "1"}), *made_by("z", late)])
        shown = [row["delta"] for row in found["students"][0]["teachers"]]
        assert shown == [pytest.approx(one.change.delta) for one in newer]
        assert "data.x 1" in found["notes"][0]
        assert "data.x not set" in found["notes"][0]


def ranked(*students: dict[str, str], seeds: tuple[int, ...] = (1,)) -> tuple[str, list[str]]:
    """The teachers that are left to all students, and the state of each student's cells.

    Each student has, of each state, teachers of a letter each; those of the state "old" have as
    many cells as there are seeds.
    """
    groups = []
    for number, states in enumerate(students):
        cells: dict[str, list] = {}
        for code, names in states.items():
            for name in names:
                own = [SimpleNamespace(beside={"code": code})] * len(
                    seeds if code == "old" else "1"
                )
                cells.setdefault(name, []).extend(own)
        groups.append(Group(f"student {number}", cells))
    kept, _ = of_one_state(groups, lambda one: one.beside["code"])
    codes = [{c.beside["code"] for own in g.by_teacher.values() for c in own} for g in kept]
    assert all(len(code) == 1 for code in codes)
    return "".join(sorted(shared_teachers(kept))), [min(code) for code in codes]


def test_states_are_chosen_so_that_most_teachers_are_left_to_all_students():
    """Each student's own fullest state may have few teachers in common with the others'."""
    nano = {"old": "abcde", "zew": "efghij"}
    assert ranked(nano, {"old": "abcdef", "zew": "gh"}) == ("abcde", ["old", "old"])
    assert ranked(nano, {"mid": "bcdez"}) == ("bcde", ["old", "mid"])
    assert ranked(nano, {"mid": "efghz"}) == ("efgh", ["zew", "mid"])
    assert ranked() == ("", [])


def test_of_states_that_leave_as_many_teachers_one_that_all_students_have_is_ranked():
    nano = {"old": "abcd", "zew": "abcde"}
    assert ranked(nano, {"old": "abcd"}) == ("abcd", ["old", "old"])
    assert ranked(nano, {"old": "abcd", "zew": "abcdf"}) == ("abcd", ["zew", "zew"])  # the fullest


def test_of_states_with_as_many_teachers_the_one_with_more_seeds_is_ranked_then_the_newest():
    states = {"old": "abcde", "zew": "abcde"}
    assert ranked(states, seeds=(1, 2)) == ("abcde", ["old"])
    assert ranked(states) == ("abcde", ["zew"])


CODES = st.sampled_from(["old", "mid", "zew"])
LETTERS = st.text("abcdef", min_size=1, max_size=6).map(lambda text: "".join(dict.fromkeys(text)))


@given(st.lists(st.dictionaries(CODES, LETTERS, min_size=1), min_size=1, max_size=4))
def test_no_other_choice_of_states_leaves_more_teachers(students: list[dict[str, str]]):
    found, codes = ranked(*students)

    def left(way: tuple[str, ...]) -> set[str]:
        return set.intersection(*(set(s[code]) for s, code in zip(students, way, strict=True)))

    most = max(len(left(way)) for way in product(*students))
    assert set(found) == left(tuple(codes))
    assert len(found) == most
    common = [code for code in students[0] if all(code in states for states in students)]
    if any(len(left((code,) * len(students))) == most for code in common):
        assert len(set(codes)) == 1


def ended(one: MeasuredCell, hour: int) -> str:
    """The line of the ledger of a finished cell."""
    run, suite = one.planned.key
    time = f"2026-01-02T{hour:02d}:00:00+0000"
    return json.dumps({"event": "done", "time": time, "run": run, "suite": suite}) + "\n"


def test_too_few_teachers_of_one_state_are_not_ranked(asked, tmp_path: Path):
    nano = matrix(tmp_path, students=("nano",))
    found = asked.of([*made_by("x", nano[:3]), *made_by("y", nano[3:])])
    assert "3 teachers are finished" in found["reason"]
    assert "Left out: 2 teachers (2 cells) with heed's code y" in found["reason"]
    assert not asked.calls


def test_settings_of_one_student_are_one_student_to_families(asked, study: Study, tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text("{}")
    line = ["teacher=file", f"teacher.source.path={tmp_path / 'rows.jsonl'}"]
    file = compose_component(CONF, "train", line).teacher
    cells = []
    for place, one in enumerate(matrix(tmp_path)):
        model = replace(one.planned.cell.model, name="nano")
        known = replace(one.planned.cell, teacher=of_family(one, file), model=model)
        lr = "gentle" if place < len(TEACHERS) else "harsh"
        made = replace(one.planned, cell=known, overrides=(f"lr={lr}",))
        cells.append(replace(one, planned=made, axes=(*AXES, "lr")))
    fixed = {key: value for key, value in study.fixed.items() if key != "lr"}
    wide = replace(study, axes={**study.axes, "lr": ("gentle", "harsh")}, fixed=fixed)
    found = asked.of(cells, wide)
    assert [one["students"] for one in found["larger"]] == [1, 1, 1]
    assert [one["model"] for one in found["students"]] == ["nano", "nano"]
    assert "leaves none to choose on" in found["beta"]["reason"]


def test_families_that_nobody_has_and_teachers_of_one_size_are_said(
    asked, study: Study, tmp_path: Path
):
    (tmp_path / "rows.jsonl").write_text("{}")
    line = ["teacher=file", f"teacher.source.path={tmp_path / 'rows.jsonl'}"]
    file = compose_component(CONF, "train", line).teacher
    cells = []
    for one in matrix(tmp_path):
        same = replace(of_family(one, file), size_b=2.5)
        known = replace(one.planned.cell, teacher=same)
        cells.append(replace(one, planned=replace(one.planned, cell=known)))
    own = {"nano": ("F", "Ff"), "mirco": ("G",)}
    found = asked.of(cells, replace(study, own_families=own))
    assert found["larger"] == []
    said = " ".join(found["notes"])
    assert "family Ff of nano: no finished teacher has it" in said
    assert "student mirco: no finished cell has it" in said
    assert "and of one size, and not set against each other: a, b, c; d, e." in said


def of_family(one: MeasuredCell, file: Teacher) -> Teacher:
    """The same teacher with a family and a size."""
    name = one.planned.cell.teacher.name
    place = TEACHERS.index(name)
    known = {"name": name, "family": "F" if place < 3 else "G", "size_b": float(place + 1)}
    return replace(file, **known)


def test_another_column_of_the_reward_is_another_section(asked, study: Study, tmp_path: Path):
    """It is in no teacher's digest, because no training reads it."""
    (tmp_path / "rows.jsonl").write_text("{}")
    line = ["teacher=file", f"teacher.source.path={tmp_path / 'rows.jsonl'}"]
    file = compose_component(CONF, "train", line).teacher
    reads = replace(study.teaching, reward=Column(name="play", key="mine"))
    for column, calls in (("good", 2), ("bad", 4), ("good", 4)):
        layout = replace(file.layout, rewards={"mine": column})
        cells = []
        for one in matrix(tmp_path):
            teacher = replace(of_family(one, file), layout=layout)
            known = replace(one.planned.cell, teacher=teacher)
            cells.append(replace(one, planned=replace(one.planned, cell=known)))
        asked.of(cells, replace(study, teaching=reads))
        assert len(asked.calls) == calls


def test_a_study_with_one_teacher_has_nothing_to_compare(study: Study):
    with pytest.raises(ConfigError, match="all cells have the same one"):
        replace(study, axes={"model": ("nano", "micro")})


@pytest.mark.slow
def test_real_students_and_teachers_are_read_and_ranked(study: Study, tmp_path: Path, monkeypatch):
    """Bases are made, teachers aligned, responses weighed: only the tuning itself is made up."""
    line = [*tiny.TINY, f"outputs={tmp_path}", "also=none"]
    names = ("play_00_short_plain", "play_00_long_rare", "play_60_short_plain", "play_60_long_rare")
    cells = []
    for i, name in enumerate(names):
        one = compose_component(CONF, "train", [*line, f"teacher={name}"])
        made = replace(planned(tmp_path, 1), cell=one, key=(name, "suite"))
        cells.append(MeasuredCell(made, AXES, METRIC, {}, scores(6), scores(9 + 3 * i)))
    monkeypatch.setattr(teaching, "measured", lambda *_: Measured(tuple(cells), ()))
    done = {one.planned.key: {"deltas": [one.change.delta]} for one in cells}
    asked = replace(study, teaching=replace(study.teaching, limit=30))
    found = teaching_of(asked, [one.planned for one in cells], done, tmp_path)
    assert found["counts"]["nano"]["kept"] == 30
    assert "limit 30" in found["choices"]
    rows = {row["teacher"]: row["metrics"] for row in found["students"][0]["teachers"]}
    assert rows["play_00_short_plain"]["reward"] == 1.0
    assert rows["play_60_short_plain"]["reward"] < 0.9
    assert rows["play_00_long_rare"]["length"] > 1.5 * rows["play_00_short_plain"]["length"]
    assert all(row["loss"] > 0 for row in rows.values())

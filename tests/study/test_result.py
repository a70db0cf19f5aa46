"""What is said of a finished cell leaves nothing out that a reader must know."""

from pathlib import Path
from types import SimpleNamespace

from heed.core.files import write_json
from heed.core.manifest import code_state
from heed.core.types import Delta, ItemScore, Ratio
from heed.core.unscored import MISSING
from heed.study.flags import dropped_flags, training_flags
from heed.study.result import (
    code_notes,
    code_of,
    data_note,
    life_notes,
    reference_notes,
    trained_notes,
    unscored_notes,
)


def test_every_drop_is_said():
    events = {"rows read": 805, "dropped: over-long": 67}
    fit = {"examples": 738, "optimiser_steps": 141, "events": events}
    said = data_note("vicuna", fit)
    assert said.startswith("vicuna: 738 examples in 141 optimiser steps")
    assert all(f"{count} {event}" in said for event, count in events.items())


def test_a_rate_that_never_reaches_its_peak_is_said():
    def flags(warmup: int, steps: int, examples: int = 1000) -> list[dict[str, str]]:
        return training_flags(warmup, {"optimiser_steps": steps, "examples": examples})

    assert flags(29, 30) == flags(0, 30) == []
    assert [flag["kind"] for flag in flags(30, 30)] == ["warm-up"]
    assert "in the last step only" in flags(30, 30)[0]["text"]
    (flag,) = flags(31, 30)
    assert "never reached its peak: lr.warmup_steps is 31, and there were 30" in flag["text"]


def test_a_short_training_is_flagged_with_its_steps_and_examples():
    def kinds(steps: int, examples: int) -> list[str]:
        found = training_flags(1, {"optimiser_steps": steps, "examples": examples})
        return [flag["kind"] for flag in found]

    assert kinds(20, 100) == []
    assert kinds(19, 10_000) == kinds(10_000, 99) == ["short"]
    (flag,) = training_flags(1, {"optimiser_steps": 3, "examples": 64})
    assert "3 optimiser steps on 64 examples" in flag["text"]


def test_a_training_on_the_few_rows_that_were_left_is_flagged():
    events = {"rows read": 1000, "dropped: over-long": 400, "dropped: empty response": 100}
    assert dropped_flags(events) == dropped_flags({}) == dropped_flags({"rows read": 3}) == []
    (flag,) = dropped_flags(events | {"dropped: over-long": 401, "cut at a turn": 7})
    assert flag["kind"] == "dropped"
    assert "401 over-long, 100 empty response; 1000 were read" in flag["text"]


def test_trivial_models_stand_beside_the_metric_that_they_belong_to():
    deltas = [
        Delta(metric, 1.88, 2.05, 0.17, 0.16, 0.18, 800, "hurt")
        for metric in ("books/bits_per_byte", "ifeval/acc")
    ]
    (said,) = reference_notes(deltas, {"books": {"unigram": 3.2, "trigram": 1.963}})
    assert said.startswith("books/bits_per_byte: before 1.880, after 2.050")
    assert "unigram 3.200, trigram 1.963" in said


def test_items_that_one_side_has_no_score_of_are_counted():
    def kept(*dens: int) -> SimpleNamespace:
        ratios = [{"win_rate": Ratio(den, den)} for den in dens]
        why = [{} if den else {MISSING: "unread"} for den in dens]
        both = enumerate(zip(ratios, why, strict=True))
        items = [ItemScore("t", str(i), "", "", None, 0, one, said) for i, (one, said) in both]
        return SimpleNamespace(sheet=SimpleNamespace(items=items))

    assert unscored_notes(kept(1, 1, 1), kept(1, 1, 1)) == []
    (said,) = unscored_notes(kept(1, 0, 1), kept(1, 1, 0))
    assert "2 items left out on all sides" in said


def test_students_that_two_states_of_the_code_scored_are_told(tmp_path: Path):
    before, after = tmp_path / "before", tmp_path / "after"
    for scores in (before, after):
        write_json(scores / "manifest.json", {"code": "abc"})
    assert code_notes(before, after) == []
    write_json(after / "manifest.json", {"code": "def+changes"})
    (said,) = code_notes(before, after)
    assert "before was scored by heed's code abc and after by def+changes" in said


def test_a_student_that_one_code_trained_and_another_scored_is_told(tmp_path: Path):
    run, after = tmp_path / "run", tmp_path / "run" / "scores"
    for folder, commit in ((run, "1"), (after, "2")):
        write_json(folder / "manifest.json", {"code": f"{commit} source a"})
    assert trained_notes(run, after) == []
    write_json(after / "manifest.json", {"code": "2 source b"})
    assert trained_notes(run, after) == [
        "trained by heed's code 1 source a and scored by 2 source b"
    ]


def test_a_cell_is_of_this_code_only_where_every_part_is(tmp_path: Path):
    now = code_state()
    folders = [tmp_path / name for name in ("run", "after", "before")]

    def of(*codes: str) -> str:
        for folder, code in zip(folders, codes, strict=True):
            write_json(folder / "manifest.json", {"code": code})
        return code_of(*folders)

    assert of(now, now, now) == now
    assert of(now, f"elsewhere source {now.split()[-1]}", now) == now
    assert of(now, now, "1 source a") == of("1 source a", "2 source b", now) == "1 source a"


def test_a_reader_is_told_which_step_the_student_is_and_what_was_broken_off():
    taken = {
        "why": "lowest validation loss", "step": 30, "steps_done": 50, "steps_planned": 60,
        "validation_loss": 1.25,
    }  # fmt: skip
    fit = {"taken": taken, "resumed": [12, 40], "resumed_by_code": ["aaa", "bbb"]}
    fit["resumed_on"] = {"threads": [4, 1], "device": ["cpu", "cuda"]}
    one, two, three, four, five = life_notes(fit)
    assert one == (
        "the student is that of step 30 (lowest validation loss, 1.250 nats/token on the examples "
        "kept apart); 50 of 60 planned steps were done"
    )
    assert two == "broken off, and gone on after step 12, 40"
    assert three.endswith("heed's code aaa, bbb")
    assert four == (
        "parts of the training were done by other numbers of CPU threads (4, 1): the student is "
        "not to the last bit what it would be in one go"
    )
    assert five.startswith("parts of the training were done on another device (cpu, cuda): the")
    last = taken | {"step": 60, "steps_done": 60}
    assert life_notes({"taken": last, "resumed": [], "resumed_by_code": []}) == []
    assert life_notes({}) == []

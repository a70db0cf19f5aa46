"""What is said of a finished cell leaves nothing out that a reader must know."""

from pathlib import Path
from types import SimpleNamespace

from heed.core.files import write_json
from heed.core.types import Delta
from heed.study.result import code_notes, data_note, rate_notes, reference_notes


def warming_up(steps: int) -> SimpleNamespace:
    return SimpleNamespace(lr=SimpleNamespace(warmup_steps=steps))


def test_every_drop_is_said():
    events = {"rows read": 805, "dropped: over-long": 67}
    fit = {"examples": 738, "optimiser_steps": 141, "events": events}
    said = data_note("vicuna", fit)
    assert said.startswith("vicuna: 738 examples in 141 optimiser steps")
    assert all(f"{count} {event}" in said for event, count in events.items())


def test_a_rate_that_never_reaches_its_peak_is_said():
    assert rate_notes(warming_up(10), steps=10) == []
    (said,) = rate_notes(warming_up(10), steps=9)
    assert "never reached its peak" in said
    assert "10" in said
    assert "9" in said


def test_trivial_models_stand_beside_the_metric_that_they_belong_to():
    deltas = [
        Delta(metric, 1.88, 2.05, 0.17, 0.16, 0.18, 800, "hurt")
        for metric in ("books/bits_per_byte", "ifeval/acc")
    ]
    (said,) = reference_notes(deltas, {"books": {"unigram": 3.2, "trigram": 1.963}})
    assert said.startswith("books/bits_per_byte: before 1.880, after 2.050")
    assert "unigram 3.200, trigram 1.963" in said


def test_students_that_two_states_of_the_code_scored_are_told(tmp_path: Path):
    before, after = tmp_path / "before", tmp_path / "after"
    for scores in (before, after):
        write_json(scores / "manifest.json", {"code": "abc"})
    assert code_notes(before, after) == []
    write_json(after / "manifest.json", {"code": "def+changes"})
    (said,) = code_notes(before, after)
    assert "before was scored by heed's code abc and after by def+changes" in said

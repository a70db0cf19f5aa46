"""A second prompting stands beside the verdict: kept apart, and flagged if it differs."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny import Finished, evaluation

from heed.analysis.beside import also_line
from heed.core.component import component
from heed.core.errors import DataError, RunError
from heed.core.files import read_json, read_jsonl
from heed.core.types import Answer, Item, ItemScore, Ratio, Request
from heed.evaluation.controls import CONTROLS
from heed.evaluation.prompting import Declared, InContext, Plain
from heed.evaluation.suite import Suite
from heed.evaluation.task import Task
from heed.models.backend import HeedBackend
from heed.study import bases, run_cell, scores
from heed.study.also import holds_beside, scored_beside, suite_beside, why_not_beside
from heed.study.evaluation import run_evaluation
from heed.study.flags import prompting_flags
from heed.study.ledger import latest
from heed.training import fit as fit_module


@component
class Toy(Task):
    """Items that nobody asks here."""

    weighed: bool
    metrics = ("acc", "loose")

    def items(self):
        return [Item(str(i), "?", (Request("", "x"),) * self.weighed) for i in range(4)]

    def score(self, name: str, item: Item, answer: Answer) -> ItemScore:
        raise AssertionError("nothing is scored")

    def digest(self) -> str:
        return "toy"


@component
class Paid(Toy):
    """The same before a judge."""

    paid = True


def suite(**changes: Any) -> Suite:
    tasks = {"said": Toy(weighed=False), "weighed": Toy(weighed=True)}
    settings = {
        "name": "toy", "tasks": tasks, "primary": "said/acc", "max_new_tokens": 4,
        "prompting": Declared(), "also": Plain(), "level": 0.95, "resamples": 200, "seed": 0,
        "backend": HeedBackend(batch_tokens=1, rows=1), "margin": dict.fromkeys(tasks, 0.02),
    }  # fmt: skip
    return Suite(**settings | changes)


def kept(right: str, how: str = "same", tasks: tuple[str, ...] = ("said",)) -> Any:
    """Scores on disk, as far as they matter: one digit an item."""
    metrics = [{"acc": Ratio(int(r), 1), "loose": Ratio(1, 1)} for r in right]
    items = [
        ItemScore(task, str(i), "?", "", "stop", 1, found)
        for task in tasks
        for i, found in enumerate(metrics)
    ]
    sheet = SimpleNamespace(items=items, controls=beside_sure(right), form=None)
    return SimpleNamespace(sheet=sheet, fingerprint={"how": how})


def beside_sure(right: str) -> dict[str, Any]:
    """The record of a model that has a delta to one control, beaten from two right items on."""
    value = right.count("1") / len(right)
    delta = {"metric": "said/acc", "before": 0.25, "after": value, "delta": value - 0.25}
    delta |= {"low": value - 0.5, "high": value}
    row = {"control": "sure", "what": '"Sure"', "input_blind": True, "value": 0.25}
    row |= {"form": {}, "deltas": {"this": delta}}
    told = {"metric": "said/acc", "best": "sure", "note": "", "rows": [row]}
    return told | {"beaten": {"this": value > 0.25}}


def record(declared: tuple[str, str], beside: tuple[str, str], primary: str) -> dict[str, Any]:
    """The record of a second prompting, of the digits before and after under both."""
    whole = suite(primary=primary)
    both = [kept(right, tasks=("said", "weighed")).sheet.items for right in declared]
    text = suite_beside(whole)
    assert text is not None
    return scored_beside(text, kept(beside[0]), kept(beside[1]), whole.deltas(*both))


@pytest.mark.parametrize(
    ("declared", "beside", "differs"),
    [
        (("0011", "0111"), ("0000", "1111"), False),
        (("0011", "0111"), ("0111", "0011"), True),
        (("0011", "0111"), ("0011", "0011"), True),  # no change is a sign of its own
        (("0011", "1100"), ("0111", "1110"), False),
        (("0111", "0011"), ("1111", "0111"), False),
    ],
)
def test_it_differs_where_the_primary_delta_has_another_sign(declared, beside, differs):
    found = record(declared, beside, "said/acc")
    assert found["differs"] is differs
    assert (found["prompting"], found["suite"]) == ("plain", "toy.text@plain")
    assert [delta["metric"] for delta in found["deltas"]] == ["said/acc", "said/loose"]
    assert found["deltas"][0]["delta"] == (beside[1].count("1") - beside[0].count("1")) / 4
    json.dumps(found)


@pytest.mark.parametrize(("after", "flagged"), [("0111", False), ("0001", True)])
def test_controls_stand_beside_the_second_prompting_too(after: str, flagged: bool):
    found = record(("0011", "0111"), ("0011", after), "said/acc")
    assert found["controls"]["beaten"] == {"before": True, "after": not flagged}
    assert found["form"] is None
    flags = prompting_flags(found, found["deltas"][0])
    assert [flag["kind"] for flag in flags if flag["kind"] != "prompting"] == (
        ["controls@plain"] if flagged else []
    )
    if flagged:
        said = flags[-1]["text"]
        assert said.startswith("Asked with prompting=plain: The tuned student does not surely beat")


def test_a_record_of_a_second_prompting_without_controls_is_shown():
    found = record(("0011", "0111"), ("0111", "0001"), "said/acc")
    old = {key: found[key] for key in ("prompting", "settings", "suite", "deltas", "differs")}
    assert [flag["kind"] for flag in prompting_flags(old, old["deltas"][0])] == ["prompting"]
    shown = {"also": old, "primary": "said/acc"}
    assert also_line(shown).endswith("Its controls: not recorded.")
    assert "after minus the best control (sure 0.250): 0.000" in also_line(shown | {"also": found})


def test_a_verdict_that_no_prompting_changes_never_differs():
    found = record(("0011", "0111"), ("0111", "0011"), "weighed/acc")
    assert found["differs"] is False
    assert found["deltas"][0]["metric"] == "said/acc"


def test_before_and_after_in_different_ways_are_refused_here_too():
    text = suite_beside(suite())
    assert text is not None
    with pytest.raises(RunError, match="how is 'same' before and 'other' after"):
        scored_beside(text, kept("01"), kept("01", "other"), [])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"also": None}, "also=plain adds one"),
        ({"prompting": Plain()}, "prompting 'plain' alone.*also=template"),
        (
            {"tasks": {"w": Toy(weighed=True)}, "primary": "w/acc", "margin": {"w": 0.0}},
            "no task of this suite is answered in text$",
        ),
        (
            {"tasks": {"p": Paid(weighed=False)}, "primary": "p/acc", "margin": {"p": 0.0}},
            "answered in text, but for those whose judge is paid for each answer$",
        ),
    ],
)
def test_where_there_is_no_second_prompting_the_reason_is_a_line(changes, why):
    one = suite(**changes)
    assert suite_beside(one) is None
    assert re.search(why, why_not_beside(one))
    assert holds_beside(one, {})


def test_a_result_holds_the_second_prompting_that_was_scored_and_no_other(tmp_path: Path):
    found = {"also": record(("0011", "0111"), ("0000", "1111"), "said/acc")}
    assert holds_beside(suite(), found)
    assert holds_beside(suite(also=None), found)
    assert not holds_beside(suite(prompting=Plain(), also=Declared()), found)
    for old in ({}, {"also": None}):
        assert not holds_beside(suite(), old)


def never(*_: Any, **__: Any) -> None:
    raise RunError("somebody asks or trains")


@pytest.mark.slow
def test_both_students_are_scored_plain_too_and_kept_apart(finished: Finished):
    also = finished.result["also"]
    assert also["prompting"] == "plain"
    assert also["deltas"][0]["metric"] == finished.result["primary"]
    after = read_jsonl(finished.run / "scores" / also["suite"] / "items.jsonl")
    assert {row["task"] for row in after} == {"play_follow"}
    assert also["deltas"][0]["items"] == len(after)
    assert len(list((finished.root / "baselines").glob("nano--play.text@plain--*"))) == 1
    assert len(list((finished.root / "baselines").iterdir())) == 2
    said = [read_json(p / "fingerprint.json") for p in (finished.run / "scores").iterdir()]
    assert {s["prompting"]["name"] for s in said} == {"template", "plain"}
    assert len({s["template"] for s in said}) == 1
    assert list(also["controls"]["beaten"]) == ["before", "after"]
    assert also["controls"]["metrics"][0]["metric"] == also["deltas"][0]["metric"]
    assert (
        "Beside the controls"
        in (finished.run / "scores" / also["suite"] / "report.html").read_text()
    )
    kinds = [path.name.partition("--")[0] for path in (finished.root / "controls").glob("*--*")]
    assert sorted(kinds) == sorted(CONTROLS), "once for both promptings"


@pytest.mark.slow
def test_what_a_result_lacks_of_a_second_prompting_is_added_from_what_is_kept(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cell = finished.copy(tmp_path)
    file = cell.directory / "scores/play/result.json"
    was = read_json(file)
    file.write_text(json.dumps(was | {"also": None, "flags": []}))
    alone = replace(cell, suite=replace(cell.suite, also=None))  # type: ignore[type-var]
    for module, name in (
        (fit_module, "fit"),
        (bases, "load_base"),
        (scores.ModelSubject, "scored"),
    ):
        monkeypatch.setattr(module, name, never)
    run_cell.run_cell(alone)
    assert read_json(file)["also"] is None, "nobody wants it"
    run_cell.run_cell(cell)
    assert read_json(file)["also"] == was["also"]
    assert read_json(file)["deltas"] == was["deltas"]
    written = file.stat().st_mtime_ns
    run_cell.run_cell(cell)
    assert file.stat().st_mtime_ns == written, "now it is all there"


@pytest.mark.slow
def test_a_run_that_is_scored_plain_on_its_own_keeps_the_name_apart(
    finished: Finished, tmp_path: Path, capsys
):
    cell = finished.copy(tmp_path)
    run_evaluation(evaluation(tmp_path, f"run={cell.run.id}", "prompting=plain"))
    page = (cell.directory / "scores/play@plain/report.html").read_text()
    assert "name plain" in page
    one, two = (
        [r for r in read_jsonl(cell.directory / "scores" / n / "items.jsonl") if r["response"]]
        for n in ("play@plain", "play.text@plain")
    )
    assert one == two


@pytest.mark.slow
def test_a_finished_cell_stays_done_if_the_prompting_beside_it_cannot_be_added(
    finished: Finished, tmp_path: Path
):
    cell = finished.copy(tmp_path)
    file = cell.directory / "scores/play/result.json"
    was, key = file.read_bytes(), (cell.names["run"], cell.names["suite"])
    gone = replace(cell.suite, also=InContext(path=str(tmp_path / "nothing")))  # type: ignore[type-var]
    with pytest.raises(DataError, match=r"suite\.also\.path"):
        run_cell.run_cell(replace(cell, suite=gone))  # type: ignore[type-var]
    assert latest(tmp_path)[key]["event"] == "done"
    assert file.read_bytes() == was
    file.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        run_cell.run_cell(replace(cell, suite=gone))  # type: ignore[type-var]
    assert latest(tmp_path)[key]["event"] == "failed", "nothing is recorded that could hold"


@pytest.mark.slow
def test_prompts_that_do_not_fit_beside_are_told_of_before_anything_is_tuned(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cell = finished.copy(tmp_path)
    file = tmp_path / "examples.txt"
    file.write_text("# Query:\n```\nA?\n```\n\n# Answer:\n```\n" + "B. " * 500 + "\n```\n")
    shutil.rmtree(cell.directory)
    monkeypatch.setattr(fit_module, "fit", never)
    long = replace(cell.suite, also=InContext(path=str(file)))  # type: ignore[type-var]
    with pytest.raises(RunError, match="prompts do not fit"):
        run_cell.run_cell(replace(cell, suite=long))  # type: ignore[type-var]

"""Scores stand beside the controls and the form of the answers, each made once."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from heed.core.component import component
from heed.core.errors import RunError
from heed.core.files import read_json, write_json
from heed.core.types import Answer, Interval, Item, ItemScore, Ratio, Stratum
from heed.evaluation.controls import CONTROLS, beside_controls, merged
from heed.evaluation.prompting import Declared, Plain
from heed.evaluation.responses import Given
from heed.evaluation.suite import Suite
from heed.evaluation.task import Task
from heed.models.backend import HeedBackend
from heed.study import controls as module
from heed.study.controls import beside_of, controls_of, form_of_both, with_controls
from heed.study.flags import control_flags, form_flags, prompting_flags
from heed.study.scores import scores_of
from heed.study.seeds import over_seeds
from heed.study.subjects import Controlled, GivenSubject

ITEMS = 40


@component
class Short(Task):
    """Forty prompts; an answer is right if it has a word, and the prompt's number or "Sure"."""

    metrics = ("other", "right")

    def items(self) -> list[Item]:
        return [Item(f"k{i}", f"Say the number {i} now") for i in range(ITEMS)]

    def score(self, name: str, item: Item, answer: Answer) -> ItemScore:
        said = answer.text or ""
        sure = said == "Sure" and int(item.key[1:]) % 4 == 0
        right = Ratio(int(sure or item.key[1:] in said.split()), 1)
        found = {"right": right, "other": Ratio(0, 1)}
        return ItemScore(name, item.key, item.prompt, answer.text, answer.stop, 1, found)

    def digest(self) -> str:
        return "forty"


@component
class Falling(Short):
    """The same, scored by what is wrong."""

    lower_is_better = frozenset({"right"})


@component
class Both(Short):
    """The same with a metric that prose is best at, and two types of prompts."""

    def score(self, name: str, item: Item, answer: Answer) -> ItemScore:
        found = super().score(name, item, answer)
        prose = Ratio(int(len((answer.text or "").split()) > 30), 1)
        return replace(found, metrics={**found.metrics, "other": prose})

    def strata(self, scores, level: float) -> list[Stratum]:
        return [
            Stratum("size", name, 20, 20, {"right": share(part), "other": share(part, "other")})
            for name, part in (("size:small", scores[:20]), ("size:large", scores[20:]))
        ]


def share(scores, metric: str = "right") -> Interval:
    value = sum(score.metrics[metric].num for score in scores) / len(scores)
    return Interval(value, value, value, len(scores))


def suite_of(task: Task) -> Suite:
    return Suite(
        name="toy", tasks={"short": task}, primary="short/right", max_new_tokens=4,
        prompting=Declared(), backend=HeedBackend(batch_tokens=4096, rows=8), level=0.95,
        resamples=200, seed=0, margin={"short": 0.1},
    )  # fmt: skip


@pytest.fixture
def suite() -> Suite:
    return suite_of(Short())


@dataclass(frozen=True)
class Says(GivenSubject):
    """A subject that answers the first prompts rightly, and says one text to all others."""

    root: Path
    right: int
    rest: str = "I do not know."

    @property
    def facts(self) -> dict[str, str]:
        return {"says": f"{self.right} {self.rest}"}

    @property
    def identity(self) -> dict[str, str]:
        return {"says": f"{self.right} {self.rest}"}

    def directory(self, suite: Suite) -> Path:
        return self.root / "says" / f"{self.right}{self.rest[:4].strip()}{suite.name}"

    def given(self, items) -> Given:
        texts = [item.key[1:] if i < self.right else self.rest for i, item in enumerate(items)]
        pairs = zip(items, texts, strict=True)
        return Given({item.key: Answer(text, 0, None) for item, text in pairs}, {}, [])


def beside(subject: Says, suite: Suite):
    return with_controls(subject, scores_of(subject, suite), suite, subject.root)


def test_a_model_is_paired_with_every_control_on_the_primary_metric(suite, tmp_path):
    kept = beside(Says(tmp_path, 30), suite)
    rows = {row["control"]: row for row in kept.sheet.controls["rows"]}
    assert list(rows) == list(CONTROLS)
    assert kept.sheet.controls["metric"] == "short/right"
    assert (rows["sure"]["value"], rows["echo"]["value"], rows["empty"]["value"]) == (0.25, 1, 0)
    delta = rows["sure"]["deltas"]["this"]
    assert (delta["before"], delta["after"], delta["delta"]) == (0.25, 0.75, 0.5)
    assert delta["low"] < 0.5 < delta["high"]


def test_the_best_control_reads_nothing_and_beating_it_is_what_counts(suite, tmp_path):
    found = [beside(Says(tmp_path, right), suite).sheet for right in (30, 12, 2)]
    assert {sheet.controls["best"] for sheet in found} == {"sure"}  # not the echo, which has 1.0
    assert [sheet.controls["beaten"]["this"] for sheet in found] == [True, False, False]
    kinds = [[flag["kind"] for flag in sheet.flags] for sheet in found]
    assert kinds == [[], ["controls"], ["controls"]]
    assert "sure" in found[1].flags[0]["text"]
    assert "0.300 against 0.250" in found[1].flags[0]["text"]


def test_where_less_is_better_the_best_control_is_the_lowest(tmp_path):
    falling = suite_of(Falling())
    assert beside(Says(tmp_path, 0), falling).sheet.controls["best"] in ("prose20", "prose50")
    assert beside(Says(tmp_path, 0), falling).sheet.controls["beaten"] == {"this": False}


def test_controls_are_scored_once_for_all_models(suite, tmp_path, monkeypatch):
    beside(Says(tmp_path, 30), suite)
    made = sorted(path.name.partition("--")[0] for path in (tmp_path / "controls").glob("*--*"))
    assert made == sorted(CONTROLS)
    monkeypatch.setattr(Controlled, "given", None)
    assert beside(Says(tmp_path, 12), suite).sheet.controls["rows"]


def test_controls_are_scored_once_whatever_the_prompting(suite, tmp_path, monkeypatch):
    first = beside(Says(tmp_path, 30), suite)
    monkeypatch.setattr(Controlled, "given", None)
    plain = replace(suite, prompting=Plain())
    assert plain.name == "toy@plain"
    assert beside(Says(tmp_path, 30), plain).sheet.controls == first.sheet.controls


def test_seeds_are_set_against_the_controls_that_their_scoring_left(suite, tmp_path):
    """The mean over seeds reads the very scores of the control, whatever the prompting."""
    suite = replace(suite, prompting=Plain())
    base, made = beside(Says(tmp_path, 3, "before"), suite), []
    alike = {key: base.fingerprint[key] for key in ("tasks", "versions")}
    write_json(base.directory / "fingerprint.json", alike)
    for seed, right in ((1, 30), (2, 26)):
        after = beside(Says(tmp_path, right), suite)
        scores = tmp_path / f"runs/{seed}/scores/{suite.name}"
        shutil.copytree(after.directory, scores)
        write_json(scores / "fingerprint.json", alike)
        names = dict.fromkeys(("student", "teacher", "method", "lr"), "x") | {"seed": seed}
        where = {"before": base.directory, "directory": f"runs/{seed}"}
        made.append({**names, **where, "controls": controls_of(base, after)})
    cell = SimpleNamespace(suite=suite)
    cells = [SimpleNamespace(overrides=(f"seed={n}",), key=(n,), cell=cell) for n in (1, 2)]
    (found,) = over_seeds(cells, {(entry["seed"],): entry for entry in made}, tmp_path)
    each = [entry["controls"]["rows"][0]["deltas"]["after"]["delta"] for entry in made]
    assert found["control"] == "sure"
    assert found["over_control"]["delta"] == pytest.approx(sum(each) / 2)


def test_controls_of_other_items_are_refused_under_any_prompting(suite, tmp_path):
    beside(Says(tmp_path, 30), suite)
    (control,) = (tmp_path / "controls").glob("sure--*")
    told = read_json(control / "fingerprint.json")
    write_json(control / "fingerprint.json", told | {"tasks": {"short": "others"}})
    with pytest.raises(RunError, match="others"):
        beside(Says(tmp_path, 12), replace(suite, prompting=Plain()))


def test_every_metric_stands_beside_the_best_control_of_its_own(tmp_path):
    found = beside(Says(tmp_path, 30), suite_of(Both())).sheet.controls
    right, other = found["metrics"]
    assert [row["metric"] for row in (right, other)] == ["short/right", "short/other"]
    assert [row["best"] for row in (right, other)] == ["sure", "prose50"]
    assert found["best"] == "sure"
    assert list(other["values"]) == list(CONTROLS)
    assert (other["values"]["prose50"], right["values"]["echo"]) == (1, 1)
    assert right["deltas"]["this"] == found["rows"][0]["deltas"]["this"]
    delta = other["deltas"]["this"]
    assert (delta["before"], delta["after"], delta["verdict"]) == (1, 0, "hurt")
    assert found["beaten"] == {"this": True}, "only the primary metric raises a flag"


def test_where_less_is_better_the_best_control_of_a_metric_is_the_lowest(tmp_path):
    right, other = beside(Says(tmp_path, 0), suite_of(Falling())).sheet.controls["metrics"]
    assert right["best"] == "prose20"
    assert other["best"] == "sure", "of equals the first"


def test_each_type_of_prompt_has_what_the_best_control_and_the_echo_reach(tmp_path):
    kept = beside(Says(tmp_path, 30), suite_of(Both()))
    small, large = kept.sheet.controls["strata"]["short"]
    assert (small["group"], small["name"], large["name"]) == ("size", "size:small", "size:large")
    assert {who: found["right"] for who, found in small["values"].items()} == {
        "sure": 0.25, "echo": 1,
    }  # fmt: skip
    page = (kept.directory / "report.html").read_text()
    assert "<th>sure: right</th><th>echo: right</th>" in page


def test_a_record_that_has_the_primary_metric_only_is_read_and_made_whole(suite, tmp_path):
    kept = beside(Says(tmp_path, 30), suite)
    old = {k: v for k, v in kept.sheet.controls.items() if k not in ("metrics", "strata")}
    write_json(kept.directory / "controls.json", old)
    assert beside_of(kept.directory, suite, kept.sheet.items).controls == old
    bare = replace(kept, sheet=replace(kept.sheet, controls=old))
    assert "metrics" not in controls_of(bare, kept)
    assert beside(Says(tmp_path, 30), suite).sheet.controls == kept.sheet.controls


def test_what_was_recorded_is_read_and_not_made_again(suite, tmp_path, monkeypatch):
    first = beside(Says(tmp_path, 30), suite)
    page = (first.directory / "report.html").read_text()
    monkeypatch.setattr(module, "_beside", None)
    monkeypatch.setattr(module, "write_scores_page", None)
    assert beside(Says(tmp_path, 30), suite).sheet == first.sheet
    assert "Beside the controls" in page
    assert "Form of the answers" in page


def test_where_the_page_was_not_written_all_is_made_again(suite, tmp_path, monkeypatch):
    def dies(*given) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as now:
        now.setattr(module, "write_scores_page", dies)
        with pytest.raises(KeyboardInterrupt):
            beside(Says(tmp_path, 30), suite)
    page = beside(Says(tmp_path, 30), suite).directory / "report.html"
    assert "this - control" in page.read_text()


def test_forms_that_were_counted_by_other_rules_are_counted_again(suite, tmp_path):
    directory = beside(Says(tmp_path, 30), suite).directory
    old = read_json(directory / "form.json")
    old["tasks"]["short"]["median_words"] = 77
    write_json(directory / "form.json", old | {"meanings": {"loop": "something else"}})
    found = beside(Says(tmp_path, 30), suite).sheet
    assert found.form["tasks"]["short"]["this"]["median_words"] == 1
    assert read_json(directory / "form.json")["meanings"] == found.form["meanings"]


@pytest.mark.parametrize("name", ["form.json", "controls.json"])
def test_a_damaged_record_is_named(suite, tmp_path, name):
    directory = beside(Says(tmp_path, 30), suite).directory
    (directory / name).write_text('{"a":')
    with pytest.raises(RunError, match=f"{name} is no whole JSON.*remove it"):
        beside(Says(tmp_path, 30), suite)


def test_a_control_is_set_beside_no_control(suite, tmp_path):
    sure = Controlled(CONTROLS["sure"], tmp_path)
    kept = with_controls(sure, scores_of(sure, suite), suite, tmp_path)
    assert kept.sheet.controls is None
    assert kept.sheet.form["tasks"]["short"]["this"]["median_words"] == 1


def test_controls_that_were_scored_on_other_items_are_refused(suite, tmp_path):
    beside(Says(tmp_path, 30), suite)
    (control,) = (tmp_path / "controls").glob("sure--*")
    told = read_json(control / "fingerprint.json")
    write_json(control / "fingerprint.json", told | {"tasks": {"short": "others"}})
    with pytest.raises(RunError, match="others"):
        beside(Says(tmp_path, 12), suite)


def test_two_models_stand_beside_the_same_controls(suite, tmp_path):
    before, after = (beside(Says(tmp_path, right), suite) for right in (10, 30))
    found = controls_of(before, after)
    assert found["beaten"] == {"before": False, "after": True}
    row = found["rows"][0]
    assert [row["deltas"][who]["after"] for who in ("before", "after")] == [0.25, 0.75]
    assert "this" not in row["deltas"]
    deltas = found["metrics"][0]["deltas"]
    assert [deltas[who]["after"] for who in ("before", "after")] == [0.25, 0.75]
    bare = replace(after, sheet=replace(after.sheet, controls=None))
    assert controls_of(before, bare) is None


def test_models_of_one_record_are_merged_under_their_names(suite, tmp_path):
    kept = beside(Says(tmp_path, 30), suite)
    said = {"sure": scores_of(Controlled(CONTROLS["sure"], tmp_path), suite).sheet.items}
    one = beside_controls(suite, said, "x", kept.sheet.items)
    assert list(merged({"a": one, "b": one})["rows"][0]["deltas"]) == ["a", "b"]
    assert merged({"a": one, "b": None}) is None


def test_a_model_of_too_many_degenerate_answers_is_flagged(suite, tmp_path):
    loop = "I do not know. " * 12
    sound, broken = (beside(Says(tmp_path, 30, rest), suite) for rest in ("Well, no.", loop))
    assert sound.sheet.flags == []
    (flag,) = broken.sheet.flags
    assert flag["kind"] == "degenerate"
    assert "10 of 40" in flag["text"]
    assert "10 loop" in flag["text"]


def test_exactly_the_limit_is_not_yet_degenerate():
    def record(bad: int) -> dict:
        counts = {"degenerate": bad, "empty": bad, "loop": 0, "echo": 0}
        return {"limit": 0.2, "tasks": {"t": {"after": {"items": 10, "counts": counts}}}}

    assert form_flags(record(2), "after") == []
    assert len(form_flags(record(3), "after")) == 1
    assert form_flags(record(3), "before") == []
    assert form_flags(None, "after") == control_flags(None, "after") == []


def test_the_delta_of_sound_answers_leaves_out_items_of_which_either_is_degenerate(suite, tmp_path):
    loop = "I do not know. " * 12
    before, after = beside(Says(tmp_path, 10, loop), suite), beside(Says(tmp_path, 30), suite)
    found = form_of_both(suite, before, after)
    assert list(found["tasks"]["short"]) == ["before", "after", "control sure"]
    assert (found["sound"]["items"], found["sound"]["of"]) == (10, 40)
    assert (found["sound"]["delta"]["delta"], found["sound"]["delta"]["items"]) == (0, 10)
    empty = beside(Says(tmp_path, 1, ""), suite)
    assert form_of_both(suite, empty, after)["sound"] == {"items": 1, "of": 40, "delta": None}


def test_another_sign_under_another_prompting_is_flagged_and_the_same_is_not():
    declared = {"metric": "t/m", "delta": 0.1, "low": 0.05, "high": 0.15}
    other = {"metric": "t/m", "delta": -0.2, "low": -0.3, "high": -0.1}
    also = {"prompting": "plain", "deltas": [other], "differs": True}
    (flag,) = prompting_flags(also, declared)
    assert flag["kind"] == "prompting"
    assert "plain" in flag["text"]
    assert "-0.200" in flag["text"]
    assert prompting_flags(also | {"differs": False}, declared) == prompting_flags(None, declared)

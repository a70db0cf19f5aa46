"""Who is mirrored has one id for ever, flat settings, and tables that say what the files say."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import planned

from heed.core.files import read_jsonl, write_json, write_jsonl
from heed.core.locks import lock
from heed.study.mirror import (
    another,
    axis_tags,
    base_ending,
    base_parcel,
    delivered,
    done_ending,
    failed_ending,
    flat_settings,
    item_tables,
    mirrored_base,
    mirrored_cell,
    mirrored_pretraining,
    send_base,
)
from heed.tracking.tracker import LocalOnly
from heed.training.run import base_run

LEAF = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers())
TREE = st.recursive(
    LEAF, lambda t: st.dictionaries(st.text("abc", min_size=1), t, max_size=3) | st.lists(t)
)


def item(
    task: str, key: str, response: str | None, **metrics: tuple[float, float]
) -> dict[str, Any]:
    ratios = {name: {"num": num, "den": den} for name, (num, den) in metrics.items()}
    own = {"task": task, "key": key, "prompt": f"say {key}", "response": response}
    return own | {"metrics": ratios}


def result(root: Path, **more: Any) -> dict[str, Any]:
    """A finished cell on disk."""
    delta = {"metric": "play/acc", "before": 0.5, "after": 0.75, "delta": 0.25, "items": 2}
    delta |= {"low": 0.1, "high": 0.4, "verdict": "helped", "mde": 0.2}
    one = [item("play", "a", "x", acc=(0, 2)), item("play", "b", "y", acc=(2, 2))]
    two = [item("play", "a", "x2", acc=(1, 2)), item("play", "b", None, acc=(0, 0))]
    write_jsonl(root / "baselines/b--play--c0ffee/items.jsonl", [*one, item("other", "z", "")])
    write_jsonl(root / "runs/r/scores/play/items.jsonl", two)
    names = {"directory": "runs/r", "before": "baselines/b--play--c0ffee", "suite_name": "play"}
    found = {"deltas": [delta], "primary": "play/acc", "cost": {"seconds": None}, "code": "c0de"}
    return (
        names | found | {"flags": [{"kind": "short"}, {"kind": "short"}, {"kind": "echo"}]} | more
    )


def test_one_cell_has_one_id_and_two_suites_of_a_run_have_two(tmp_path: Path):
    one = planned(tmp_path, 1)
    run, suite = one.key
    here, again = mirrored_cell(one.cell, one.key), mirrored_cell(one.cell, one.key, live=False)
    other = mirrored_cell(one.cell, (run, "another suite"))
    assert here.id == again.id == f"{run}-{suite}"
    assert other.id != here.id
    assert other.config["run"] == here.config["run"] == run
    base, making = base_run(one.cell.model), tmp_path / "baselines/b--play--c0ffee"
    assert base is not None
    ids = {here.id, mirrored_base(one.cell, making).id, mirrored_pretraining(base, tmp_path).id}
    assert ids == {here.id, "base-c0ffee", base.id}


def test_settings_are_flat_and_go_by_the_names_of_the_axes(tmp_path: Path):
    one = planned(tmp_path, 3, lr="gentle")
    run = mirrored_cell(one.cell, one.key)
    names = one.names
    for axis in ("student", "teacher", "method", "lr", "lr_peak", "seed"):
        assert run.config[axis] == names[axis]
    assert (run.config["suite"], run.config["suite_hash"]) == (one.cell.suite.name, one.key[1])
    assert run.config["lr.peak"] == one.cell.lr.peak
    assert not [key for key, value in run.config.items() if isinstance(value, dict) and value]
    assert not [key for key in run.config if key.split(".")[0] in ("outputs", "trainer", "logger")]
    assert "lr:gentle" in run.tags
    assert f"student:{names['student']}" in run.tags


@given(st.dictionaries(st.text("abc", min_size=1), TREE, max_size=4))
def test_every_setting_stands_in_the_flat_form(tree: dict[str, Any]):
    flat = flat_settings(tree)
    for key, value in flat.items():
        node: Any = tree
        for word in key.split("."):
            node = node[int(word)] if isinstance(node, list) else node[word]
        assert node == value
        assert not (isinstance(value, dict) and value)
    assert sum(map(_leaves, tree.values())) == len(flat)


def _leaves(node: Any) -> int:
    if isinstance(node, list) and any(isinstance(one, dict) for one in node):
        node = dict(enumerate(node))
    return sum(map(_leaves, node.values())) if isinstance(node, dict) and node else 1


def test_a_finished_cell_tells_its_deltas_and_its_items(tmp_path: Path):
    ending = done_ending(result(tmp_path), tmp_path)
    assert not ending.failed
    assert {k: v for k, v in ending.summary.items() if "/play" in k} == {
        "before/play/acc": 0.5,
        "after/play/acc": 0.75,
        "delta/play/acc": 0.25,
        "low/play/acc": 0.1,
        "high/play/acc": 0.4,
        "verdict/play/acc": "helped",
        "n/play/acc": 2,
    }
    assert (ending.summary["flags"], ending.summary["ended"]) == ("short, echo", "done")
    assert ending.summary["reason"] == "", "that of an earlier failure goes"
    assert ending.model == tmp_path / "runs/r/model"
    (table,) = ending.tables().values()
    answers = ["key", "prompt", "answer before", "answer after"]
    assert table.columns == [*answers, "acc before", "acc after", "acc change"]
    assert table.rows == [
        ["a", "say a", "x", "x2", 0.0, 0.5, 0.5],
        ["b", "say b", "y", None, 1.0, None, None],
    ]


def test_items_of_one_side_only_are_shown_with_what_is_known(tmp_path: Path):
    write_jsonl(tmp_path / "a/items.jsonl", [item("t", "1", "x", m=(1, 1))])
    write_jsonl(tmp_path / "b/items.jsonl", [item("t", "2", "y", m=(0, 1))])
    rows = item_tables(["t/m"], tmp_path / "a", tmp_path / "b")["items/t"].rows
    assert rows == [
        ["1", "say 1", "x", None, 1.0, None, None],
        ["2", "say 2", None, "y", None, 0.0, None],
    ]


def test_a_base_tells_its_own_interval_apart_from_that_of_a_delta(tmp_path: Path):
    value = {"value": 0.5, "low": 0.4, "high": 0.6, "items": 2}
    write_json(tmp_path / "summary.json", {"play": {"acc": value}})
    write_jsonl(tmp_path / "items.jsonl", [item("play", "a", "x", acc=(1, 2))])
    ending = base_ending(tmp_path)
    assert ending.summary == {
        "before/play/acc": 0.5,
        "before_low/play/acc": 0.4,
        "before_high/play/acc": 0.6,
        "n/play/acc": 2,
        "ended": "done",
    }
    assert ending.tables()["items/play"].rows == [["a", "say a", "x", 0.5]]


def test_a_base_is_told_of_that_cannot_be_sent_and_nothing_stops(tmp_path: Path, capsys):
    cell = planned(tmp_path, 1).cell
    parcel = base_parcel(LocalOnly(), cell, tmp_path)
    send_base(LocalOnly(), cell, tmp_path)
    assert "is not sent: its files are not whole (FileNotFoundError" in capsys.readouterr().err
    write_json(tmp_path / "summary.json", {})
    with lock(tmp_path / "locks" / f"mirror-{parcel.run.id}"):
        assert "another process is at it" in str(delivered(parcel))
    assert delivered(parcel) is None
    send_base(LocalOnly(), cell, tmp_path)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("event", ["failed", "stopped"])
def test_what_has_no_result_ends_failed_with_its_reason(event: str):
    ending = failed_ending(event, "out of memory")
    assert ending.failed
    assert ending.summary == {"ended": event, "reason": "out of memory"}
    assert dict(ending.tables()) == {}


def test_tags_are_of_the_further_axes_only():
    typed = ["model=nano", "+data.examples=10", "seed=1", "suite=play", "method.adapter.rank=4"]
    axes = ["model", "data.examples", "seed"]
    assert axis_tags(axes, typed) == ("data.examples:10",)


def test_a_mirror_for_another_run_shares_nothing_with_the_first():
    one = LocalOnly()
    assert another(one) == one
    assert another(one) is not one


@pytest.mark.slow
def test_the_tables_of_a_real_cell_are_its_items(finished):
    tables = done_ending(finished.result, finished.root).tables()
    items = read_jsonl(finished.run / "scores/play/items.jsonl")
    for name, table in tables.items():
        own = [row for row in items if f"items/{row['task']}" == name]
        assert [row[0] for row in table.rows] == [row["key"] for row in own]
        assert [row[3] for row in table.rows] == [row["response"] for row in own]
    metrics = [
        d["metric"] for d in finished.result["deltas"] if d["metric"].startswith("play_facts")
    ]
    column = tables["items/play_facts"].columns.index("acc change")
    known = [row[column] for row in tables["items/play_facts"].rows if row[column] is not None]
    (delta,) = (d for d in finished.result["deltas"] if d["metric"] == "play_facts/acc")
    assert metrics
    assert sum(known) / len(known) == pytest.approx(delta["delta"])

"""Where rows are: a file by its content, a dataset of the hub by its commit."""

from pathlib import Path

import datasets
import pytest

from heed.core.errors import ConfigError, DataError
from heed.core.files import write_jsonl
from heed.core.identity import short_hash
from heed.data.source import Hub, LocalFile
from heed.data.tables import raised

ROWS = [{"asked": f"ask {i}", "said": {"content": f"say {i}"}, "more": i} for i in range(4)]
COMMIT = "a1" * 20


def hub(**changes) -> Hub:
    whole = {"id": "some/rows", "config": None, "revision": COMMIT, "split": "train"}
    return Hub(**whole | changes)


@pytest.fixture
def asked(monkeypatch) -> list:
    """What the hub is asked for; it answers with the rows."""
    calls: list = []

    def load(*args, **named):
        calls.append((args, named))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load)
    return calls


def test_the_hub_is_asked_for_one_commit_and_gives_the_wanted_columns(asked: list):
    found = list(hub(config="large").rows(["asked", "said.content"], raised))
    named = {"name": "large", "revision": COMMIT, "split": "train"}
    assert asked == [(("some/rows",), named)]
    assert [row.place for row in found] == ["row 1", "row 2", "row 3", "row 4"]
    assert [dict(row.value) for row in found] == [
        {key: row[key] for key in ("asked", "said")} for row in ROWS
    ]


def test_without_a_wanted_column_there_are_still_all_rows(asked: list):
    assert len(list(hub().rows([], raised))) == len(ROWS)


def test_all_columns_are_given_where_a_wanted_one_is_missing(asked: list):
    found = next(hub().rows(["asked", "answer"], raised))
    assert list(found.value) == ["asked", "said", "more"]


@pytest.mark.parametrize(
    "error",
    [
        OSError("no network\nmore lines"),
        ValueError("Unknown split"),
        MemoryError(),
        datasets.exceptions.DatasetNotFoundError("some/rows"),
    ],
)
def test_a_dataset_that_cannot_be_had_is_one_clear_message(monkeypatch, error: Exception):
    def load(*_, **__):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(
        DataError, match=r"some/rows@a1a1a1a \(train\).*hub.*teacher=file"
    ) as caught:
        list(hub().rows([], raised))
    assert "more lines" not in str(caught.value)


@pytest.mark.parametrize("commit", [COMMIT, "b" * 40])
def test_a_cached_copy_of_another_commit_is_refused(
    commit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    copy = tmp_path / "rows/default/0.0.0" / commit
    datasets.Dataset.from_list(ROWS).save_to_disk(copy)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.load_from_disk(copy))
    rows = hub().rows(["asked"], raised)
    if commit == COMMIT:
        assert len(list(rows)) == len(ROWS)
    else:
        with pytest.raises(DataError, match=rf"some/rows.*{commit}.*another commit"):
            list(rows)


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:-1], COMMIT + "a", COMMIT.upper()])
def test_a_revision_that_may_move_is_refused(revision: str):
    with pytest.raises(ConfigError, match="data may change under the id"):
        hub(revision=revision)


@pytest.mark.parametrize("name", ["rows.txt", "rows", "rows.parquet.gz", "rows.gz", "rows.tsv"])
def test_a_file_of_unknown_kind_is_refused_before_it_is_looked_for(name: str):
    with pytest.raises(ConfigError, match=r"none of \.jsonl, \.json, \.csv, \.parquet"):
        LocalFile(path=f"/nowhere/{name}")


def test_a_missing_file_names_the_setting_that_points_to_it(tmp_path: Path):
    source = LocalFile(path=str(tmp_path / "gone.jsonl"))
    for use in (lambda: list(source.rows([], raised)), source.digest):
        with pytest.raises(DataError, match=r"there is no file .*gone\.jsonl.*data_dir="):
            use()


def test_the_identity_of_a_file_is_its_content_and_not_its_place(tmp_path: Path):
    for name, rows in [("a", ROWS), ("b", ROWS), ("c", ROWS[::-1])]:
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    a, b, c = (short_hash(LocalFile(path=str(tmp_path / f"{name}.jsonl"))) for name in "abc")
    assert a == b != c


@pytest.mark.parametrize(
    "change", [{"id": "x/y"}, {"config": "x"}, {"revision": "b" * 40}, {"split": "test"}]
)
def test_every_part_of_a_place_on_the_hub_is_in_its_identity(change: dict):
    assert hub(**change).digest() != hub().digest()

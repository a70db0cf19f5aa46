"""Properties of the instruction-following tasks, and agreement with recorded verdicts."""

import csv
import gzip
import json
from pathlib import Path

import pytest

from heed.core.errors import DataError
from heed.core.types import Answer, Ratio
from heed.evaluation.ifeval import IFEval, InstructionFollowing, check_rows

SHARED = Path(__file__).parents[3] / "shared/data/ifeval"
NO_COMMA = {
    "key": 7,
    "prompt": "Say hi, without commas.",
    "instruction_id_list": ["punctuation:no_comma", "keywords:existence"],
    "kwargs": [{}, {"keywords": ["hi"]}],
}


class InMemory(InstructionFollowing):
    def __init__(self, *rows: dict):
        self._rows = rows

    def rows(self):
        return self._rows


def test_the_four_metrics_are_followed_over_asked():
    task = InMemory(NO_COMMA)
    score = task.score("toy", task.items()[0], Answer("well, hi", 3, "cap"))
    assert score.metrics == {
        "prompt_level_strict_acc": Ratio(0, 1),
        "inst_level_strict_acc": Ratio(1, 2),
        "prompt_level_loose_acc": Ratio(0, 1),
        "inst_level_loose_acc": Ratio(1, 2),
    }
    assert tuple(score.metrics) == task.metrics
    assert score.details["instructions"] == [
        {"id": "punctuation:no_comma", "strict": False, "loose": False},
        {"id": "keywords:existence", "strict": True, "loose": True},
    ]
    assert (score.key, score.stop, score.tokens) == ("7", "cap", 3)


def test_a_file_and_memory_are_one_task(tmp_path: Path):
    plain, packed = tmp_path / "rows.jsonl", tmp_path / "rows.jsonl.gz"
    plain.write_text(json.dumps(NO_COMMA) + "\n\n")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    tasks = [InMemory(NO_COMMA), *(IFEval(path=str(p), nltk_data=None) for p in (plain, packed))]
    assert len({task.digest() for task in tasks}) == 1
    assert tasks[0].items() == tasks[1].items() == tasks[2].items()


def test_the_digest_changes_with_the_rows():
    other = {**NO_COMMA, "prompt": "Say hi."}
    assert InMemory(NO_COMMA).digest() != InMemory(other).digest()


def test_a_missing_prompts_file_is_named_with_the_setting_that_points_to_it():
    with pytest.raises(DataError, match=r"nowhere/ifeval.jsonl.*data_dir=<folder>"):
        IFEval(path="nowhere/ifeval.jsonl", nltk_data=None).items()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"instruction_id_list": ["punctuation:no_coma", "x"]}, "mean 'punctuation:no_comma'"),
        ({"kwargs": [{}]}, "2 instructions and 1 kwargs"),
        ({"instruction_id_list": [], "kwargs": []}, "at least one"),
    ],
)
def test_a_row_that_cannot_be_scored_is_refused(change: dict, reason: str):
    with pytest.raises(DataError, match=reason):
        check_rows([{**NO_COMMA, **change}])


def test_missing_fields_repeated_keys_and_no_rows_are_refused():
    with pytest.raises(DataError, match="lacks kwargs"):
        check_rows([{k: v for k, v in NO_COMMA.items() if k != "kwargs"}])
    with pytest.raises(DataError, match="Key 7 appears twice"):
        check_rows([NO_COMMA, NO_COMMA])
    with pytest.raises(DataError, match="no prompts"):
        check_rows([])


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="the data folder beside the project is absent")
def test_verdicts_on_real_responses_agree_with_the_record():
    task = IFEval(
        path=str(SHARED / "ifeval_input_data_before_2785_fix.jsonl"),
        nltk_data=str(SHARED / "nltk_data"),
    )
    items = {item.key: item for item in task.items()}
    with (SHARED / "expected_disagreements.csv").open() as file:
        known = {
            (r["model"], r["key"], r["instruction_id"], r["mode"]) for r in csv.DictReader(file)
        }
    found, compared = set(), 0
    for path in sorted((SHARED / "responses").glob("*.jsonl.gz")):
        for row in map(json.loads, gzip.decompress(path.read_bytes()).splitlines()):
            key, names = str(row["key"]), row["instruction_id_list"]
            said = task.score("ifeval", items[key], Answer(row["response"], 0, "stop"))
            for i, verdict in enumerate(said.details["instructions"]):
                for mode in ("strict", "loose"):
                    compared += 1
                    if verdict[mode] != row[f"{mode}_list"][i]:
                        found.add((path.name.removesuffix(".jsonl.gz"), key, names[i], mode))
    drawn = {"1122", "1129"}  # ask for a non-letter: the verifier draws a letter instead
    assert compared == 10_008
    assert {row for row in found ^ known if row[1] not in drawn} == set()

"""A judge as a task: preferences are scores, and what cannot be read is counted."""

import json
from pathlib import Path

import pytest

from heed.core.component import component
from heed.core.errors import DataError, RunError
from heed.core.types import Answer, Ratio
from heed.evaluation.judge import UNREAD, Judge, Judgement, Pairwise
from heed.evaluation.judged import LOST, JudgedPairs
from heed.evaluation.prompting import Declared
from heed.evaluation.suite import Suite
from heed.models.backend import HeedBackend

NOTHING = Ratio(0, 0)


@component
class Longer(Judge):
    """Prefers the longer response; cannot read a question mark; refuses an empty one."""

    def judge(self, pair: Pairwise) -> Judgement:
        told = {"read": 10, "written": 1, "served": ("longer-1",), "replies": ("x",)}
        if "?" in pair.response:
            return Judgement(None, UNREAD, **told)
        assert pair.response, "never asked about nothing"
        lengths = len(pair.response), len(pair.reference)
        return Judgement(
            0.5 if lengths[0] == lengths[1] else float(lengths[0] > lengths[1]), **told
        )


def lines(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def task(folder: Path, count: int = 4, **more) -> JudgedPairs:
    asked = [{"idx": i, "instruction": f"Ask {i}.", "dataset": "d"} for i in range(count)]
    said = [{"instruction": row["instruction"], "output": "four"} for row in asked]
    given = {
        "instructions": lines(folder / "asked.jsonl", asked),
        "outputs": lines(folder / "said.jsonl", said),
        "reference": "toy",
        "judge": Longer(),
    }
    return JudgedPairs(**{**given, **more})


def scores(made: JudgedPairs, *said: str | None):
    return [
        made.score("judged", item, Answer(text, 0, None))
        for item, text in zip(made.items(), said, strict=True)
    ]


def test_a_preference_is_the_score_of_its_item(tmp_path):
    found = scores(task(tmp_path), "longer", "x", "same", "more?")
    assert [s.metrics["win_rate"] for s in found] == [(1, 1), (0, 1), (0.5, 1), NOTHING]
    assert [s.metrics["discrete_win_rate"] for s in found] == [(1, 1), (0, 1), (0.5, 1), NOTHING]


def test_what_cannot_be_read_is_counted_and_in_no_rate(tmp_path):
    made = task(tmp_path)
    suite = Suite(
        name="toy", tasks={"judged": made}, primary="judged/win_rate", max_new_tokens=4,
        backend=HeedBackend(batch_tokens=4096, rows=8), level=0.95, resamples=100, seed=0,
        margin={"judged": 0.1}, prompting=Declared(),
    )  # fmt: skip
    found = scores(made, "longer", "longer", "?", "?")
    assert suite.summarise(found)["judged"]["win_rate"].value == 1.0
    assert suite.summarise(found)["judged"]["win_rate"].items == 2
    assert suite.events(found)[UNREAD] == 2
    assert suite.notes(found)[0].startswith("judged: length-controlled win rate skipped")
    assert suite.in_text() is None  # no control is sent to a judge that is paid


def test_where_nothing_was_judged_the_reason_is_told(tmp_path):
    made = task(tmp_path)
    with pytest.raises(RunError, match=rf"1 of 4 responses .*3 times: {UNREAD}.*no win rate"):
        made.notes(scores(made, "longer", "?", "?", "?"))
    assert made.notes(scores(made, "longer", "x", "?", "?"))


def test_no_response_is_lost_without_asking(tmp_path):
    made = task(tmp_path)
    found = scores(made, None, "x", "x", "x")
    assert found[0].metrics["win_rate"] == (0, 1)
    assert made.events(found)[LOST] == 1


def test_the_cost_and_the_model_that_judged_are_told(tmp_path):
    made = task(tmp_path)
    told = made.events(scores(made, None, "x", "x", "?"))
    assert told["tokens that the judge read"] == 30
    assert told["tokens that the judge wrote"] == 3
    assert told["judged by longer-1"] == 3


def test_scores_survive_as_plain_data(tmp_path):
    for score in scores(task(tmp_path), "longer", None, "same", "?"):
        assert json.loads(json.dumps(score.details)) == score.details


def test_the_digest_holds_instructions_reference_and_judge(tmp_path):
    made = task(tmp_path)
    (tmp_path / "b").mkdir()
    assert task(tmp_path / "b").digest() == made.digest()
    assert task(tmp_path / "b", count=3).digest() != made.digest()
    assert task(tmp_path / "b", reference="other").digest() != made.digest()


@pytest.mark.parametrize(
    "rows",
    [
        [{"idx": 0, "instruction": "Ask 0."}, {"idx": "0", "instruction": "Ask 1."}],
        [{"idx": 0, "instruction": "Never answered."}],
        [{"idx": 0}],
        [{"instruction": "Ask 0."}],
    ],
)
def test_instructions_without_one_reference_each_are_refused(rows, tmp_path):
    made = task(tmp_path)
    lines(tmp_path / "asked.jsonl", rows)
    with pytest.raises(DataError, match=r"asked\.jsonl"):
        made.items()

"""Tasks of lm-eval: equal to plain lm-eval on the same weights, counted if cut, refused early."""

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heed.core.compose import compose_component
from heed.core.errors import ConfigError, DataError, HeedError, RunError
from heed.core.identity import short_hash
from heed.evaluation.harness import CUT, TIED, Harness
from heed.evaluation.lm_eval_data import Asked
from heed.evaluation.lm_eval_tasks import load_tasks, manager_of, own_randomness, refuse_unfit
from heed.evaluation.prompting import Declared
from heed.evaluation.record import read_scores, write_scores
from heed.evaluation.suite import Suite
from heed.models.backend import HeedBackend
from heed.study.scores import ModelSubject
from heed.training.checkpoint import load_student
from heed.training.fit import fit

CONF = Path(__file__).resolve().parents[2] / "conf"
COMMIT, OTHER = 40 * "a", 40 * "b"
SLOW = pytest.mark.slow
THINGS = ["lamp", "fish", "sea", "stone", "red thing", "blue colour", "name"]


def arc(number: int) -> dict[str, Any]:
    """A row in ARC's columns; the number of choices differs, as there."""
    count = 3 + number % 3
    text = [f"a {THINGS[(number + i) % len(THINGS)]}" + " very" * (i % 3) for i in range(count)]
    labels = list("ABCDE"[:count])
    return {
        "id": f"q{number}",
        "question": f"Which {THINGS[number % len(THINGS)]} is the sea's, of {number}?",
        "choices": {"text": text, "label": labels},
        "answerKey": labels[number % count],
    }


def hellaswag(number: int) -> dict[str, Any]:
    thing = THINGS[number % len(THINGS)]
    return {
        "activity_label": "Naming [title] things",
        "ctx_a": f"Somebody sees a {thing}.",
        "ctx_b": "they",
        "endings": [f"say why {i} is [step] red{' very' * i}." for i in range(4)],
        "label": str(number % 4),
    }


def truthfulqa(number: int) -> dict[str, Any]:
    choices = [f"It is {'very ' * i}{THINGS[number % len(THINGS)]}." for i in range(3 + number % 2)]
    targets = {"choices": choices, "labels": [1, 1] + [0] * (len(choices) - 2)}
    return {"question": f"What is thing {number}?", "mc1_targets": targets, "mc2_targets": targets}


def mmlu(number: int) -> dict[str, Any]:
    choices = [f"{THINGS[(number + i) % len(THINGS)]}" for i in range(4)]
    return {"question": f"Thing {number} is", "choices": choices, "answer": number % 4}


ROWS = {
    "arc_easy": (arc, ("acc", "acc_norm")),
    "hellaswag": (hellaswag, ("acc", "acc_norm")),
    "truthfulqa_mc2": (truthfulqa, ("acc",)),
    "mmlu_anatomy": (mmlu, ("acc",)),
}
FOLDERS = {"arc_easy": "", "hellaswag": "", "truthfulqa_mc2": "", "mmlu_anatomy": "default/"}


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def harness_of(tmp_path):
    """Make a task of lm-eval on local rows of its columns."""

    def make(task: str = "arc_easy", count: int = 11, **changes: Any) -> Harness:
        row, take = ROWS[task]
        file = written(tmp_path / f"{task}.jsonl", [row(number) for number in range(count)])
        given = {
            "task": task, "take": take, "num_fewshot": 0, "fewshot_seed": 1234, "batch_size": 4,
            "revision": None, "file": file, "fewshot_file": None,
        }  # fmt: skip
        return Harness(**(given | changes))

    return make


@pytest.fixture
def shots(tmp_path):
    """A file of solved examples in MMLU's columns."""
    return written(tmp_path / "shots.jsonl", [mmlu(number) for number in range(20, 27)])


def suite_of(**tasks: Harness) -> Suite:
    first, task = next(iter(tasks.items()))
    return Suite(
        name="local", tasks=tasks, primary=f"{first}/{task.metrics[0]}", max_new_tokens=1,
        backend=HeedBackend(batch_tokens=256, rows=8), level=0.95, resamples=200, seed=0,
        margin=dict.fromkeys(tasks, 0.02), prompting=Declared(),
    )  # fmt: skip


def saved(loaded: Any, path: Path) -> str:
    loaded.model.save_pretrained(path)
    loaded.tokenizer.save_pretrained(path)
    return str(path)


def plain_lm_eval(folder: Path, task: Harness, weights: str) -> dict[str, Any]:
    """What lm-eval itself says of weights on disk, by a YAML that includes its own task."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    own = next(Path(lm_eval.__file__).parent.glob(f"tasks/*/{FOLDERS[task.task]}{task.task}.yaml"))
    files = {"test": task.file} | ({"fewshot": task.fewshot_file} if task.fewshot_file else {})
    folder.mkdir()
    settings = {
        "include": str(own), "task": "plain", "dataset_path": "json", "dataset_name": None,
        "dataset_kwargs": {"data_files": files}, "training_split": None, "validation_split": None,
        "test_split": "test", "fewshot_split": "fewshot" if task.fewshot_file else None,
        "num_fewshot": task.num_fewshot,
    }  # fmt: skip
    (folder / "plain.yaml").write_text(json.dumps(settings), encoding="utf-8")
    return lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": weights, "dtype": "float32"},
        tasks=["plain"],
        batch_size=task.batch_size,
        device="cpu",
        bootstrap_iters=0,
        task_manager=TaskManager(include_defaults=False, include_path=folder),
    )


@pytest.mark.parametrize(
    "name",
    [
        "arc_easy",
        "mmlu_anatomy",
        pytest.param("hellaswag", marks=SLOW),
        pytest.param("truthfulqa_mc2", marks=SLOW),
    ],
)
def test_numbers_equal_plain_lm_eval_on_the_saved_weights_to_the_last_digit(
    name, harness_of, loaded, shots, tmp_path
):
    solved = {"num_fewshot": 3, "fewshot_file": shots} if name == "mmlu_anatomy" else {}
    task = harness_of(name, **solved)
    scores = task.measure("local", loaded, Counter())
    told = plain_lm_eval(tmp_path / "plain", task, saved(loaded, tmp_path / "weights"))
    for metric in task.metrics:
        mean = sum(score.metrics[metric].num for score in scores) / len(scores)
        assert mean == told["results"]["plain"][f"{metric},none"]
    for score, sample in zip(scores, told["samples"]["plain"], strict=True):
        assert score.key == str(sample["doc_id"])
        assert score.details["log_likelihoods"] == [w for w, _ in sample["filtered_resps"]]
        assert {m: r.num for m, r in score.metrics.items()} == {m: sample[m] for m in task.metrics}
    assert len({score.details["log_likelihoods"][0] for score in scores}) > 1


def test_a_student_trained_in_memory_gives_the_numbers_of_the_reloaded_one(
    harness_of, loaded, recipe_of, around, tmp_path
):
    task = harness_of()
    before = task.measure("local", loaded, Counter())
    fit(recipe_of(peak=1e-2), loaded, around, tmp_path)
    in_memory = task.measure("local", loaded, Counter())
    again = load_student(tmp_path / "model", loaded.loading)
    assert in_memory == task.measure("local", again, Counter()) != before


def test_the_state_of_the_student_and_of_chance_are_as_before(harness_of, loaded):
    import torch

    def states() -> list[Any]:
        return [
            random.getstate(),
            np.random.get_state()[1].tolist(),
            torch.get_rng_state().tolist(),
        ]

    random.seed(99)
    np.random.seed(98)
    torch.manual_seed(97)
    loaded.model.train()
    before = states()
    harness_of().measure("local", loaded, Counter())
    assert states() == before
    assert loaded.model.training
    drawn = []
    for _ in range(2):
        with own_randomness():
            drawn.append((random.random(), np.random.rand(), float(torch.rand(1))))
    assert drawn[0] == drawn[1]
    assert states() == before


def test_lm_eval_says_nothing_and_progress_ends_at_the_last_question(harness_of, loaded, capfd):
    harness_of("mmlu_anatomy").measure("local", loaded, Counter())
    said = capfd.readouterr()
    assert said.out == ""
    assert [line.split(",")[0].strip() for line in said.err.splitlines()] == [
        "local: 0/11 prompts",
        "local: 11/11 prompts",
    ]


def test_what_lm_eval_cuts_is_counted(harness_of, loaded, shots):
    task = harness_of("mmlu_anatomy", num_fewshot=5, fewshot_file=shots)
    (asked,) = load_tasks(task.asked).values()
    task.measure("local", loaded, Counter())  # to learn what is asked
    lengths = sorted(
        len(loaded.tokenizer.encode(" ".join(request.args))) for request in asked.instances
    )
    window = lengths[len(lengths) // 2] - 1  # the last token of a choice is not read
    loaded.model.config.max_position_embeddings = window
    events: Counter[str] = Counter()
    task.measure("local", loaded, events)
    cut = sum(length > window + 1 for length in lengths)
    assert events == {f"local: {CUT}": cut}
    assert 0 < cut < len(lengths)
    loaded.model.config.max_position_embeddings = 256
    fits: Counter[str] = Counter()
    harness_of("mmlu_anatomy").measure("local", loaded, fits)
    assert not fits


BAD_SHOTS = [
    ([mmlu(20)], r"2 solved examples are to stand .* there are 1"),
    ([{"question": "x", "answer": 0}] * 3, r"its rows cannot be asked as lm-eval's mmlu_anatomy"),
    ([mmlu(20), mmlu(21) | {"answer": 9}], r"bad\.jsonl: question 2 has 4 choices"),
    ([mmlu(20), mmlu(2), mmlu(1)], r"2 of its questions stand among the solved .*question 2 "),
]


@pytest.mark.parametrize(("rows", "said"), BAD_SHOTS)
def test_bad_solved_examples_are_named_before_anything_is_asked(rows, said, harness_of, tmp_path):
    bad = written(tmp_path / "bad.jsonl", rows)
    with pytest.raises(DataError, match=said):
        harness_of("mmlu_anatomy", num_fewshot=2, fewshot_file=bad).items()


def test_choices_that_weigh_the_same_are_counted(harness_of, loaded):
    task = harness_of("arc_easy", count=3)
    same = arc(0) | {"choices": {"text": ["a sea"] * 2, "label": ["A", "B"]}}
    written(Path(task.file), [arc(1), same, arc(2), same])
    events: Counter[str] = Counter()
    assert [score.metrics["acc"].num for score in task.measure("local", loaded, events)][1] == 1
    assert events == {f"local: {TIED}": 2}


@pytest.mark.parametrize("name", ["", " "])
def test_a_task_without_a_name_is_refused(name, harness_of):
    with pytest.raises(ConfigError, match="nothing to ask"):
        replace(harness_of(), task=name)


@pytest.fixture(scope="module")
def whole_register() -> Any:
    """lm-eval's register of all its tasks; to read it takes five seconds."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


@pytest.fixture
def one_register(whole_register, monkeypatch) -> None:
    """Whoever asks for the register of all tasks is given the one; of a folder, its own."""
    import lm_eval.tasks

    real = lm_eval.tasks.TaskManager
    monkeypatch.setattr(
        lm_eval.tasks, "TaskManager", lambda **how: real(**how) if how else whole_register
    )


def test_a_name_is_looked_for_as_it_stands(one_register):
    with pytest.raises(RunError, match=r"no task 'arc\*\*easy'"):
        manager_of("arc**easy")


def test_a_choice_that_cannot_be_weighed_is_named(harness_of, loaded):
    task = harness_of(count=3)
    long = arc(0) | {"choices": {"text": ["very " * 300, "b"], "label": ["A", "B"]}}
    written(Path(task.file), [arc(1), long])
    with pytest.raises(RunError, match=r"cannot weigh the choice ' very very.*1 to 256 fit"):
        task.measure("local", loaded, Counter())


def test_a_share_of_nothing_is_no_score(harness_of, loaded):
    task = harness_of("truthfulqa_mc2", count=2)
    far = {"choices": ["very " * 180, "red " * 200], "labels": [1, 0]}
    row = truthfulqa(0) | {"mc1_targets": far, "mc2_targets": far}
    written(Path(task.file), [row])
    loaded.model.config.max_position_embeddings = 2000
    with np.errstate(invalid="ignore"), pytest.raises(RunError, match=r"question 0\..*e\^-\d+"):
        task.measure("local", loaded, Counter())


@pytest.fixture
def group(tmp_path):
    """A group of thirteen tasks with three to five rows each."""
    manager = manager_of("mmlu_other")
    leaves = sorted(manager.task_index["mmlu_other_tasks"].tags)
    for place, leaf in enumerate(leaves):
        written(tmp_path / f"{leaf}.jsonl", [mmlu(place + n) for n in range(3 + place % 3)])
    task = Harness(
        task="mmlu_other", take=("acc",), num_fewshot=0, fewshot_seed=1, batch_size=8,
        revision=None, file=str(tmp_path / "*.jsonl"), fewshot_file=None,
    )  # fmt: skip
    return leaves, task


def test_a_group_is_added_up_over_the_questions_of_all_its_tasks(group, loaded, tmp_path):
    leaves, task = group
    suite = suite_of(knowledge=task)
    scores = suite.score(loaded)
    assert [item.key for item in task.items()] == [score.key for score in scores]
    assert len(scores) == sum(3 + place % 3 for place in range(len(leaves)))
    write_scores(tmp_path / "scores", suite, scores, suite.fingerprint(loaded))
    again, _ = read_scores(tmp_path / "scores")
    assert again == scores
    right = [score.metrics["acc"].num for score in scores]
    assert set(right) == {0.0, 1.0}
    value = suite.summarise(scores)["knowledge"]["acc"].value
    assert value == pytest.approx(sum(right) / len(right), abs=1e-12)
    parts = suite.breakdown(scores)["knowledge"]
    assert [part.group for part in parts] == leaves
    followed = sum(part.metrics["acc"].value * part.items for part in parts)
    assert followed == pytest.approx(sum(right))
    assert sum(part.items for part in parts) == len(right)


def test_a_single_task_has_no_parts_and_no_solved_examples_in_its_prompts(
    harness_of, loaded, shots
):
    task = harness_of("mmlu_anatomy", num_fewshot=2, fewshot_file=shots)
    scores = suite_of(anatomy=task).score(loaded)
    assert task.strata(scores, 0.95) == []
    assert [item.prompt for item in task.items()] == [score.prompt for score in scores]
    assert scores[3].prompt.startswith("Thing 3 is\nA. ")
    assert "Thing 2" not in scores[3].prompt


CHANGES = [
    {"num_fewshot": 1, "fewshot_file": "SHOTS"},
    {"fewshot_seed": 1},
    {"batch_size": 5},
    {"take": ("acc_norm",)},
    {"file": None, "revision": COMMIT},
]


@pytest.mark.parametrize("changes", CHANGES, ids=lambda changes: "-".join(changes))
def test_what_decides_a_number_is_in_the_identity(changes, harness_of, shots):
    task = harness_of("mmlu_anatomy")
    changes = {key: shots if value == "SHOTS" else value for key, value in changes.items()}
    assert short_hash(replace(task, **changes)) != short_hash(task)
    if "take" not in changes:
        assert replace(task, **changes).digest() != task.digest()


def test_the_content_of_the_rows_is_in_the_identity_and_their_place_is_not(harness_of, tmp_path):
    task = harness_of("mmlu_anatomy")
    rows = [mmlu(number) for number in range(11)]
    same = replace(task, file=written(tmp_path / "elsewhere.jsonl", rows))
    assert short_hash(same) == short_hash(task)
    written(tmp_path / "elsewhere.jsonl", [*rows[:-1], mmlu(99)])
    assert short_hash(same) != short_hash(task)


def test_rows_that_changed_in_place_are_read_anew(harness_of):
    task = harness_of("mmlu_anatomy", count=3)
    assert len(task.items()) == 3
    written(Path(task.file), [mmlu(number) for number in range(5)])
    assert len(task.items()) == 5


def test_the_fingerprint_says_in_words_how_a_task_was_asked(harness_of, loaded):
    said = suite_of(arc=harness_of()).fingerprint(loaded)["tasks"]["arc"]
    for word in ("arc_easy of lm-eval", "0-shot", "no chat template", "batches of 4", "rows "):
        assert word in said


NO_TEXT = {"text": ["a", " ", "c"], "label": ["A", "B", "C"]}
BAD_ROWS = [
    ("mmlu_anatomy", [mmlu(1), mmlu(0) | {"answer": 4}], r"question 2 has 4 choices.*number 4"),
    ("mmlu_anatomy", [mmlu(0), mmlu(1) | {"answer": -1}], r"question 2 has 4 choices"),
    ("mmlu_anatomy", [mmlu(0), mmlu(1) | {"more": 1}], r"line 2: .*same columns \(more\)"),
    (
        "mmlu_anatomy",
        [mmlu(0) | {"answer": "A"}, mmlu(1) | {"answer": "sea"}],
        r"question 2 has 4 .* to be 'sea'",
    ),
    ("mmlu_anatomy", [], r"has no rows"),
    ("mmlu_anatomy", [mmlu(0) | {"question": None}, mmlu(1)], r"line 1: question holds nothing"),
    ("arc_easy", [arc(0) | {"choices": NO_TEXT}], r"question 1 has a choice without text"),
    ("mmlu_anatomy", [{"question": "Why?", "answer": 0}], r"its rows cannot be asked as lm-eval's"),
    ("arc_easy", [arc(0) | {"answerKey": "Z"}], r"its rows cannot be asked.*columns"),
    ("arc_easy", [mmlu(0)], r"its rows cannot be asked"),
]


@pytest.mark.parametrize(("name", "rows", "said"), BAD_ROWS)
def test_bad_rows_are_named(name, rows, said, harness_of):
    task = harness_of(name)
    written(Path(task.file), rows)
    with pytest.raises(DataError, match=said):
        task.items()


def test_a_missing_file_and_a_broken_line_are_named(harness_of):
    task = harness_of()
    Path(task.file).write_text('{"question": \n', encoding="utf-8")
    with pytest.raises(DataError, match="line 1: not JSON"):
        task.items()
    gone = replace(task, file=task.file + ".gone.jsonl")
    for asked in (gone.digest, gone.items):
        with pytest.raises(DataError, match=r"there is no file .*\.gone\.jsonl"):
            asked()


def test_without_its_data_one_screen_says_which_why_and_what_to_type(harness_of):
    task = replace(harness_of(), file=None, revision=COMMIT)
    with pytest.raises(DataError) as caught:
        task.items()
    said = str(caught.value)
    for word in ("allenai/ai2_arc", COMMIT, "HF_HOME", "HF_HUB_OFFLINE=1", "tasks.arc_easy.file="):
        assert word in said
    assert "\n" not in said


def test_missing_data_are_told_of_before_a_model_is_loaded(harness_of, tmp_path):
    class Never(ModelSubject):
        title, facts, identity = "never", {}, {}

        def directory(self, suite):
            return tmp_path / "scores"

        def load(self):
            raise AssertionError("a model was loaded")

    task = replace(harness_of(), file=None, revision=COMMIT)
    with pytest.raises(DataError, match="allenai/ai2_arc"):
        Never().scored(suite_of(arc=task))


def test_a_file_of_responses_is_refused_without_looking_for_data(harness_of):
    task = replace(harness_of(), file=None, revision=COMMIT)
    with pytest.raises(ConfigError, match="arc"):
        suite_of(arc=task).score_given(lambda name, items: {})


def cached(folder: Path, commit: str) -> None:
    """What `datasets` keeps of a commit of ARC once it was fetched."""
    import datasets
    from datasets.arrow_writer import ArrowWriter

    place = folder / "allenai___ai2_arc" / "ARC-Easy" / "0.0.0" / commit
    place.mkdir(parents=True)
    rows = datasets.Dataset.from_list([arc(3 * number) for number in range(4)])
    splits = datasets.SplitDict(dataset_name="ai2_arc")
    for name in ("train", "validation", "test"):
        writer = ArrowWriter(path=str(place / f"ai2_arc-{name}.arrow"), features=rows.features)
        for row in rows:
            writer.write(row)
        count, size = writer.finalize()
        splits.add(datasets.SplitInfo(name, size, count, dataset_name="ai2_arc"))
    about = {"builder_name": "parquet", "dataset_name": "ai2_arc", "config_name": "ARC-Easy"}
    info = datasets.DatasetInfo(features=rows.features, splits=splits, version="0.0.0", **about)
    info.write_to_directory(str(place))


def test_a_cached_copy_is_asked_without_a_network_if_it_is_of_the_commit(
    harness_of, loaded, tmp_path, monkeypatch
):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    cached(tmp_path / "cache", OTHER)
    task = replace(harness_of(), file=None, revision=OTHER)
    assert len(suite_of(arc=task).score(loaded)) == 4
    with pytest.raises(DataError, match=f"is not of commit {COMMIT}.*revision={OTHER}"):
        replace(task, revision=COMMIT).items()


UNFIT = [
    ({"output_type": "generate_until"}, r"not answered by choosing.*generate_until"),
    ({"class": "x"}, "not answered by choosing"),
    ({"dataset_kwargs": {"trust_remote_code": True}}, "code that comes with its data"),
    ({"unsafe_code": True}, "code that a model wrote"),
    ({"filter_list": [{}, {}]}, "in several ways"),
    ({"num_fewshot": 0}, "fixed at no solved examples, and num_fewshot is 2"),
    ({"metric_list": [{"metric": "f1", "aggregation": "f1"}]}, "has no metric 'acc'"),
    ({"metric_list": [{"metric": "acc", "higher_is_better": False}]}, "has no metric 'acc'"),
    (
        {"task": ["a"], "aggregate_metric_list": [{"metric": "acc", "weight_by_size": False}]},
        "counts each of its tasks alike",
    ),
]


@pytest.mark.parametrize(("cfg", "said"), UNFIT)
def test_a_task_whose_number_would_not_be_lm_evals_own_is_refused_by_name(cfg, said):
    asked = Asked("some", ("acc",), 2, 1, COMMIT, None, None)
    fit_one = {"task": "some", "output_type": "multiple_choice"}
    refuse_unfit(asked, {"some": fit_one})
    config = cfg if "class" in cfg else fit_one | cfg
    with pytest.raises(RunError, match=f"'some' .*{said}"):
        refuse_unfit(asked, {"some": config})


def test_a_group_needs_a_file_for_each_of_its_tasks(group):
    _, task = group
    one = replace(task, file=task.file.replace("*", "mmlu_virology"))
    with pytest.raises(RunError, match=r"group of 13 tasks.*\*\.jsonl"):
        one.items()


@SLOW
def test_a_task_that_lm_eval_lacks_is_refused_with_a_near_name(harness_of, one_register):
    with pytest.raises(RunError, match=r"no task 'arc_eazy'.*Did you mean 'arc_easy'"):
        replace(harness_of(), task="arc_eazy").items()


@SLOW
def test_a_group_that_changes_its_tasks_is_refused(harness_of):
    with pytest.raises(RunError, match="'mmlu_continuation' changes settings of 4 of its tasks"):
        replace(harness_of(), task="mmlu_continuation").items()


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"take": ()}, "take"),
        ({"file": None, "revision": "main"}, "revision"),
        ({"file": None, "revision": None}, "revision"),
        ({"file": None, "revision": COMMIT, "fewshot_file": "x.jsonl"}, "fewshot_file"),
        ({"num_fewshot": 5}, "fewshot_file"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(changes, where, harness_of):
    with pytest.raises(HeedError) as caught:
        harness_of(**changes)
    assert [mistake.where for mistake in caught.value.mistakes] == [where]


@pytest.mark.parametrize(
    ("name", "primary", "first"),
    [
        ("core", "ifeval/inst_level_strict_acc", "ifeval"),
        ("knowledge", "arc_easy/acc_norm", "arc_easy"),
    ],
)
def test_the_suites_hold_the_five_tasks_and_mmlu_behind_five_solved_ones(name, primary, first):
    suite = compose_component(CONF, "train", [f"suite={name}", "data_dir=/nowhere"]).suite
    five = ["arc_easy", "arc_challenge", "hellaswag", "truthfulqa_mc2", "mmlu"]
    assert suite.primary == primary
    assert list(suite.tasks) == list(dict.fromkeys([first, *five]))
    shots = {name: suite.tasks[name].num_fewshot for name in five}
    assert shots == {name: 5 if name == "mmlu" else 0 for name in five}
    for task in five:
        assert suite.tasks[task].task == task
        refuse_unfit(suite.tasks[task].asked, {task: manager_of(task).task_index[task].cfg})

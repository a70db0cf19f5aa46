"""The tasks of lm-eval as they are asked here: found by name, checked, and given their data."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np

from heed.core.component import nearest
from heed.core.errors import DataError, HeedError, RunError
from heed.data.arrow import local_data, without_bars
from heed.evaluation.lm_eval_data import SUBTASK, Asked, check_data

SEEDS = {"random_seed": 0, "numpy_random_seed": 1234, "torch_random_seed": 1234}
"""What lm-eval itself sets before it reads a task: with others the numbers would not be its own."""

PLAIN_ERRORS = (
    OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, ImportError, RuntimeError,
)  # fmt: skip
"""What reading a task or its data raises, beside the template engine's own."""


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without the log lines and the bars of lm-eval and `datasets` inside the block."""
    import lm_eval.api.task

    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets", "huggingface_hub")]
    levels, bars = [logger.level for logger in loggers], lm_eval.api.task.tqdm
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        lm_eval.api.task.tqdm = lambda iterable, **_: iterable
        with without_bars():
            yield
    finally:
        lm_eval.api.task.tqdm = bars
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def own_randomness() -> Iterator[None]:
    """Draw as plain lm-eval does inside the block, and go on outside as if nothing was drawn."""
    import torch

    plain, numbers = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            random.seed(SEEDS["random_seed"])
            np.random.seed(SEEDS["numpy_random_seed"])
            torch.manual_seed(SEEDS["torch_random_seed"])
            yield
    finally:
        random.setstate(plain)
        np.random.set_state(numbers)


@cache
def manager_of(task: str) -> Any:
    """lm-eval's register of tasks, as far as a task or group needs it.

    To read all of its 14,000 files takes seconds; a task with its group mostly stands in one
    folder, whose file is named after it.

    Raises:
        RunError: lm-eval has no such task.
    """
    import lm_eval.tasks
    from lm_eval.tasks import TaskManager

    home = Path(lm_eval.tasks.__file__).parent
    for file in sorted(home.rglob(f"*{escape(task)}.yaml")):
        near = TaskManager(include_defaults=False, include_path=file.parent)
        with contextlib.suppress(KeyError):
            leaves_of(near.task_index, task)
            return near
    whole = TaskManager()
    try:
        leaves_of(whole.task_index, task)
    except KeyError as error:
        hint = nearest(task, whole.all_tasks)
        raise RunError(
            f"lm-eval has no task {task!r}, so there is nothing to ask. {hint} All names: "
            f"lm-eval ls tasks."
        ) from error
    return whole


def leaves_of(index: Mapping[str, Any], name: str) -> list[str]:
    """The tasks that a name stands for: its own, those of its group, or those of its tag.

    Raises:
        KeyError: the name, or one that it stands for, is not in the index.
        RunError: a group changes tasks where it lists them.
    """
    entry = index[name]
    if entry.tags and not entry.cfg:
        return [leaf for tagged in sorted(entry.tags) for leaf in leaves_of(index, tagged)]
    members = (entry.cfg or {}).get("task")
    if not isinstance(members, list):
        return [name]
    if changed := [member for member in members if not isinstance(member, str)]:
        raise RunError(
            f"lm-eval's group {name!r} changes settings of {len(changed)} of its tasks where it "
            f"lists them, and without these changes they would be other tasks. Give a task by its "
            f"own name: lm-eval ls tasks."
        )
    return [leaf for member in members for leaf in leaves_of(index, member)]


@cache
def _loaded(asked: Asked, data: str) -> dict[str, Any]:
    """`load_tasks`, once in a process for the same data."""
    del data  # says when the files have changed
    manager = manager_of(asked.task)
    index = manager.task_index
    leaves = leaves_of(index, asked.task)
    refuse_unfit(asked, {name: index[name].cfg for name in (asked.task, *leaves)})
    members = [{"task": leaf} | _changes(asked, leaf, index[leaf].cfg, leaves) for leaf in leaves]
    with quietly(), own_randomness():
        found: dict[str, Any] = manager.load([{"group": "heed", "task": members}])["tasks"]
    for leaf, task in found.items():
        check_data(asked, leaf, task)
    return found


def load_tasks(asked: Asked) -> dict[str, Any]:
    """lm-eval's own task objects with their data, by name, in the order of their group.

    Raises:
        DataError: the data are missing, not those of the commit, or malformed.
        RunError: the task cannot be asked here.
    """
    from jinja2 import TemplateError

    try:
        return _loaded(asked, asked.data)
    except HeedError:
        raise
    except (*PLAIN_ERRORS, TemplateError) as error:
        raise _unreadable(asked, error) from error


def _unreadable(asked: Asked, error: Exception) -> DataError:
    """What could not be loaded, why, and what to type."""
    said = (str(error).splitlines() or [""])[0][:200]
    why = f"{type(error).__name__}: {said}"
    if asked.file is not None:
        return DataError(
            f"{asked.file}: its rows cannot be asked as lm-eval's {asked.task} ({why}). They need "
            f"the columns that this task's own data have, each question with its choices and the "
            f"right one. Correct the file."
        )
    index = manager_of(asked.task).task_index
    leaves = [index[leaf].cfg for leaf in leaves_of(index, asked.task)]
    names = ", ".join(sorted({str(cfg.get("dataset_path")) for cfg in leaves}))
    return DataError(
        f"lm-eval's {asked.task}: its data {names} at commit {asked.revision} could not be loaded "
        f"({why}). Without them there is nothing to score. With a network, the same command "
        f"fetches them. Without one, fetch them elsewhere, point HF_HOME to a copy of that "
        f"machine's cache, and set HF_HUB_OFFLINE=1; or give rows of the same columns: "
        f"suite.tasks.{asked.task}.file=<rows.jsonl>. To leave knowledge out: suite=ifeval."
    )


def refuse_unfit(asked: Asked, configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse what could not be asked, or not be added up, as it is done here.

    Args:
        asked: What is asked.
        configs: lm-eval's settings of the group and of each of its tasks, by name.

    Raises:
        RunError: naming the task and what is in the way.
    """
    for name, cfg in configs.items():
        why = _group_in_the_way(cfg) if isinstance(cfg.get("task"), list) else ""
        if not isinstance(cfg.get("task"), list):
            why = _in_the_way(asked, cfg)
        if why:
            raise RunError(
                f"lm-eval's task {name!r} {why}, so its number would not be lm-eval's own, or not "
                f"come about by weighing choices. Choose another task, or score it with lm-eval "
                f"alone."
            )


def _group_in_the_way(cfg: Mapping[str, Any]) -> str:
    """Why the numbers of a group's tasks cannot be added up; nothing if they can."""
    metrics = cfg.get("aggregate_metric_list") or []
    odd = any(not metric.get("weight_by_size", True) for metric in metrics)
    return "counts each of its tasks alike, however many questions it has" if odd else ""


def _in_the_way(asked: Asked, cfg: Mapping[str, Any]) -> str:
    """Why a task cannot be asked here; nothing if it can."""
    kind = cfg.get("output_type", "generate_until" if "class" not in cfg else "of its own code")
    if kind != "multiple_choice":
        return f"is not answered by choosing (its kind is {kind})"
    if (cfg.get("dataset_kwargs") or {}).get("trust_remote_code"):
        return "runs code that comes with its data, which is never run here"
    if cfg.get("unsafe_code"):
        return "runs code that a model wrote"
    if len(cfg.get("filter_list") or [1]) > 1:
        return "filters its answers in several ways"
    if cfg.get("num_fewshot") == 0 and asked.num_fewshot:
        return f"is fixed at no solved examples, and num_fewshot is {asked.num_fewshot}"
    listed = cfg.get("metric_list") or [{"metric": name} for name in ("acc", "acc_norm")]
    means = [
        str(metric["metric"])
        for metric in listed
        if metric.get("aggregation", "mean") == "mean" and metric.get("higher_is_better", True)
    ]
    if wrong := [name for name in asked.take if name not in means]:
        return f"has no metric {wrong[0]!r} that is a mean over its questions (it has {means})"
    return ""


def _changes(
    asked: Asked, leaf: str, cfg: Mapping[str, Any], leaves: Sequence[str]
) -> dict[str, Any]:
    """What is set in lm-eval's settings of a task: the examples before it, and its data."""
    changed: dict[str, Any] = {"num_fewshot": asked.num_fewshot}
    if asked.file is None:
        own = dict(cfg.get("dataset_kwargs") or {})
        return changed | {"dataset_kwargs": own | {"revision": asked.revision}}
    if len(leaves) > 1 and SUBTASK not in asked.file:
        raise RunError(
            f"{asked.file}: lm-eval's {asked.task!r} is a group of {len(leaves)} tasks, and one "
            f"file would be asked as each of them. Give a file for each, with {SUBTASK} in its "
            f"path: <folder>/{SUBTASK}.jsonl stands for <folder>/{leaves[0]}.jsonl and so on."
        )
    paths = {"test": asked.file, "fewshot": asked.fewshot_file}
    splits = {split: path.replace(SUBTASK, leaf) for split, path in paths.items() if path}

    def local(**_: Any) -> Any:
        return local_data(splits)

    return changed | {
        "custom_dataset": local,
        "dataset_kwargs": None,
        "training_split": None,
        "validation_split": None,
        "test_split": "test",
        "fewshot_split": "fewshot" if asked.fewshot_file else None,
    }

"""Instruction following that a program can check: IFEval's row format and its four metrics.

Source: Zhou et al. 2023, https://arxiv.org/abs/2311.07911.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

from heed.core.component import component, nearest
from heed.core.errors import DataError
from heed.core.identity import Incidental
from heed.core.types import Answer, Item, ItemScore, Ratio
from heed.data.teacher import json_lines, need_file
from heed.evaluation.task import Task
from heed.evaluation.verifiers import NEEDS_PUNKT, SEED, Row, find_punkt, registry, verify

METRICS: tuple[str, ...] = (
    "prompt_level_strict_acc",
    "inst_level_strict_acc",
    "prompt_level_loose_acc",
    "inst_level_loose_acc",
)
"""lm-eval's names. Prompt level: all of a prompt's instructions; instruction level: each one."""

FIELDS = ("key", "prompt", "instruction_id_list", "kwargs")


class InstructionFollowing(Task):
    """Prompts in IFEval's row format, wherever the rows come from."""

    metrics = METRICS

    @abstractmethod
    def rows(self) -> Sequence[Row]:
        """All rows in a fixed order, each with `key`, `prompt`, `instruction_id_list`, `kwargs`."""

    def nltk_folder(self) -> str | None:
        """A folder that holds nltk's `tokenizers/punkt_tab`, or None for nltk's own search path."""
        return None

    def items(self) -> list[Item]:
        """One item per row; its key is the row's key as text.

        Raises:
            DataError: a row is malformed, or a verifier lacks its data.
        """
        rows = self.rows()
        check_rows(rows)
        if any(NEEDS_PUNKT.intersection(row["instruction_id_list"]) for row in rows):
            find_punkt(self.nltk_folder())
        return [Item(key=str(row["key"]), prompt=row["prompt"], row=row) for row in rows]

    def score(self, name: str, item: Item, answer: Answer) -> ItemScore:
        """Score a response strictly (as it is) and loosely (with common wrappings removed)."""
        strict, loose = verify(item.row, answer.text)
        verdicts = zip(item.row["instruction_id_list"], strict, loose, strict=True)
        return ItemScore(
            task=name,
            key=item.key,
            prompt=item.prompt,
            response=answer.text,
            stop=answer.stop,
            tokens=answer.tokens,
            metrics=metrics_of(strict, loose),
            details={"instructions": [{"id": i, "strict": s, "loose": w} for i, s, w in verdicts]},
        )

    def digest(self) -> str:
        """Hash of the rows, of the seed, and of the packages that hold the rules."""
        rules = {name: version(name) for name in ("lm_eval", "langdetect", "nltk")}
        text = json.dumps([[dict(row) for row in self.rows()], rules, SEED], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@component
class IFEval(InstructionFollowing):
    """Prompts read from a jsonl file, such as the 541 of IFEval.

    Source: Zhou et al. 2023, https://arxiv.org/abs/2311.07911, section 2.
    """

    path: Annotated[str, Incidental]
    """File of rows, .jsonl or .jsonl.gz; the identity holds its content, not its place."""

    nltk_data: Annotated[str | None, Incidental]
    """Folder that holds `tokenizers/punkt_tab`; null searches where nltk itself would."""

    def rows(self) -> list[Row]:
        """The rows of the file.

        Raises:
            DataError: the file is missing, or a line is not a JSON object.
        """
        return list(json_lines(need_file(self.path, "prompts of task ifeval")))

    def nltk_folder(self) -> str | None:
        """The configured folder."""
        return self.nltk_data


def metrics_of(strict: Sequence[bool], loose: Sequence[bool]) -> dict[str, Ratio]:
    """The four metrics of one prompt, each as followed over asked.

    Example:
        >>> metrics_of([True, False], [True, True])["inst_level_strict_acc"]
        Ratio(num=1, den=2)
    """
    ratios = [
        ratio
        for followed in (strict, loose)
        for ratio in (Ratio(int(all(followed)), 1), Ratio(sum(followed), len(followed)))
    ]
    return dict(zip(METRICS, ratios, strict=True))


def check_rows(rows: Sequence[Row]) -> None:
    """Refuse rows that could not be scored as they ask.

    Raises:
        DataError: no rows, a missing field, a repeated key, an unknown instruction type, or a list
            of arguments that does not match the list of instructions.
    """
    if not rows:
        raise DataError("The task has no prompts, so it has no score. Give it at least two rows.")
    seen: set[str] = set()
    for row in rows:
        missing = [field for field in FIELDS if field not in row]
        if missing:
            raise DataError(
                f"The row {str(dict(row))[:80]} lacks {', '.join(missing)}, so it cannot be "
                f"scored. Every row needs {', '.join(FIELDS)}."
            )
        if str(row["key"]) in seen:
            raise DataError(
                f"Key {row['key']} appears twice, so before and after could not be paired. Give "
                f"every row its own key."
            )
        seen.add(str(row["key"]))
        _check_instructions(row)


def _check_instructions(row: Row) -> None:
    names, arguments, known = row["instruction_id_list"], row["kwargs"], registry()
    if not names or len(names) != len(arguments):
        raise DataError(
            f"Row {row['key']} has {len(names)} instructions and {len(arguments)} kwargs, so it is "
            f"not clear what to verify. Give one dict of kwargs per instruction, at least one."
        )
    for name in names:
        if name not in known:
            raise DataError(
                f"Row {row['key']} asks for {name!r}, which no verifier knows. "
                f"{nearest(name, list(known))} Known types: {', '.join(sorted(known))}."
            )

"""Instruction following that a program can check: IFEval's row format and its four metrics.

Source: Zhou et al. 2023, https://arxiv.org/abs/2311.07911.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any

from heed.core.component import component, nearest
from heed.core.errors import DataError
from heed.core.identity import Incidental
from heed.core.stats import share_interval
from heed.core.types import Answer, Item, ItemScore, Ratio, Stratum
from heed.data.tables import json_lines, need_file
from heed.evaluation.nltk_data import (
    NEEDS_PUNKT,
    DataMissingError,
    find_punkt,
    how_to_get,
    use_nltk_folder,
)
from heed.evaluation.rules import RulesName, registry, rules_versions
from heed.evaluation.task import Task, item_key
from heed.evaluation.verifiers import SEED, Row, Verdict, verify

METRICS: tuple[str, ...] = (
    "prompt_level_strict_acc",
    "inst_level_strict_acc",
    "prompt_level_loose_acc",
    "inst_level_loose_acc",
)
"""lm-eval's names. Prompt level: all of a prompt's instructions; instruction level: each one."""

FIELDS = ("key", "prompt", "instruction_id_list", "kwargs")

PROBE = "This is a sentence. Is this another one? " * 20
"""What every type of instruction is verified on once, before anything is scored: sentences enough
for rules that read data only if there are so many."""

DRAWN = "instruction whose row leaves an argument to chance (drawn with a fixed seed)"
FAILED = "instruction on which the verifier failed, scored as not followed"


class InstructionFollowing(Task):
    """Prompts in IFEval's row format, wherever the rows come from."""

    metrics = METRICS

    @abstractmethod
    def rows(self) -> Sequence[Row]:
        """All rows in a fixed order, each with `key`, `prompt`, `instruction_id_list`, `kwargs`."""

    def verifiers(self) -> RulesName:
        """Whose verifiers know the instruction types: lm-eval's, unless a task says otherwise."""
        return "ifeval"

    def nltk_folder(self) -> str | None:
        """A folder that holds nltk's `tokenizers/punkt_tab`, or None for nltk's own search path."""
        return None

    def items(self) -> list[Item]:
        """One item per row; its key is the row's key as text.

        Raises:
            DataError: a row is malformed, or the verifiers' package or its data is missing.
        """
        rows = self.rows()
        use_nltk_folder(self.nltk_folder())
        if kinds := self._needs_punkt(rows):
            find_punkt(self.nltk_folder(), kinds)
        check_rows(rows, self.verifiers())
        return [Item(item_key("", row["key"]), row["prompt"], row=row) for row in rows]

    def score(self, name: str, item: Item, answer: Answer) -> ItemScore:
        """Score a response strictly (as it is) and loosely (with common wrappings removed)."""
        verdicts = verify(item.row, answer.text, self.verifiers())
        told = zip(item.row["instruction_id_list"], verdicts, strict=True)
        return ItemScore(
            task=name,
            key=item.key,
            prompt=item.prompt,
            response=answer.text,
            stop=answer.stop,
            tokens=answer.tokens,
            metrics=metrics_of([v.strict for v in verdicts], [v.loose for v in verdicts]),
            details={"instructions": [_detail(kind, verdict) for kind, verdict in told]},
        )

    def strata(self, scores: Sequence[ItemScore], level: float) -> list[Stratum]:
        """Each group of instruction types, followed by its types, in alphabetical order.

        The intervals are those of a share of *prompts* (`share_interval`): instructions of one
        prompt are not independent.
        """
        told = [(score.key, told) for score in scores for told in score.details["instructions"]]
        found = []
        for group in sorted({_group(detail["id"]) for _, detail in told}):
            own = [(key, detail) for key, detail in told if _group(detail["id"]) == group]
            found.append(_stratum(group, "", own, level))
            for kind in sorted({detail["id"] for _, detail in own}):
                part = [(key, detail) for key, detail in own if detail["id"] == kind]
                found.append(_stratum(group, kind, part, level))
        return found

    def parts(self, score: ItemScore, metric: str) -> dict[str, Ratio]:
        """By type of instruction, what was followed over what was asked; at instruction level."""
        level, _, rest = metric.partition("_level_")
        if level != "inst":
            return {}
        mode = rest.removesuffix("_acc")
        told = score.details["instructions"]
        own = {one["id"]: [bool(t[mode]) for t in told if t["id"] == one["id"]] for one in told}
        return {kind: Ratio(sum(found), len(found)) for kind, found in own.items()}

    def events(self, scores: Sequence[ItemScore]) -> dict[str, int]:
        """Instructions whose verdict hangs on the seed, or on a verifier's failure."""
        told = [told for score in scores for told in score.details["instructions"]]
        return {
            DRAWN: sum("drawn" in detail for detail in told),
            FAILED: sum("error" in detail for detail in told),
        }

    def digest(self) -> str:
        """Hash of the rows, of the verifiers' seed, and of what is known of their rules.

        Of the rules: the versions of the package of verifiers and of the packages beside it
        (`rules_versions`), and, if a row needs it, the content of nltk's `punkt_tab` data. Not in
        it: other data that verifiers read, such as nltk's stop words for IFBench, and changes to
        the packages' files that leave the version as it is.
        """
        rows = self.rows()
        rules: dict[str, Any] = dict(rules_versions(self.verifiers()))
        if kinds := self._needs_punkt(rows):
            rules["punkt_tab"] = find_punkt(self.nltk_folder(), kinds)
        text = json.dumps([[dict(row) for row in rows], rules, SEED], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _needs_punkt(self, rows: Sequence[Row]) -> set[str]:
        """The rows' instruction types that read it."""
        asked = [row.get("instruction_id_list") or () for row in rows]
        return {k for kinds in asked if _all_are(str, kinds) for k in kinds if k in NEEDS_PUNKT}


@component
class PromptFile(InstructionFollowing):
    """Prompts read from a jsonl file: the 541 of IFEval, the 300 of IFBench, or your own.

    Source: Zhou et al. 2023, https://arxiv.org/abs/2311.07911, section 2.
    """

    path: Annotated[str, Incidental]
    """File of rows, .jsonl or .jsonl.gz; the identity holds its content, not its place."""

    rules: RulesName
    """Whose verifiers: `ifeval` (lm-eval) or `ifbench` (its own package, else lighteval)."""

    nltk_data: Annotated[str | None, Incidental]
    """Folder that holds `tokenizers/punkt_tab`; null searches where nltk itself would."""

    def rows(self) -> list[Row]:
        """The rows of the file.

        Raises:
            DataError: the file is missing, or a line is not a JSON object.
        """
        return list(json_lines(need_file(self.path, f"prompts for the rules of {self.rules}")))

    def verifiers(self) -> RulesName:
        """The configured ones."""
        return self.rules

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


def _detail(kind: str, verdict: Verdict) -> dict[str, Any]:
    """One instruction's row in the details: what is out of the ordinary only where it is."""
    found = {"id": kind, "strict": verdict.strict, "loose": verdict.loose}
    more = {"drawn": dict(verdict.drawn), "error": verdict.error}
    return found | {key: value for key, value in more.items() if value}


def _group(kind: str) -> str:
    return kind.partition(":")[0]


def _stratum(
    group: str, kind: str, told: Sequence[tuple[str, Mapping[str, Any]]], level: float
) -> Stratum:
    """The score of some instructions, given with the keys of their prompts."""
    prompts = len({key for key, _ in told})
    metrics = {
        f"inst_level_{mode}_acc": share_interval(
            sum(detail[mode] for _, detail in told) / len(told), prompts, level
        )
        for mode in ("strict", "loose")
    }
    return Stratum(group, kind, prompts, len(told), metrics)


def check_rows(rows: Sequence[Row], rules: RulesName = "ifeval") -> None:
    """Refuse rows that could not be scored as they ask.

    Raises:
        DataError: no rows, a missing field, a repeated key, an unknown instruction type, arguments
            that do not fit the instructions, or data of nltk that a verifier lacks.
    """
    if not rows:
        raise DataError("The task has no prompts, so it has no score. Give it at least two rows.")
    seen: set[str] = set()
    for row in rows:
        text = _check_fields(row)
        key = item_key(f"The row {_shown(row)}", row["key"])
        if key in seen:
            raise DataError(
                f"Key {key} appears twice, so before and after could not be paired. Give every row "
                f"its own key."
            )
        seen.add(key)
        _check_instructions(row, text, rules)
    _try_each_type(rows, rules)


def _check_fields(row: Row) -> str:
    """Refuse a row that no file or no verifier can hold; returns it as JSON."""
    missing = [field for field in FIELDS if field not in row]
    if missing:
        raise DataError(
            f"The row {_shown(row)} lacks {', '.join(missing)}, so it cannot be scored. Every row "
            f"needs {', '.join(FIELDS)}."
        )
    text = json.dumps(dict(row), ensure_ascii=False)
    if re.search("[\ud800-\udfff]", text):
        raise DataError(
            f"The row {_shown(row)} holds half a character (a lone surrogate), which no file of "
            f"scores can hold. Write the whole character, or leave it out."
        )
    names, arguments = row["instruction_id_list"], row["kwargs"]
    kinds = {
        "prompt": isinstance(row["prompt"], str),
        "instruction_id_list": _all_are(str, names),
        "kwargs": _all_are(dict, arguments),
    }
    for field in (field for field, right in kinds.items() if not right):
        raise DataError(
            f"Row {row['key']}: {field} is {str(row[field])[:60]!r}, which no verifier can read. "
            f"Give prompt as text, instruction_id_list as a list of texts, and kwargs as a list of "
            f"objects."
        )
    if not names or len(names) != len(arguments):
        raise DataError(
            f"Row {row['key']} has {len(names)} instructions and {len(arguments)} kwargs, so it is "
            f"not clear what to verify. Give one dict of kwargs per instruction, at least one."
        )
    return text


def _shown(row: Row) -> str:
    return ascii(dict(row))[:80]


def _all_are(kind: type, values: Any) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(value, kind) for value in values)


def _check_instructions(row: Row, text: str, rules: RulesName) -> None:
    known = registry(rules)
    for name in row["instruction_id_list"]:
        if name not in known:
            raise DataError(
                f"Row {row['key']} asks for {name!r}, which no verifier of {rules} knows. "
                f"{nearest(name, list(known))} Known types: {', '.join(sorted(known))}."
            )
    _check_arguments(text, rules)


@lru_cache(maxsize=4096)
def _check_arguments(row: str, rules: RulesName) -> None:
    """Refuse a row, given as JSON, of which a verifier does not take its arguments; once each."""
    verify(json.loads(row), None, rules)


def _try_each_type(rows: Sequence[Row], rules: RulesName) -> None:
    """Run each verifier once, so that data which it lacks are missed before any model answers."""
    tried: set[str] = set()
    lacking: dict[str, list[str]] = {}
    for row in rows:
        for kind, arguments in zip(row["instruction_id_list"], row["kwargs"], strict=True):
            if kind not in tried:
                tried.add(kind)
                alone = dict(row) | {"instruction_id_list": [kind], "kwargs": [arguments]}
                try:
                    verify(alone, PROBE, rules)
                except DataMissingError as error:
                    lacking.setdefault(error.resource, []).append(kind)
    if lacking:
        _refuse_lacking(rows, lacking)


def _refuse_lacking(rows: Sequence[Row], lacking: Mapping[str, Sequence[str]]) -> None:
    """Say all at once what data of nltk the verifiers lack, and how many rows need them.

    Args:
        rows: All rows.
        lacking: What nltk calls the data -> instruction types that read them.

    Raises:
        DataError: always.
    """
    told = "; ".join(f"{name} (for {', '.join(kinds)})" for name, kinds in lacking.items())
    kinds = {kind for found in lacking.values() for kind in found}
    number = sum(not kinds.isdisjoint(row["instruction_id_list"]) for row in rows)
    raise DataError(
        f"Data of nltk are missing: {told}. {number} of the {len(rows)} prompts cannot be verified "
        f"without. {how_to_get(*lacking)} Or score the other prompts alone: prompts=<a file of "
        f"their rows>."
    )

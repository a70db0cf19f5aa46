"""Responses that a judge compares with a reference: the win rate of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

from heed.core.component import component
from heed.core.errors import DataError, RunError
from heed.core.identity import Incidental, canonical, short_hash
from heed.core.types import Answer, Item, ItemScore, Ratio
from heed.core.unscored import MISSING
from heed.data.tables import json_lines, need_file
from heed.evaluation.judge import Judge, Judgement, Pairwise, outputs_of
from heed.evaluation.task import Task, item_key
from heed.evaluation.win_rates import Judged, discrete, length_controlled

LOST = "no response: lost without asking the judge"
COUNTED = {
    "read": "tokens that the judge read",
    "written": "tokens that the judge wrote",
    "kept": "reply of the judge kept from before, not asked for again",
    "swayed": "pair whose verdict went with the order of the two",
}
"""Numbers in an item's details -> what their sums are called."""


@component
class JudgedPairs(Task):
    """Instructions whose responses a judge compares with those of a reference model.

    Source: Dubois et al. 2024, https://arxiv.org/abs/2404.04475, section 2.
    """

    instructions: Annotated[str, Incidental]
    """File with idx and instruction, .jsonl or .jsonl.gz."""

    outputs: Annotated[str, Incidental]
    """The reference's responses: a file with instruction and output, .jsonl or .jsonl.gz."""

    reference: str
    """Name of the reference."""

    judge: Judge
    """What compares."""

    metrics = ("win_rate", "discrete_win_rate")
    paid = True

    def items(self) -> list[Item]:
        """One item per instruction, with the reference's response in its row.

        Raises:
            DataError: a file is missing, a row is malformed, or the reference lacks a response.
        """
        path = need_file(self.instructions, "instructions for a judge")
        said = outputs_of(need_file(self.outputs, f"responses of {self.reference}"))
        found: dict[str, Item] = {}
        for row in json_lines(path):
            key, asked = item_key(str(path), row.get("idx")), row.get("instruction")
            if key in found or not isinstance(asked, str) or asked not in said:
                raise DataError(
                    f"{path}: instruction {key} is there twice, is no text, or has no response in "
                    f"{self.outputs}. Give each instruction one row, and one response of the "
                    f"reference."
                )
            found[key] = Item(key, asked, row={"reference": said[asked]})
        return list(found.values())

    def score(self, name: str, item: Item, answer: Answer) -> ItemScore:
        """The judge's preference; none if it cannot be read, lost if there is no response."""
        if answer.text is None:
            found = Judgement(0.0, LOST)
        else:
            pair = Pairwise(item.key, item.prompt, item.row["reference"], answer.text)
            found = self.judge.judge(pair)
        return ItemScore(
            task=name,
            key=item.key,
            prompt=item.prompt,
            response=answer.text,
            stop=answer.stop,
            tokens=answer.tokens,
            metrics=_ratios(found.preference),
            details=_details(found),
        )

    def events(self, scores: Sequence[ItemScore]) -> dict[str, int]:
        """Judgements that are missing, by reason; responses that are; what the judge cost."""
        found: Counter[str] = Counter()
        for told in (score.details for score in scores):
            found.update({what: told.get(field, 0) for field, what in COUNTED.items()})
            found.update([told[MISSING]] if MISSING in told else [])
            found.update(f"judged by {model}" for model in told.get("served", ()))
        return {what: times for what, times in found.items() if times}

    def notes(self, scores: Sequence[ItemScore]) -> list[str]:
        """The length-controlled win rate, or why there is none.

        Raises:
            RunError: too few responses have a judgement for any win rate.
        """
        _refuse_unjudged(scores)
        items = {item.key: item for item in self.items()}
        told = [
            Judged(
                int(score.key),
                score.metrics["win_rate"].num,
                items[score.key].row["reference"],
                score.response or "",
            )
            for score in scores
            if score.metrics["win_rate"].den and score.key.isdigit()
        ]
        return [length_controlled(told, self.reference, len(items))]

    def digest(self) -> str:
        """Hash of the instructions, of the reference's responses, and of the judge."""
        rows = [[item.key, item.prompt, item.row["reference"]] for item in self.items()]
        return short_hash([rows, self.reference, canonical(self.judge)])


def _refuse_unjudged(scores: Sequence[ItemScore]) -> None:
    """Say why there is no win rate, where an interval would only find nothing to score."""
    found = sum(score.metrics["win_rate"].den > 0 for score in scores)
    why = Counter(s.details[MISSING] for s in scores if MISSING in s.details)
    if found < 2 and why:
        told = "; ".join(f"{times} times: {what}" for what, times in why.items())
        raise RunError(
            f"{found} of {len(scores)} responses have a judgement ({told}), so there is no win "
            f"rate. Recorded judgements are of the very texts that were judged: give the file of "
            f"that model's responses, or choose a judge that can be asked. If one was asked, its "
            f"replies have to end in 1, 2 or tie: they are in its journal."
        )


def _ratios(preference: float | None) -> dict[str, Ratio]:
    """The two metrics; nothing over nothing where there is no preference."""
    if preference is None:
        return {name: Ratio(0, 0) for name in JudgedPairs.metrics}
    values = (preference, discrete(preference))
    return {name: Ratio(v, 1) for name, v in zip(JudgedPairs.metrics, values, strict=True)}


def _details(found: Judgement) -> dict[str, Any]:
    """What is told of a judgement, as plain data; what is empty is left out."""
    told = {
        MISSING: found.missing,
        "replies": list(found.replies),
        "reference first": list(found.orders),
        "read": found.read,
        "written": found.written,
        "served": list(found.served),
        "kept": found.kept,
        "swayed": int(found.swayed),
    }
    return {"preference": found.preference} | {what: v for what, v in told.items() if v}

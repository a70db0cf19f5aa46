"""How good a response is, as one number: from a column, a reward model, or a judge's record."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import PositiveInt

from heed.core.collector import release
from heed.core.component import component, nearest
from heed.core.errors import ConfigError, Mistake
from heed.core.files import append_jsonl, digest_file
from heed.core.identity import Incidental, canonical, digest_model, short_hash, slug, versions
from heed.core.types import ChatTemplate, Example
from heed.data.intake import conversation_digest
from heed.data.preferences import Scale, keys_of, outputs_of, read_preferences
from heed.data.tables import need_file

if TYPE_CHECKING:
    from heed.models.reward_model import RewardScorer

CUT = "conversation cut at the reward model's max_tokens"
TOO_LONG = "conversation longer than the reward model's max_tokens, no reward"
SPECIAL = "text that says a special token of the reward model's tokenizer, no reward"
KEPT = "reward kept from before"
NO_COLUMN = "no judgements of this teacher, no reward"
NOT_JUDGED = "instruction or response that was not judged, no reward"
SHORT_TYPE = "reward in bfloat16, whose last digits hang on the batch"


NO_REWARD = "no reward"
"""How every event ends that says why a response has none."""


@dataclass(frozen=True)
class RewardAround:
    """Where rewards are computed.

    Attributes:
        root: Of the outputs; rewards of a model are kept below it.
        device: Of a reward model.
        events: Told what a reader of the rewards should know: name -> count.
        held: What was loaded for a reward, by a name of the reward; `rewarding` gives it back.
        files: Where scores of a reward are kept; a model's directory is read whole to know it.
    """

    root: Path
    device: str
    events: Counter[str] = field(default_factory=Counter)
    held: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)

    def hold(self, name: str, load: Callable[[], Any]) -> Any:
        """What is called so, loaded when it is first asked for; what was held before is let go."""
        if name not in self.held:
            self._let_go()
            self.held[name] = load()
        return self.held[name]

    def _let_go(self) -> None:
        if self.held:
            self.held.clear()
            release()


@contextmanager
def rewarding(root: Path, device: str) -> Iterator[RewardAround]:
    """Where rewards are computed: a model is loaded when it is first needed, and once.

    One at a time is in memory, and none after the block, where a student may want the room.
    """
    around = RewardAround(root, device)
    try:
        yield around
    finally:
        around._let_go()


class Reward(ABC):
    """What says how good a response is; an option of `conf/reward/<name>.yaml`."""

    name: Annotated[str, Incidental]

    @abstractmethod
    def of(self, examples: Sequence[Example], around: RewardAround) -> list[float | None]:
        """A score for each response: more is better. None where there is none.

        Raises:
            HeedError: there cannot be any, because a file, a column or a model is missing.
        """


@component
class Column(Reward):
    """A score that the teacher's rows hold."""

    name: Annotated[str, Incidental]
    """How the reward is called in tables."""

    key: str | None
    """Which of the further scores that the layout names in `rewards`; null: `layout.reward`."""

    def of(self, examples: Sequence[Example], around: RewardAround) -> list[float | None]:
        """What the rows say; a teacher of which no row has such a score is told of."""
        scores = [e.reward if self.key is None else e.rewards.get(self.key) for e in examples]
        have = {e.teacher for e, score in zip(examples, scores, strict=True) if score is not None}
        place = "layout.reward" if self.key is None else f"layout.rewards.{self.key}"
        for teacher in sorted({e.teacher for e in examples} - have):
            own = [e for e in examples if e.teacher == teacher]
            others = sorted({name for e in own for name in e.rewards})
            hint = nearest(self.key or "", others)
            known = f" (rows have {', '.join(others)}. {hint})" if others else ""
            around.events[f"{teacher}: no score in {place}{known}, {NO_REWARD}"] += len(own)
        return scores


@component
class RewardModel(Reward):
    """A model with a sequence-classification head, which reads instruction and response.

    Scores are kept on disk by the hash of the conversation, so that none is computed twice, also
    after an interruption.
    """

    name: Annotated[str, Incidental]
    """How the reward is called in tables."""

    path: Annotated[str, Incidental]
    """Hub id, or a directory in the same layout; in the id stands what it holds."""

    revision: Annotated[str | None, Incidental]
    """Commit of the hub repository, 40 digits; null for a directory."""

    dtype: Literal["float32", "bfloat16"]
    """Type of the weights."""

    template: ChatTemplate | None
    """How a conversation is written; null: by the chat template of its own tokenizer."""

    max_tokens: PositiveInt
    """Most tokens of a conversation."""

    over_long: Literal["cut", "none"]
    """A longer one is cut at its end, counted; or has no reward, counted."""

    output: Literal["logits", "score"]
    """What of the model's output is the reward: the logit of a head with one label, or what its
    own code calls score."""

    trust_remote_code: bool
    """Whether code of the repository may run here. Leave it false unless you have read it."""

    batch_tokens: Annotated[PositiveInt, Incidental]
    """Most tokens at a time, padding included: memory and speed."""

    def __post_init__(self) -> None:
        local = Path(self.path).is_dir()
        if not local and not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            why = f"{self.path!r} is no directory here, and without a whole commit it may change."
            action = "Give revision=<commit, 40 digits>, or a directory as path."
            raise ConfigError([Mistake("revision", str(self.revision), why, action)])
        if local and self.revision is not None:
            why = f"{self.path!r} is a directory, whose files are what is pinned."
            raise ConfigError([Mistake("revision", self.revision, why, "Give it null.")])

    def digest(self) -> str:
        """The commit, or what the directory holds."""
        return digest_model(self.path, self.revision)

    def of(self, examples: Sequence[Example], around: RewardAround) -> list[float | None]:
        """Scores of the model, those that are kept on disk first."""
        keys = [conversation_digest(example.messages).hex() for example in examples]
        file = around.files.get(repr(self)) or self.file(around.root)
        around.files[repr(self)] = file
        kept = dict(_kept(file))
        left = {k: e for k, e in zip(keys, examples, strict=True) if k not in kept}
        around.events[KEPT] += sum(key in kept for key in keys)
        if left:
            scorer = around.hold(file.name, lambda: self._load(around.device))
            for key, score, cut in self._scored(left, scorer):
                kept[key] = (score, cut)
                append_jsonl(file, {"conversation": key, "score": score, "cut": cut})
        cuts = sum(kept[key][1] for key in keys)
        around.events[CUT if self.over_long == "cut" else TOO_LONG] += cuts
        around.events[SPECIAL] += sum(kept[key] == (None, False) for key in keys)
        if self.dtype == "bfloat16":
            around.events[SHORT_TYPE] += len(keys)
        return [kept[key][0] for key in keys]

    def file(self, root: Path) -> Path:
        """Where scores are kept: named after all that decides them."""
        about = short_hash([canonical(self), versions(), SPECIAL, "keys of 128 bits"])
        return root / "rewards" / f"{slug(self.name)}--{about}.jsonl"

    def _load(self, device: str) -> RewardScorer:
        from heed.models.reward_model import Origin, RewardScorer

        where = (self.path, self.revision, self.dtype, self.trust_remote_code, self.output)
        return RewardScorer(Origin(*where), device)

    def _scored(
        self, examples: Mapping[str, Example], scorer: RewardScorer
    ) -> Iterator[tuple[str, float | None, bool]]:
        """Key, score, and whether the conversation was too long."""
        from heed.data.spelling import special_tokens

        rows: dict[str, list[int]] = {}
        too_long, special = set(), special_tokens(scorer.tokenizer)
        for key, example in examples.items():
            if special and any(special.search(one.content) for one in example.messages):
                yield key, None, False
                continue
            ids = scorer.ids_of(self._text(example, scorer))
            if len(ids) > self.max_tokens:
                too_long.add(key)
                if self.over_long == "none":
                    yield key, None, True
                    continue
            rows[key] = ids[: self.max_tokens]
        names = list(rows)
        for place, score in scorer.scores(list(rows.values()), self.batch_tokens):
            yield names[place], score, names[place] in too_long

    def _text(self, example: Example, scorer: RewardScorer) -> str:
        if self.template is None:
            return scorer.text_of(example.messages)
        return self.template.render(example.messages).text


@component
class Preference(Reward):
    """How far a judge preferred the response to that of a reference: a table made before.

    A judgement belongs to the text that was judged; any other response has none, and is counted.
    """

    name: Annotated[str, Incidental]
    """How the reward is called in tables."""

    path: Annotated[str, Incidental]
    """The table, .csv or .csv.gz: the first column holds keys, every other is a teacher's."""

    scale: Scale
    """How the table writes a preference."""

    instructions: Annotated[str, Incidental]
    """What was asked: a file with idx (the key) and instruction, .jsonl or .jsonl.gz."""

    outputs: Annotated[str, Incidental]
    """What was judged: a folder with `<teacher>.jsonl.gz`, each with instruction and output."""

    def digest(self) -> str:
        """Hash of the table, of what was asked and of what was judged."""
        files = [need_file(self.path, "judgements"), need_file(self.instructions, "instructions")]
        judged = sorted(Path(self.outputs).glob("*.jsonl.gz"))
        return short_hash([[f.name, digest_file(f)] for f in (*files, *judged)])

    def of(self, examples: Sequence[Example], around: RewardAround) -> list[float | None]:
        """What the table says of these very responses."""
        texts: dict[str, Mapping[str, str]] = {}
        found: list[float | None] = []
        for example in examples:
            column = self._preferences.get(example.teacher)
            if column is None:
                around.events[f"{example.teacher}: {NO_COLUMN}"] += 1
                found.append(None)
                continue
            if example.teacher not in texts:
                texts[example.teacher] = self._judged(example.teacher)
            asked, said = example.messages[0].content, example.messages[-1].content
            same = len(example.messages) == 2 and texts[example.teacher].get(asked) == said
            score = column.get(self._keys.get(asked, "")) if same else None
            if score is None:
                around.events[f"{example.teacher}: {NOT_JUDGED}"] += 1
            found.append(score)
        return found

    @cached_property
    def _preferences(self) -> Mapping[str, Mapping[str, float | None]]:
        return read_preferences(Path(self.path), self.scale)

    @cached_property
    def _keys(self) -> Mapping[str, str]:
        """Instruction -> key of the table."""
        return keys_of(need_file(self.instructions, "instructions that were judged"))

    def _judged(self, teacher: str) -> Mapping[str, str]:
        """Instruction -> the response that was judged."""
        path = str(Path(self.outputs) / f"{teacher}.jsonl.gz")
        return outputs_of(need_file(path, f"responses of {teacher} that were judged"))


def _kept(path: Path) -> Iterator[tuple[str, tuple[float | None, bool]]]:
    """Scores on disk; what a killed writer left unfinished is computed again."""
    for line in path.read_bytes().split(b"\n") if path.is_file() else ():
        try:
            row: Any = json.loads(line)
            yield row["conversation"], (row["score"], bool(row["cut"]))
        except (ValueError, KeyError, TypeError):  # empty, or torn
            continue

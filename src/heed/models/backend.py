"""What turns prompts into answers: heed's own engine, or vLLM."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, PositiveInt

from heed.core.component import component
from heed.core.identity import Incidental
from heed.core.types import Answer, Prompt
from heed.models.sampling import Drawing, Ways

if TYPE_CHECKING:
    from heed.models.student import Loaded


class Backend(ABC):
    """What generates; an option of `conf/backend/`."""

    on_ranks: bool = True
    """Whether each rank of a process group can answer a share of the prompts."""

    @abstractmethod
    def answers(
        self,
        loaded: Loaded,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        events: Counter[str],
        last_line: str | None = None,
        sampling: Drawing = None,
    ) -> Iterator[tuple[int, Answer]]:
        """The student's continuation of each prompt, token by token.

        Args:
            loaded: The student.
            prompts: Rendered prompts, special tokens written out; of several turns, in pieces.
            max_new_tokens: Cap on generated tokens, the stop token included.
            events: Told what happened that a reader of the texts should know: name -> count.
            last_line: Nobody reads what follows the first line that begins with this, so that an
                answer may end there; an answer begins a line.
            sampling: How tokens are drawn, of all prompts alike or of each; None: the most likely
                one is taken each time.

        Yields:
            The place of a prompt and its answer, once per prompt, in the order of finishing.

        Raises:
            RunError: a prompt and its answer would not fit into the student's context.
            DataError: a prompt without any token.
        """

    def told(self, loaded: Loaded, answers: int) -> dict[str, int]:
        """What is to be known of answers of this student: name -> count; nothing unless it says.

        Unlike the events of `answers` it is told of those too that an interrupted scoring kept.

        Args:
            loaded: The student.
            answers: How many are scored.
        """
        return {}

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What of the backend may change a text; part of what identifies answers and scores."""


@component
class HeedBackend(Backend):
    """The engine of `heed.models.generate`: on any device, in any type of the weights."""

    batch_tokens: Annotated[PositiveInt, Incidental]
    """Most keys and values held at a time, in tokens: memory and speed."""

    rows: Annotated[PositiveInt, Incidental]
    """Most rows decoded together: memory and speed."""

    def answers(
        self,
        loaded: Loaded,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        events: Counter[str],
        last_line: str | None = None,
        sampling: Drawing = None,
    ) -> Iterator[tuple[int, Answer]]:
        """In float32 the texts are those of one prompt at a time, but for ties within rounding."""
        from heed.models.generate import generate

        return generate(
            loaded,
            prompts,
            max_new_tokens=max_new_tokens,
            batch_tokens=self.batch_tokens,
            max_rows=self.rows,
            ways=Ways(last_line, sampling),
        )

    def told(self, loaded: Loaded, answers: int) -> dict[str, int]:
        """In shorter types than float32 a near tie may hang on what is decoded beside it."""
        return near_ties(loaded, answers)

    def settings(self) -> dict[str, Any]:
        """Nothing else: the rest is memory and speed."""
        return {"name": "heed"}


def near_ties(loaded: Loaded, answers: int) -> dict[str, int]:
    """What is told of answers of a student whose weights are of a shorter type than float32."""
    kind = str(loaded.model.dtype).removeprefix("torch.")
    if kind == "float32" or not answers:
        return {}
    return {f"answers in {kind}, where a near tie may hang on the batch": answers}


@component
class VLLMBackend(Backend):
    """vLLM on CUDA devices; adapters are merged first, and some answers compared with heed's."""

    on_ranks = False  # it would begin a process group of its own inside ours

    gpu_share: Annotated[float, Field(gt=0, le=1), Incidental]
    """Share of the device's memory that vLLM may take."""

    compared: Annotated[PositiveInt, Incidental]
    """Number of prompts, the shortest, that heed's own engine answers too."""

    def answers(
        self,
        loaded: Loaded,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        events: Counter[str],
        last_line: str | None = None,
        sampling: Drawing = None,
    ) -> Iterator[tuple[int, Answer]]:
        """In the type of the student's weights; differences from heed's own answers are told.

        Answers go on after `last_line`, to a stop token or the cap.
        """
        from heed.models.vllm import vllm_answers

        return vllm_answers(
            loaded,
            prompts,
            max_new_tokens=max_new_tokens,
            engine=(self.gpu_share, self.compared),
            events=events,
            sampling=sampling,
        )

    def told(self, loaded: Loaded, answers: int) -> dict[str, int]:
        """As of heed's own engine: vLLM decodes side by side, too."""
        return near_ties(loaded, answers)

    def settings(self) -> dict[str, Any]:
        """Its version, which decides the kernels."""
        from heed.models.vllm import installed_version

        return {"name": "vllm", "version": installed_version()}

"""What a plan says of memory before anything loads, and what is said when it is used up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from heed.core.errors import RunError

if TYPE_CHECKING:
    from heed.models.memory import Estimate
    from heed.models.student import Student
    from heed.training.run import Recipe
    from heed.training.trainer import TrainerSettings

SAME = ("data.micro_tokens", "trainer.")
"""What changes memory and speed only, and not the run."""


def memory_lines(student: Student, recipe: Recipe, trainer: TrainerSettings) -> list[str]:
    """The memory of a training step and what the device has left; a warning if that is less.

    Args:
        student: What is trained; no weights of it are read.
        recipe: How.
        trainer: On which device.

    Raises:
        RunError: the student's architecture cannot be read.
    """
    from heed.models.memory import free_memory, in_gib

    found, why = _footprint(student, recipe, trainer)
    if found is None:
        return [f"memory of a step: unknown, {why}"]
    free, left = free_memory(trainer.device), "what is free is not known"
    if free is not None:
        sharing = _on_one_processor(trainer, found)
        free //= sharing
        each = f" for each of the {sharing} here" if sharing > 1 else ""
        left = f"{in_gib(free)} GiB are free{each}"
    lines = [f"memory of a step: {found.line}; {left} ({trainer.device})"]
    if free is not None and found.total > free:
        lines += [
            f"WARNING: that is {in_gib(found.total - free)} GiB more than there is; the training "
            f"will probably stop for want of memory.",
            *advice(student, recipe, trainer),
        ]
    return lines


def _on_one_processor(trainer: TrainerSettings, found: Estimate) -> int:
    """Ranks that share the memory of this machine; GPUs have their own."""
    return found.ranks // trainer.nodes if trainer.device == "cpu" else 1


def _footprint(
    student: Student, recipe: Recipe, trainer: TrainerSettings
) -> tuple[Estimate | None, str]:
    """The estimate; or None, and why this model's step cannot be run without numbers."""
    from heed.training.footprint import footprint

    try:
        return footprint(student, recipe, trainer), ""
    except (NotImplementedError, RuntimeError) as error:
        first = (str(error).splitlines() or [""])[0]
        return None, f"its step cannot be run without numbers ({type(error).__name__}: {first})"


def advice(student: Student, recipe: Recipe, trainer: TrainerSettings) -> list[str]:
    """What needs less memory, a line each, with the estimate."""
    from heed.models.memory import in_gib
    from heed.training.footprint import lighter

    lines = []
    for typed, other, around in lighter(recipe, trainer):
        found, _ = _footprint(student, other, around)
        size = "unknown" if found is None else f"about {in_gib(found.total)} GiB"
        same = "the same result" if typed.startswith(SAME) else "another run"
        lines.append(f"  {typed}: {size} ({same})")
    return lines


@contextmanager
def _told(screen: Callable[[str], str]) -> Iterator[None]:
    """Turn memory that is used up inside the block into one screen, made of the error's first line.

    Raises:
        RunError: it is used up.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_full(error):
            raise
        raise RunError(screen(_first(error))) from error


def training_memory(
    student: Student, recipe: Recipe, trainer: TrainerSettings
) -> AbstractContextManager[None]:
    """A `with` that says on one screen what to do if a training uses memory up.

    Raises:
        RunError: it does.
    """

    def screen(first: str) -> str:
        found, why = _footprint(student, recipe, trainer)
        needs = f"a step is estimated at {found.line}" if found else f"the estimate is {why}"
        lines = "\n".join(advice(student, recipe, trainer))
        return (
            f"the memory of {trainer.device} is used up in the training of {student.name!r} "
            f"({first}): {needs}. What needs less:\n{lines}\nNothing that was finished is "
            f"lost: run the command again with one of them, or where there is more memory."
        )

    return _told(screen)


def loading_memory(title: str) -> AbstractContextManager[None]:
    """The same of a student that is made or read, and put where it is scored.

    Args:
        title: What is scored.

    Raises:
        RunError: memory is used up.
    """
    return _told(
        lambda first: (
            f"memory is used up while {title} is loaded to be scored ({first}): its weights alone "
            f"do not fit beside what else is held there. Run the command again with "
            f"model.dtype=bfloat16 (another run), with trainer=cpu, or where there is more memory."
        )
    )


def scoring_memory(loaded: Any, backend: Any) -> AbstractContextManager[None]:
    """The same of a scoring.

    Args:
        loaded: The student in memory.
        backend: What answers.

    Raises:
        RunError: memory is used up.
    """
    return _told(
        lambda first: (
            f"memory is used up while {loaded.name!r} is scored ({first}): "
            f"{_held(loaded.model, backend)} Answers that were finished are kept: run the command "
            f"again with less, with model.dtype=bfloat16 (another run), or where there is more "
            f"memory."
        )
    )


def _held(model: Any, backend: Any) -> str:
    """What a scoring holds, in numbers."""
    from heed.models.memory import in_gib, nbytes

    weights = in_gib(sum(nbytes(p) for p in model.parameters()))
    tokens = getattr(backend, "batch_tokens", None)
    if tokens is None:
        return f"its weights take {weights} GiB."
    size = _pair_bytes(model)
    smaller = max(1024, tokens // 8)
    return (
        f"its weights take {weights} GiB, and keys and values of at most suite.backend.batch_tokens"
        f"={tokens} tokens take {in_gib(size * tokens)} GiB. suite.backend.batch_tokens={smaller} "
        f"suite.backend.rows=8 take {in_gib(size * smaller)} GiB, and change no score."
    )


def _pair_bytes(model: Any) -> int:
    """Bytes of a token's keys and values in all layers."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * model.dtype.itemsize)


def _is_full(error: BaseException) -> bool:
    from heed.models.memory import is_out_of_memory

    return is_out_of_memory(error)


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]

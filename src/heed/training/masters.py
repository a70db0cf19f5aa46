"""Which number formats a training may hold its weights in, known before anything is loaded.

A step of a tuning moves a weight by about the learning rate. In bfloat16 a weight moves by 0.4 % of
itself or not at all, in float16 by 0.1 %: most of such steps would be rounded away unnoticed.
So what trains is held in float32, unless `precision=bf16-true` asks for the opposite by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from heed.core.errors import Mistake, RunError

WHOLE = "bf16-true"
"""The precision that asks for weights, gradients and optimiser in bfloat16."""

ROUNDED = "weights trained in bfloat16, where small steps are rounded away (precision=bf16-true)"
"""What is counted of a training without float32 master weights."""

WHY_LOW = "steps of a usual learning rate are smaller than what a weight of this type can move by"
WHY_CAST = (
    "everything would be cast to bfloat16, and the tuned student scored in another number format "
    "than the untuned one"
)


def format_mistakes(dtype: str, precision: str, *, trains_weights: bool) -> list[Mistake]:
    """What is wrong with a student's number format for a training.

    Args:
        dtype: Of the student's weights as they are loaded.
        precision: Of the training step.
        trains_weights: Whether the student's own weights move, and not only an adapter's.

    Example:
        >>> [m.where for m in format_mistakes("bfloat16", "bf16-mixed", trains_weights=True)]
        ['model.dtype']
        >>> format_mistakes("bfloat16", "bf16-mixed", trains_weights=False)
        []
    """
    if precision == WHOLE:
        if dtype == "bfloat16":
            return []
        action = "Give precision=bf16-mixed; or, to a published student, model.dtype=bfloat16 too."
        return [Mistake("precision", precision, f"the student is {dtype}: {WHY_CAST}.", action)]
    if dtype == "float32" or not trains_weights:
        return []
    action = (
        "Give model.dtype=float32 (precision=bf16-mixed multiplies in bfloat16 all the same), or "
        "method=lora; or ask for rounded steps by name: model.dtype=bfloat16 precision=bf16-true."
    )
    return [Mistake("model.dtype", dtype, f"its own weights are trained, and {WHY_LOW}.", action)]


def hold_as_asked(model: Any, precision: str) -> None:
    """Hold what trains in bfloat16, in place, where the precision asks for it by name.

    Nothing else is touched: what a model keeps in float32 on purpose, such as the frequencies of
    its positions, would stand for other positions if it were rounded (at 2,000 tokens, Llama 3's by
    up to 1.8 radians), and neither proofs nor scores would have seen it.

    Args:
        model: Its method attached.
        precision: Of the training step.

    Raises:
        RunError: as `refuse_formats`.
    """
    dtype = str(model.dtype).removeprefix("torch.")
    refuse_formats(model.named_parameters(), dtype, precision)
    if precision == WHOLE:
        for p in model.parameters():
            if p.requires_grad:
                p.data = p.data.bfloat16()


def refuse_formats(named: Iterable[tuple[str, Any]], dtype: str, precision: str) -> None:
    """The same of a student in memory, whatever made its weights so.

    Args:
        named: Name and parameter, of all parameters.
        dtype: Of the student's weights.
        precision: Of the training step.

    Raises:
        RunError: what trains is not float32, and that was not asked for by name.
    """
    kinds = {name: str(p.dtype).removeprefix("torch.") for name, p in named if p.requires_grad}
    low = [name for name, kind in kinds.items() if kind != "float32"]
    found = format_mistakes(dtype, precision, trains_weights=bool(low))
    if low and not found and precision != WHOLE:
        found = format_mistakes(kinds[low[0]], precision, trains_weights=True)
    if found:
        named_one = f" ({low[0]!r} for one of {len(low)} tensors)" if low else ""
        raise RunError(
            f"{found[0].where} is {found[0].found}: {found[0].why}{named_one} {found[0].action}"
        )

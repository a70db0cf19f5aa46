"""What cannot be divided among ranks (`trainer.strategy=fsdp`), known before anything is loaded."""

from __future__ import annotations

from heed.core.errors import Mistake
from heed.methods.weights import Plain
from heed.training.optim import AdamW
from heed.training.run import Recipe
from heed.training.trainer import TrainerSettings

WHOLE = "Give trainer.strategy=ddp: each rank then holds the whole student"


def divided_mistakes(recipe: Recipe, trainer: TrainerSettings) -> list[Mistake]:
    """What of a training does not go with dividing the student's weights.

    Args:
        recipe: How it is trained.
        trainer: On what.
    """
    if not (trainer.several and trainer.strategy == "fsdp"):
        return []
    found = []
    weights, optim = recipe.method.weights, recipe.optim
    if not isinstance(weights, Plain):
        why = (
            "FSDP2 cuts the weights into pieces, and what is held in few bits is bytes with their "
            "scales beside: the pieces lose their scales, or, elsewhere, are read with wrong ones."
        )
        action = f"{WHOLE}, which is small in few bits. Or give method=lora."
        found.append(Mistake("method.weights", type(weights).__name__, why, action))
    if not isinstance(optim, AdamW):
        why = "its step takes whole matrices, and a rank holds pieces."
        action = f"Give optim=adamw. Or: {WHOLE.lower()}."
        found.append(Mistake("optim", type(optim).__name__, why, action))
    return found

"""What may move in a student: everything, or low-rank updates of chosen layers."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from heed.core.component import component
from heed.core.errors import RunError
from heed.methods.token_rows import compute_rows_apart, row_indices

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")


class Adapter(ABC):
    """Says which parameters train, and writes what was trained."""

    trains_embeddings: bool

    @abstractmethod
    def attach(self, model: Any, tokens: Sequence[int] = ()) -> Any:
        """Prepare a transformers model for training, in place.

        Args:
            model: It.
            tokens: Ids whose rows of embedding and head must move too.

        Returns:
            What `save` wants.
        """

    @abstractmethod
    def save(self, attached: Any, directory: Path, *, base: str, revision: str | None) -> None:
        """Write the trained part in Hugging Face layout.

        Args:
            attached: What `attach` returned.
            directory: Where to; it exists.
            base: Directory or hub id of the model that was attached to.
            revision: Commit of a hub id.
        """


@component
class Full(Adapter):
    """Every weight moves."""

    trains_embeddings = True

    def attach(self, model: Any, tokens: Sequence[int] = ()) -> Any:
        """Make every parameter trainable, those of all tokens with them."""
        model.requires_grad_(True)
        return model

    def save(self, attached: Any, directory: Path, *, base: str, revision: str | None) -> None:
        """Write the whole model."""
        attached.save_pretrained(directory)


@component
class LoRA(Adapter):
    """Low-rank updates W + (alpha / rank) B A of chosen linear layers, with W frozen.

    Source: Hu et al. 2021, https://arxiv.org/abs/2106.09685, section 4.1.
    """

    rank: PositiveInt
    """Inner dimension r of the update; trainable parameters grow linearly with it."""

    alpha: PositiveFloat
    """Numerator of the update's scale alpha / rank."""

    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Chance of dropping an input of the update during training."""

    layers: Literal["attention", "mlp", "all-linear"]
    """Where updates are placed. `all-linear` leaves out the output head."""

    trains_embeddings = False

    def attach(self, model: Any, tokens: Sequence[int] = ()) -> Any:
        """Freeze the model and place fresh updates in it (B = 0, so it starts as the base)."""
        import peft

        targets: Any = {"attention": [*ATTENTION], "mlp": [*MLP]}.get(self.layers, self.layers)
        config = peft.LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=targets,
            trainable_token_indices=row_indices(model, tokens),
            task_type=peft.TaskType.CAUSAL_LM,
        )
        with _own_deprecations():
            attached = peft.get_peft_model(model, config)
        compute_rows_apart(model)
        return attached

    def save(self, attached: Any, directory: Path, *, base: str, revision: str | None) -> None:
        """Write the adapter, and look at what was written.

        Raises:
            RunError: the file holds empty or only zero updates: nothing was learned or saved.
        """
        from safetensors.torch import load_file

        config = attached.peft_config["default"]
        config.base_model_name_or_path, config.revision = base, revision
        attached.save_pretrained(directory, save_embedding_layers=False)  # they never move
        written = load_file(directory / "adapter_model.safetensors")
        updates = [tensor for name, tensor in written.items() if "lora_B" in name]
        if not updates or not any(tensor.any() for tensor in updates):
            raise RunError(
                f"the adapter written to {directory} holds no update ({len(written)} tensors): the "
                f"tuned student would equal its base. Check method.adapter.layers and the lr."
            )


def attach_saved(model: Any, directory: Path) -> Any:
    """Put a saved adapter into its base model, merged into the weights.

    Raises:
        ValueError: the file and the base do not fit: an update has no place, or a place no update.
            (Other damage is raised as peft, torch and safetensors do.)
    """
    import peft
    from safetensors.torch import load_file

    saved = load_file(directory / "adapter_model.safetensors")
    with _own_deprecations(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*missing adapter keys.*")  # told below
        attached = peft.PeftModel.from_pretrained(model, directory)
        placed = peft.get_peft_model_state_dict(attached, save_embedding_layers=False)
    if odd := sorted(saved.keys() ^ placed.keys()):
        raise ValueError(f"{len(odd)} updates stand in the file or in the base only: {odd[0]}")
    return attached.merge_and_unload()


@contextmanager
def _own_deprecations() -> Iterator[None]:
    """Leave out peft's note that it calls a deprecated name of transformers."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        yield

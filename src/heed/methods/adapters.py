"""What may move in a student: everything, or low-rank updates of chosen layers."""

from __future__ import annotations

import sys
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, PositiveFloat, PositiveInt

from heed.core.component import component
from heed.core.errors import RunError
from heed.core.files import read_json, write_json
from heed.methods import bits
from heed.methods.targets import Layers, any_turned, resolve, suffixes
from heed.methods.token_rows import compute_rows_apart, row_indices
from heed.methods.weights import weights_from


class Group(NamedTuple):
    """Parameters that share a learning rate.

    Attributes:
        parameters: Those that train.
        lr_scale: Their learning rate as a share of the schedule's.
    """

    parameters: list[Any]
    lr_scale: float


class Adapter(ABC):
    """Says which parameters train, and writes what was trained."""

    trains_embeddings: bool
    """Whether the rows of all tokens move, in embedding and head."""

    moves_base: bool
    """Whether the student's own weights train, so that all of it is saved."""

    needs_plain: bool
    """Whether weights of the base change in any way, so that they cannot be stored in few bits."""

    @abstractmethod
    def attach(self, model: Any, tokens: Sequence[int] = ()) -> Any:
        """Prepare a transformers model for training, in place.

        Args:
            model: It.
            tokens: Ids whose rows of embedding and head must move too.

        Returns:
            What `save` wants.
        """

    def groups(self, named: Iterable[tuple[str, Any]]) -> list[Group]:
        """The parameters that train, by learning rate.

        Args:
            named: Name and parameter, of all parameters of what was attached to.
        """
        return [Group([p for _, p in named if p.requires_grad], 1.0)]

    def events(self, model: Any) -> dict[str, int]:
        """What a reader must know of how a model was prepared, counted.

        Args:
            model: The transformers model, once `attach` has prepared it.
        """
        kinds = Counter(p.dtype for p in model.parameters() if p.requires_grad)
        kinds.pop(model.dtype, None)
        return {f"trained tensors held in {k}, not {model.dtype}": n for k, n in kinds.items()}

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
    moves_base = True
    needs_plain = True

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

    layers: Layers
    """Where updates are placed. `all-linear` leaves out the output head."""

    trains_embeddings = False
    moves_base = False
    needs_plain = False

    def attach(self, model: Any, tokens: Sequence[int] = ()) -> Any:
        """Freeze the model and place fresh updates in it (B = 0, so it starts as the base).

        Raises:
            RunError: the architecture does not tell its layers apart.
        """
        peft = bits.peft()
        names = resolve(model, self.layers)
        config = peft.LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=suffixes(names, (name for name, _ in model.named_modules())),
            trainable_token_indices=row_indices(model, tokens),
            fan_in_fan_out=any_turned(model),
            bias="none",
            task_type=peft.TaskType.CAUSAL_LM,
            **self._options(),
        )
        with _own_deprecations():
            # Updates beside weights in 16 bits are held in float32; `events` counts them.
            attached = peft.get_peft_model(model, config, autocast_adapter_dtype=True)
        compute_rows_apart(model)
        return attached

    def _options(self) -> dict[str, Any]:
        """In which ways of peft a variant differs; B starts as 0 and A is random here."""
        return {"init_lora_weights": True, "use_rslora": False, "use_dora": False}

    def save(self, attached: Any, directory: Path, *, base: str, revision: str | None) -> None:
        """Write the adapter, how its base is stored, and look at what was written.

        Raises:
            RunError: the file holds empty or only zero updates: nothing was learned or saved.
        """
        from safetensors.torch import load_file

        config = attached.peft_config["default"]
        config.base_model_name_or_path, config.revision = base, revision
        attached.save_pretrained(directory, save_embedding_layers=False)  # they never move
        if (stored := stored_as(attached.base_model.model)) is not None:
            write_json(directory / STORED_FILE, stored)
        written = load_file(directory / "adapter_model.safetensors")
        if not self._learned(attached, written):
            raise RunError(
                f"the adapter written to {directory} holds no update ({len(written)} tensors): the "
                f"tuned student would equal its base. Check method.adapter.layers and the lr."
            )

    def _learned(self, attached: Any, written: Mapping[str, Any]) -> bool:
        """Whether tensors that were written change the base."""
        return any(tensor.any() for name, tensor in written.items() if "lora_B" in name)


STORED_FILE = "base_quantization.json"
"""How the base of an adapter was stored, in transformers' words; absent if as it was loaded."""


def stored_as(model: Any) -> dict[str, Any] | None:
    """How a model's matrices are stored, as transformers says it; None if as they were loaded."""
    if "heed.methods.stored" not in sys.modules:  # nothing was stored in this process
        return None
    from heed.methods.stored import settings

    return settings(model)


def attach_saved(model: Any, directory: Path) -> Any:
    """Put a saved adapter into its base model, merged into the weights.

    A base that was stored in few bits is rounded as it was, and then made of plain layers with the
    rounded weights.

    Raises:
        ValueError: the file and the base do not fit: an update has no place, or a place no update.
            (Other damage is raised as peft, torch and safetensors do.)
    """
    from safetensors.torch import load_file

    if (directory / STORED_FILE).is_file():
        from heed.methods.stored import dequantise

        weights_from(read_json(directory / STORED_FILE)).store(model)
        dequantise(model)
    peft = bits.peft()  # after the base has its form
    saved = load_file(directory / "adapter_model.safetensors")
    config = peft.PeftConfig.from_pretrained(directory)
    config.fan_in_fan_out = any_turned(model)
    with _own_deprecations(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*missing adapter keys.*")  # told below
        attached = peft.PeftModel.from_pretrained(model, directory, config=config)
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

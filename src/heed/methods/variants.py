"""Low-rank updates that start, scale or learn otherwise than LoRA's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt

from heed.core.component import component
from heed.core.errors import RunError
from heed.core.files import read_json, write_json
from heed.methods.adapters import Group, LoRA
from heed.methods.targets import resolve


@component
class RsLoRA(LoRA):
    """LoRA scaled by alpha / sqrt(rank), so that a larger rank does not learn more slowly.

    Source: Kalajdzievski 2023, https://arxiv.org/abs/2312.03732.
    """

    def _options(self) -> dict[str, Any]:
        return super()._options() | {"use_rslora": True}


@component
class DoRA(LoRA):
    """LoRA of a matrix's direction, beside a trained length of each of its outputs.

    Source: Liu et al. 2024, https://arxiv.org/abs/2402.09353, section 4.
    """

    def _options(self) -> dict[str, Any]:
        return super()._options() | {"use_dora": True}


@component
class LoRAPlus(LoRA):
    """LoRA whose B learns faster than its A.

    Source: Hayou et al. 2024, https://arxiv.org/abs/2402.12354. What counts as B is as
    in peft 0.21, `create_loraplus_optimizer`; rows of new tokens learn as A does there and here.
    """

    b_lr_ratio: Annotated[float, Field(ge=1)]
    """Learning rate of B as a multiple of A's, which is the schedule's."""

    def groups(self, named: Iterable[tuple[str, Any]]) -> list[Group]:
        """The parameters that train: A and others at the schedule's rate, B faster."""
        slow, fast = Group([], 1.0), Group([], self.b_lr_ratio)
        for name, parameter in named:
            if parameter.requires_grad:
                group = fast if "lora_B" in name else slow
                group.parameters.append(parameter)
        return [slow, fast]


@component
class PiSSA(LoRA):
    """LoRA that starts as the matrix's largest singular directions; what is left is frozen.

    What is saved is an update of the base as it was, of twice the rank: [B, -B0] [A; A0].

    Source: Meng et al. 2024, https://arxiv.org/abs/2404.02948, section 3.
    """

    iterations: PositiveInt | None
    """Of the fast singular value decomposition; null for an exact one."""

    needs_plain = True

    def attach(self, model: Any, tokens: Sequence[int] = ()) -> Any:
        """Split every chosen matrix; together both parts are the base still.

        Raises:
            RunError: a matrix has fewer directions than the rank.
        """
        for name in resolve(model, self.layers):
            shape = tuple(model.get_submodule(name).weight.shape)
            if min(shape) < self.rank:
                raise RunError(
                    f"method.adapter.rank={self.rank}: {name} is {shape[0]} x {shape[1]} and has "
                    f"only {min(shape)} singular directions to start from. Lower the rank."
                )
        attached = super().attach(model, tokens)
        attached.at_start = {name: tensor.clone() for name, tensor in _updates(attached).items()}
        return attached

    def _options(self) -> dict[str, Any]:
        way = "pissa" if self.iterations is None else f"pissa_niter_{self.iterations}"
        return super()._options() | {"init_lora_weights": way}

    def save(self, attached: Any, directory: Path, *, base: str, revision: str | None) -> None:
        """Write what was learned as an update of the whole base, which peft alone loads."""
        import torch
        from safetensors.torch import load_file, save_file

        super().save(attached, directory, base=base, revision=revision)
        file, said = directory / "adapter_model.safetensors", directory / "adapter_config.json"
        written = load_file(file)
        for name, start in attached.at_start.items():
            learned, start = written[name], start.to(written[name].device, written[name].dtype)
            pair = (learned, start) if "lora_A" in name else (learned, -start)
            written[name] = torch.cat(pair, dim=0 if "lora_A" in name else 1).contiguous()
        save_file(written, file, metadata={"format": "pt"})
        config = read_json(said)
        doubled = {key: 2 * config[key] for key in ("r", "lora_alpha")}
        write_json(said, config | doubled | {"init_lora_weights": True})

    def _learned(self, attached: Any, written: Mapping[str, Any]) -> bool:
        return any(
            not start.to(written[name].device).equal(written[name])
            for name, start in attached.at_start.items()
        )


def _updates(attached: Any) -> dict[str, Any]:
    """The matrices A and B, by the names that they are saved under."""
    import peft

    state = peft.get_peft_model_state_dict(attached, save_embedding_layers=False)
    return {name: tensor for name, tensor in state.items() if "lora_" in name}

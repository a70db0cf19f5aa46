"""Frozen matrices held in few bits, and made whole where they are used.

bitsandbytes holds and rounds them. What is computed with them here is the plain product with the
dequantised matrix, in the type of its input: activations are never rounded, so a token's result
does not depend on what stands beside it, and the same matrices, dequantised once, are the same
student (`dequantise`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from heed.core.errors import RunError
from heed.methods import bits

if TYPE_CHECKING:
    import bitsandbytes
else:
    bitsandbytes = bits.bitsandbytes()


class _Product(torch.autograd.Function):
    """x W^T + b with W dequantised in both directions and kept in neither."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Any) -> Tensor:
        ctx.layer, ctx.kind = layer, x.dtype
        return nn.functional.linear(x, layer.dequantised().to(x.dtype), layer.bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        whole = ctx.layer.dequantised().to(gradient.dtype)
        return (gradient @ whole).to(ctx.kind), None


class FourBit(bitsandbytes.nn.Linear4bit):
    """A linear layer whose matrix is held in 4 bits; peft knows it by its parent."""

    def dequantised(self) -> Tensor:
        """The matrix, float[out, in], in the type that it had."""
        whole: Tensor = bitsandbytes.functional.dequantize_4bit(
            self.weight.data, self.weight.quant_state
        )
        return whole

    def forward(self, x: Tensor) -> Tensor:
        """The product with the dequantised matrix."""
        made: Tensor = _Product.apply(x, self)
        return made


class EightBit(bitsandbytes.nn.Linear8bitLt):
    """A linear layer whose matrix is held in 8 bits; peft knows it by its parent."""

    held: torch.dtype

    def dequantised(self) -> Tensor:
        """The matrix, float[out, in], in the type that it had."""
        if self.weight.SCB.device != self.weight.device:  # torch moves the matrix alone
            with torch.inference_mode(mode=False):
                self.weight.SCB = self.weight.SCB.to(self.weight.device)
        whole = bitsandbytes.functional.int8_vectorwise_dequant(self.weight.data, self.weight.SCB)
        return whole.to(self.held)

    def forward(self, x: Tensor) -> Tensor:
        """The product with the dequantised matrix."""
        made: Tensor = _Product.apply(x, self)
        return made


def four_bit(matrix: Tensor, bias: Any, *, double_quantise: bool) -> FourBit:
    """Hold float[out, in] in NF4, in blocks of 64."""
    layer = FourBit(*_shape(matrix, bias), device="meta")  # draws no weights
    layer.weight = bitsandbytes.nn.Params4bit(
        matrix.detach(), quant_type="nf4", compress_statistics=double_quantise, module=layer
    ).to(matrix.device)
    layer.compute_dtype, layer.compute_type_is_set = matrix.dtype, True
    return _with_bias(layer, bias)


def eight_bit(matrix: Tensor, bias: Any) -> EightBit:
    """Hold float[out, in] as whole numbers to 127 with one scale an output."""
    layer = EightBit(*_shape(matrix, bias), has_fp16_weights=False, device="meta")
    layer.held = matrix.dtype
    weight = bitsandbytes.nn.Int8Params(
        matrix.detach().float().cpu(), requires_grad=False, has_fp16_weights=False
    )
    layer.weight = weight.to(matrix.device)
    return _with_bias(layer, bias)


def _shape(matrix: Tensor, bias: Any) -> tuple[int, int, bool]:
    return matrix.shape[1], matrix.shape[0], bias is not None


def _with_bias(layer: Any, bias: Any) -> Any:
    layer.bias = bias
    layer.requires_grad_(False)
    return layer


def store(model: Any, make: Callable[[Tensor, Any], Any]) -> int:
    """Replace every linear layer but the head, in place.

    Args:
        model: A transformers model.
        make: A stored layer from float[out, in] and a bias or None.

    Returns:
        How many.
    """
    head = model.get_output_embeddings()
    found = [
        (name, module)
        for name, module in model.named_modules()
        if type(module) in (nn.Linear, Conv1D) and module is not head
    ]
    for name, module in found:
        turned = isinstance(module, Conv1D)
        matrix = module.weight.T.contiguous() if turned else module.weight
        layer = make(matrix, module.bias)
        if isinstance(layer, FourBit):
            refuse_misread(name, layer)
        layer.turned = turned
        model.set_submodule(name, layer.train(module.training))
    kind = type(stored_layers(model)[0][1]) if found else None
    model.is_loaded_in_4bit, model.is_loaded_in_8bit = kind is FourBit, kind is EightBit
    return len(found)


def refuse_misread(name: str, layer: FourBit) -> None:
    """Refuse a matrix that is not the same read as rows and read as one long row.

    (bitsandbytes 0.50 takes the scales of other blocks on a CPU, if rows are no whole blocks.)

    Args:
        name: Of the layer.
        layer: What stores the matrix.

    Raises:
        RunError: it is another matrix.
    """
    matrix, flat = layer.dequantised(), copy.copy(layer.weight.quant_state)
    flat.shape = torch.Size([matrix.numel()])
    right = bitsandbytes.functional.dequantize_4bit(layer.weight.data, flat).view_as(matrix)
    if not torch.equal(matrix, right):
        out, inside = matrix.shape
        share = float((matrix != right).float().mean())
        raise RunError(
            f"bitsandbytes {bitsandbytes.__version__} reads {share:.0%} of {name} ({out} x "
            f"{inside}) with the scales of other numbers, here on {matrix.device.type}: rows of "
            f"{inside} are no whole blocks of 64. The student would be another one, and nobody "
            f"could load it alike. Give method=int8_lora or method=lora."
        )


def stored_layers(model: Any) -> list[tuple[str, Any]]:
    """Names and layers of a model that are held in few bits."""
    return [(n, m) for n, m in model.named_modules() if isinstance(m, FourBit | EightBit)]


def dequantise(model: Any) -> None:
    """Make plain layers of stored ones, with the matrices that are computed with, in place."""
    for name, layer in stored_layers(model):
        matrix = layer.dequantised()
        plain: Any = nn.Linear(*_shape(matrix, layer.bias), device="meta")
        if layer.turned:
            plain = Conv1D(layer.out_features, 0)
            matrix = matrix.T.contiguous()
        plain.weight = nn.Parameter(matrix, requires_grad=False)
        plain.bias = layer.bias
        model.set_submodule(name, plain.train(layer.training))
    model.is_loaded_in_4bit = model.is_loaded_in_8bit = False


def settings(model: Any) -> dict[str, Any] | None:
    """How a model's matrices are stored, as transformers says it; None if they are not."""
    from transformers import BitsAndBytesConfig

    layers = [layer for _, layer in stored_layers(model)]
    if not layers:
        return None
    head = model.get_output_embeddings()
    skipped = [name for name, module in model.named_modules() if module is head]
    if isinstance(layers[0], EightBit):
        config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=layers[0].weight.compress_statistics,
            bnb_4bit_compute_dtype=layers[0].compute_dtype,
            llm_int8_skip_modules=skipped,
        )
    made: dict[str, Any] = config.to_dict()
    return made

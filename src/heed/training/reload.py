"""A student on disk, read by an interpreter of its own with plain transformers and peft.

What is run is the code of the student's own card: if that loads another student than the one in
memory, the card, the files or both are wrong. Such a process knows nothing of heed, nor of what
this one has changed in the libraries. It runs on the CPU, and costs imports (with peft about three
seconds of a core) and once the student's weights in memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from heed.core.errors import RunError
from heed.core.files import read_json, write_json, write_text
from heed.core.types import Message
from heed.models.tokenizer import prompt_ids
from heed.training.card import CARD_FILE, STORED_FILE, code_of

if TYPE_CHECKING:
    from heed.models.student import Loaded

TOKENS = 64
"""Most tokens of the example whose logits are compared."""

TALK = ("Say one thing.", "One thing: <b>1</b>.", "  And now another? ")
"""What user, assistant and user say in the conversation whose text is compared."""

SPARED = ("bitsandbytes", "scipy", "sklearn")
"""Packages that transformers and peft import if they are there: a quarter of the time. They are
hidden from the process, which shows too that nobody needs them, unless the base is held in few
bits or the student brings code of its own."""

BEGIN = """
import gc
gc.disable()
"""
"""Run before it: to search for garbage in what is imported takes a fifth of such a process."""

PROBE = """
import json, sys
import torch
from safetensors.torch import save_file

given = json.load(open(sys.argv[1], encoding="utf-8"))
with torch.inference_mode():
    row = torch.tensor([given["ids"]])
    logits = model.eval()(input_ids=row, use_cache=False).logits[0].float().contiguous()
texts = [
    tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    for talk in given["talks"]
]
prompt = tokenizer.apply_chat_template(
    given["talks"][0], add_generation_prompt=True, return_dict=False
)
stops = model.generation_config.eos_token_id
stops = stops if isinstance(stops, list) else [stops]
save_file({"logits": logits}, sys.argv[2])
said = {"texts": texts, "prompt": list(prompt), "stops": stops}
said["greedy"] = not model.generation_config.do_sample
json.dump(said, open(sys.argv[3], "w", encoding="utf-8"))
gc.freeze()  # and at its end as much
"""
"""Run after the code of a card."""


@dataclass(frozen=True)
class Reread:
    """What an interpreter of its own made of a directory.

    Attributes:
        logits: float[T, V] of the given ids.
        texts: The given conversations as text, ready for an answer.
        prompt: Ids of the first one.
        stops: Ids at which generation stops.
        greedy: Whether generation takes the likeliest token.
    """

    logits: torch.Tensor
    texts: list[str]
    prompt: list[int]
    stops: list[int]
    greedy: bool


def talks_for(loaded: Loaded) -> list[list[Message]]:
    """A lone instruction, and what else the template can frame: more turns, and a system turn."""
    first, answer, last = TALK
    more = [Message("user", first), Message("assistant", answer), Message("user", last)]
    return [[Message("user", last)], more, [Message("system", "Be brief."), *more]]


def reread(
    directory: Path, ids: Sequence[int], talks: Sequence[Sequence[Message]], *, threads: int = 1
) -> Reread:
    """Load a student as its card says, in a fresh process, and ask it a few things.

    Args:
        directory: Of the student.
        ids: An example.
        talks: Conversations, the first of one turn.
        threads: Of the process.

    Raises:
        RunError: the card's code, or what it loads, fails there.
    """
    said = [[{"role": m.role, "content": m.content} for m in talk] for talk in talks]
    with tempfile.TemporaryDirectory(prefix="heed-reload-") as made:
        folder = Path(made)
        files = [folder / name for name in ("given.json", "logits.safetensors", "said.json")]
        write_json(files[0], {"ids": list(ids), "talks": said})
        code = code_of((directory / CARD_FILE).read_text(encoding="utf-8"))
        begin = f"{BEGIN}{_hiding(directory, code)}import torch\ntorch.set_num_threads({threads})\n"
        write_text(folder / "probe.py", begin + code + PROBE)
        _run([str(folder / "probe.py"), *map(str, files)], directory)
        from safetensors.torch import load_file

        return Reread(load_file(files[1])["logits"], **read_json(files[2]))


def _hiding(directory: Path, code: str) -> str:
    """Lines that hide packages which the loading of a student does not need."""
    if (directory / STORED_FILE).is_file() or "trust_remote_code" in code:
        return ""
    return f"import sys\nsys.modules.update(dict.fromkeys({SPARED}))\n"


def _run(arguments: Sequence[str], directory: Path) -> None:
    """Run a file in an interpreter that sees neither heed's checkout nor the network nor a GPU."""
    line = [sys.executable, "-P", *arguments]
    own: dict[str, str] = {
        "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
    }  # fmt: skip
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | own
    done = subprocess.run(line, cwd=directory, env=env, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-3:])[-600:]
        raise RunError(
            f"The student in {directory} cannot be loaded as its card says, in a process of its "
            f"own (exit code {done.returncode}): {last}\nWhat is saved could not be used by "
            f"others; the run is not recorded. Report the model and the method."
        )


TOLERANCE: Mapping[Any, float] = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Largest difference of logits, as a share of the largest: products are summed in another order."""

STORED_TOLERANCE = 5e-2
"""The same where the base is held in few bits: others round activations too, or in 16 bits."""


def check_fresh(trained: Loaded, directory: Path, ids: Sequence[int]) -> float:
    """Largest difference of the logits between memory and a fresh process, as a share.

    Args:
        trained: The student in memory.
        directory: Where it was saved.
        ids: An example; its first `TOKENS` are used.

    Raises:
        RunError: the two differ in logits, template, stop tokens or decoding.
    """
    ids, talks = list(ids)[:TOKENS], talks_for(trained)
    row = torch.tensor([ids], device=trained.model.device)
    with torch.inference_mode(), trained.evaluating():
        want = trained.model(input_ids=row, use_cache=False).logits[0].float().cpu()
    found = reread(directory, ids, talks, threads=torch.get_num_threads())
    _compare(trained, found, talks)
    allowed = TOLERANCE[trained.model.dtype]
    if (directory / STORED_FILE).is_file():
        allowed = max(allowed, STORED_TOLERANCE)
    return apart(want, found.logits, allowed, f"the student {trained.name!r} in {directory}")


def apart(want: torch.Tensor, got: torch.Tensor, allowed: float, what: str) -> float:
    """Largest difference of two float[T, V], as a share of the largest logit (or of 1).

    Raises:
        RunError: it is more than what is allowed, or no number.
    """
    difference = float((want - got).abs().max() / want.abs().max().clamp(min=1.0))
    if not difference <= allowed:
        raise RunError(
            f"{what}, loaded as its card says in a process of its own: logits differ by "
            f"{difference:.3g} of the largest (allowed {allowed}). What others would load is not "
            f"what was trained and scored; the run is not recorded. Report the model and the "
            f"method."
        )
    return difference


def _compare(trained: Loaded, found: Reread, talks: Sequence[Sequence[Message]]) -> None:
    """Refuse a template, stop tokens or a decoding that others would see otherwise."""
    texts = [trained.template.prompt_of(talk) for talk in talks]
    ids = prompt_ids(trained.tokenizer, texts[0])
    pairs: dict[str, tuple[Any, Any]] = {
        f"the text of a conversation of {len(talk)} turns": (text, seen)
        for talk, text, seen in zip(talks, texts, found.texts, strict=True)
    }
    pairs["the tokens of an instruction"] = (ids, found.prompt)
    pairs["the stop tokens"] = (sorted(trained.stop_ids), sorted(found.stops))
    pairs["greedy decoding"] = (True, found.greedy)
    for what, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise RunError(
                f"student {trained.name!r}: {what} is {theirs!r} for whoever loads it without "
                f"heed, and {ours!r} here. It would be spoken to otherwise than it was trained and "
                f"scored; the run is not recorded. Report the template and the model."
            )

"""Greedy generation: heed's engine beside lm-eval's Hugging Face backend, in one process.

    python bench/generate.py                        # all 541 IFEval prompts
    python bench/generate.py --prompts 64           # a small one
    python bench/generate.py --student outputs/runs/<run>

Both get the same student in float32, the same rendered prompts, cap and stop token, and one thread.
lm-eval takes the batch size that was its best, out of `--batch-sizes`, on a probe: the `--probe`
prompts in the middle of the order by length, so that its batches are as even as among all. heed
takes the settings of conf/backend/heed.yaml, and runs before and after lm-eval.

What is compared is tokens per CPU second: all tokens up to and including the stop token, over the
CPU time of the whole call, tokenising and decoding included. Texts are compared token by token;
where they differ, the prompt is decoded alone, and the gap between the two largest logits at the
first difference says whether rounding can be the reason (below 1e-4).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import yaml
from student import DATA, ROOT, made

from heed.core.component import build
from heed.core.files import write_json
from heed.models.backend import HeedBackend
from heed.models.student import Loaded
from heed.training.checkpoint import load_student

ROUNDING = 1e-4
"""Two logits closer than this may change places when float32 sums are taken in another order."""


@dataclass
class Timed:
    """What one engine did with some prompts.

    Attributes:
        name: Of the engine and its batch size.
        seconds: CPU seconds.
        said: Generated ids of each prompt, the stop token included.
        texts: What each engine hands out.
    """

    name: str
    seconds: float
    said: list[list[int]]
    texts: list[str]

    @property
    def tokens(self) -> int:
        """Generated tokens, stop tokens included; padding and what follows a stop do not count."""
        return sum(map(len, self.said))

    @property
    def rate(self) -> float:
        """Tokens per CPU second."""
        return self.tokens / self.seconds

    def line(self) -> str:
        """One row of the table."""
        head = f"{self.name:34} {len(self.said):4} prompts {self.tokens:7} tokens"
        return f"{head} {self.seconds:8.1f} CPU s {self.rate:7.1f} tokens/CPU s"


class Recorder:
    """A tokenizer that remembers the ids it decoded last: heed's answers hold text only."""

    def __init__(self, inner: Any):
        self.inner, self.last = inner, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def decode(self, ids: Sequence[int], **how: Any) -> str:
        """As the tokenizer does."""
        self.last = list(ids)
        return self.inner.decode(ids, **how)


def heed(loaded: Loaded, prompts: list[str], cap: int, backend: HeedBackend) -> Timed:
    """Heed's engine."""
    recorder = Recorder(loaded.tokenizer)
    watched = replace(loaded, tokenizer=recorder)
    said: dict[int, list[int]] = {}
    texts: dict[int, str] = {}
    began = time.process_time()
    for place, answer in backend.answers(watched, prompts, max_new_tokens=cap, events=Counter()):
        ids = recorder.last + ([loaded.stop_ids[0]] if answer.stop == "stop" else [])
        assert len(ids) == answer.tokens
        said[place], texts[place] = ids, answer.text
    seconds = time.process_time() - began
    places = range(len(prompts))
    name = f"heed, {backend.rows} rows, {backend.batch_tokens} slots"
    return Timed(name, seconds, [said[i] for i in places], [texts[i] for i in places])


def lm_eval(loaded: Loaded, prompts: list[str], cap: int, batch_size: int) -> Timed:
    """lm-eval's Hugging Face backend, as its IFEval task calls it."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # its notes on a model given as an object
    rows: dict[tuple[int, ...], list[int]] = {}

    class Watched(HFLM):
        def _model_generate(self, context: Any, *args: Any, **kwargs: Any) -> Any:
            out = super()._model_generate(context, *args, **kwargs)
            batches.append((context, out))
            return out

    batches: list[tuple[Any, Any]] = []
    lm = Watched(loaded.model, tokenizer=loaded.tokenizer, batch_size=batch_size)
    encoded = [loaded.tokenizer.encode(text, add_special_tokens=False) for text in prompts]
    assert [lm.tok_encode(text) for text in prompts] == encoded, "another tokenisation"
    assert lm.max_length >= cap + max(map(len, encoded)), "it would cut prompts"
    end, eos = loaded.template.end_of_turn, loaded.tokenizer.eos_token
    how = {"until": [] if end == eos else [end], "do_sample": False, "max_gen_toks": cap}
    asked = [Instance("generate_until", {}, (text, how), i) for i, text in enumerate(prompts)]
    began = time.process_time()
    texts = lm.generate_until(asked, disable_tqdm=True)
    seconds = time.process_time() - began
    for context, out in batches:
        for before, whole in zip(context.tolist(), out.tolist(), strict=True):
            rows[without_padding(before, loaded)] = until_stop(whole[len(before) :], loaded)
    name = f"lm-eval {batch_size} at a time"
    return Timed(name, seconds, [rows[tuple(ids)] for ids in encoded], texts)


def without_padding(ids: list[int], loaded: Loaded) -> tuple[int, ...]:
    """A prompt as it was before padding on the left."""
    pad = loaded.tokenizer.pad_token_id
    return tuple(ids[next(i for i, token in enumerate(ids) if token != pad) :])


def until_stop(ids: list[int], loaded: Loaded) -> list[int]:
    """Generated ids up to and including the first stop token."""
    ends = [i for i, token in enumerate(ids) if token in loaded.stop_ids]
    return ids[: ends[0] + 1] if ends else ids


def alone(loaded: Loaded, prompts: list[str], cap: int) -> tuple[Timed, list[list[float]]]:
    """`transformers`' own generation, one prompt at a time, and the gap of the top two logits."""
    said, gaps, seconds = [], [], 0.0
    for text in prompts:
        ids = torch.tensor([loaded.tokenizer.encode(text, add_special_tokens=False)])
        began = time.process_time()
        with torch.inference_mode():
            out = loaded.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=cap,
                do_sample=False,
                eos_token_id=list(loaded.stop_ids),
                pad_token_id=loaded.tokenizer.pad_token_id,
                output_logits=True,
                return_dict_in_generate=True,
            )
        seconds += time.process_time() - began
        top = torch.cat(out.logits).topk(2).values
        said.append(out.sequences[0, ids.shape[1] :].tolist())
        gaps.append((top[:, 0] - top[:, 1]).tolist())
    return Timed("transformers, 1 at a time", seconds, said, []), gaps


def first_difference(one: list[int], two: list[int]) -> int | None:
    """The first place where two sequences differ, or None."""
    pairs = zip(one, two, strict=False)
    unequal = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(two)))
    return None if one == two else unequal


def explain(
    loaded: Loaded, prompts: list[str], cap: int, engines: Sequence[Timed]
) -> list[dict[str, Any]]:
    """Every prompt on which the engines differ: who differs from one at a time, where, how closely.

    Args:
        loaded: The student.
        prompts: Rendered.
        cap: On generated tokens.
        engines: What each did with these prompts.
    """
    first, *others = engines
    unequal = [i for i in range(len(prompts)) if any(first.said[i] != o.said[i] for o in others)]
    found = []
    for i in unequal:
        reference, gaps = alone(loaded, [prompts[i]], cap)
        for engine in engines:
            at = first_difference(reference.said[0], engine.said[i])
            if at is not None:
                row = {"prompt": i, "engine": engine.name, "token": at, "gap": gaps[0][at]}
                found.append(row)
                print(
                    f"  prompt {i}: {engine.name} differs from one at a time at token {at}, where "
                    f"the two largest logits are {gaps[0][at]:.1e} apart"
                )
    return found


def student_at(directory: Path) -> Loaded:
    """A student that heed saved: a run's directory, or the `model` in it."""
    model = directory if directory.name == "model" else directory / "model"
    config = yaml.safe_load((model.parent / "config.yaml").read_text(encoding="utf-8"))
    holder = config.get("model") or config.get("student") or config
    return load_student(model, {"name": holder["name"], "template": build(holder["template"])})


def prompts_of(loaded: Loaded) -> list[str]:
    """The IFEval prompts, rendered."""
    path = DATA / "ifeval" / "ifeval_input_data.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [loaded.template.prompt(row["prompt"]) for row in rows]


def middle(loaded: Loaded, prompts: list[str], count: int) -> list[str]:
    """So many prompts from the middle of the order by length."""
    order = sorted(prompts, key=lambda text: len(loaded.tokenizer.encode(text)))
    start = max(0, len(order) - count) // 2
    return order[start : start + count]


def show_lengths(done: Timed, loaded: Loaded, cap: int) -> dict[str, Any]:
    """How long the responses are, and how many were cut."""
    lengths = [len(ids) for ids in done.said]
    cut = sum(ids[-1] not in loaded.stop_ids for ids in done.said)
    tenths = statistics.quantiles(lengths, n=10)
    print(
        f"responses: mean {statistics.mean(lengths):.0f} tokens, "
        f"deciles {' '.join(f'{t:.0f}' for t in tenths)}, "
        f"{cut} of {len(lengths)} ({cut / len(lengths):.1%}) cut at {cap}",
        flush=True,
    )
    return {"lengths": lengths, "cut": cut}


def parse() -> argparse.Namespace:
    """The command line."""
    conf = yaml.safe_load((ROOT / "conf" / "backend" / "heed.yaml").read_text(encoding="utf-8"))
    about = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    integers = lambda text: [int(part) for part in text.split(",")]  # noqa: E731
    about.add_argument("--student", type=Path, help="a run's directory; made here if not given")
    about.add_argument("--cap", type=int, default=1280, help="most new tokens (lm-eval's own cap)")
    about.add_argument("--prompts", type=int, default=541, help="how many, from the middle")
    about.add_argument("--probe", type=int, default=128, help="prompts to find batch sizes with")
    about.add_argument("--reference", type=int, default=16, help="prompts decoded one at a time")
    about.add_argument("--batch-sizes", type=integers, default=[4, 8, 16, 32, 64, 128])
    about.add_argument("--rows", type=integers, default=[conf["rows"]], help="heed's; first counts")
    about.add_argument("--batch-tokens", type=int, default=conf["batch_tokens"], help="heed's")
    about.add_argument("--out", type=Path, default=ROOT / "outputs" / "bench" / "generate.json")
    return about.parse_args()


def probe(loaded: Loaded, prompts: list[str], asked: argparse.Namespace) -> tuple[int, list[Timed]]:
    """lm-eval's best batch size, and what was measured to find it."""
    print(f"\nprobe: {len(prompts)} prompts")
    done = []
    for rows in asked.rows:
        backend = HeedBackend(batch_tokens=asked.batch_tokens, rows=rows)
        done.append(heed(loaded, prompts, asked.cap, backend))
        print(done[-1].line(), flush=True)
    tried = {}
    for size in asked.batch_sizes:
        tried[size] = lm_eval(loaded, prompts, asked.cap, size)
        print(tried[size].line(), flush=True)
    best = max(tried, key=lambda size: tried[size].rate)
    return best, [*done, *tried.values()]


def warm(loaded: Loaded, prompts: list[str], backend: HeedBackend) -> None:
    """Import and allocate what the first call of each engine would pay for."""
    heed(loaded, prompts, 8, backend)
    lm_eval(loaded, prompts, 8, 2)
    alone(loaded, prompts, 8)


def main() -> None:
    """Probe, measure in turn, compare."""
    asked = parse()
    torch.set_num_threads(1)
    loaded = student_at(asked.student or made(ROOT / "outputs"))
    backend = HeedBackend(batch_tokens=asked.batch_tokens, rows=asked.rows[0])
    prompts = middle(loaded, prompts_of(loaded), asked.prompts)
    size = sum(p.numel() for p in loaded.model.parameters())
    print(
        f"student {loaded.name}: {size / 1e6:.1f}M parameters, {loaded.model.dtype}, one thread; "
        f"{len(prompts)} prompts, cap {asked.cap}; load average {os.getloadavg()[0]:.1f}"
    )
    warm(loaded, prompts[:2], backend)
    reference, _ = alone(loaded, middle(loaded, prompts, asked.reference), asked.cap)
    print(reference.line(), flush=True)
    best, probed = probe(loaded, middle(loaded, prompts, asked.probe), asked)
    print(f"lm-eval's best of {asked.batch_sizes}: {best}\n\nall {len(prompts)} prompts")
    measured = []
    for run in (
        lambda: heed(loaded, prompts, asked.cap, backend),
        lambda: lm_eval(loaded, prompts, asked.cap, best),
        lambda: heed(loaded, prompts, asked.cap, backend),
    ):
        measured.append(run())
        print(measured[-1].line(), flush=True)
    ours, peer, again = measured
    ratio = statistics.mean([ours.rate, again.rate]) / peer.rate
    print(f"heed / lm-eval: {ratio:.2f} (before {ours.rate / peer.rate:.2f}, "
          f"after {again.rate / peer.rate:.2f})")  # fmt: skip
    lengths = show_lengths(ours, loaded, asked.cap)
    equal = sum(a == b for a, b in zip(ours.texts, peer.texts, strict=True))
    print(f"equal texts: {equal} of {len(prompts)}; load average {os.getloadavg()[0]:.1f}")
    odd = explain(loaded, prompts, asked.cap, measured[:2])
    rows = [[t.name, len(t.said), t.tokens, t.seconds] for t in (reference, *probed, *measured)]
    write_json(asked.out, {"ratio": ratio, "equal": equal, "odd": odd, "rows": rows} | lengths)
    if any(row["gap"] >= ROUNDING for row in odd) or ours.said != again.said:
        sys.exit("Texts differ by more than rounding explains: the figures above do not count.")


if __name__ == "__main__":
    main()

"""Training: heed beside TRL's SFTTrainer, a padded loop and a bare loop, each in its own process.

    python bench/train.py --quick                  # a first look: minutes
    python bench/train.py                          # both students of the CPU table
    python bench/train.py --models small --repeats 5
    python bench/train.py --device cuda            # tokens/s and MFU of 1, 2 and 3 billion

On a CPU every setting of TRL's grid (packing x attention x precision, beside its default) is
measured once, and so are a few settings of its batches that a user may find. Then heed, the two
loops, TRL's default, its best correct setting of the grid and that of all are measured again, in
turns. A setting is correct if it neither cuts documents nor lets them see each other; both are
looked for, not assumed. All get the same random weights and the same documents, whose lengths are
real (`train_rows.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from train_rows import FORMULA, PEAKS, SHAPES, Task, Way, work_of
from train_table import Measured, best_correct, table, verdicts

CHILD = Path(__file__).with_name("train_child.py")
DEFAULT = Way("TRL default (bf16, recomputing)", "trl", checkpointing=True)


def grid(*, quick: bool) -> list[Way]:
    """TRL's default, and packing x attention x precision in batches of eight."""
    attentions = ("sdpa",) if quick else ("sdpa", "eager")
    precisions = ("bf16",) if quick else ("fp32", "bf16")
    made = [DEFAULT]
    for packing in ("none", "bfd", "wrapped", "flat"):
        for attention in attentions:
            for precision in precisions:
                name = f"TRL {packing} {attention} {precision}"
                order = "random" if packing in ("bfd", "wrapped") else "sequential"
                made.append(Way(name, "trl", precision, packing, attention, False, 8, order))
    return made


def batches() -> list[Way]:
    """TRL with other batches than those of the grid, which a user may find."""
    one, order = Way("", "trl", rows=1), "group_by_length"
    return [
        replace(one, name="TRL bfd, a row at a time", packing="bfd", sampling="random"),
        replace(one, name="TRL a document at a time", packing="none"),
        replace(one, name="TRL grouped by length", packing="none", rows=8, sampling=order),
    ]


def run(task: Task) -> dict[str, Any] | str:
    """A task in a process of its own: its result, or the last line of its error."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(task.threads),
        "PYTHONPATH": os.pathsep.join([str(CHILD.parents[1] / "src"), *sys.path[1:]]),
    }
    if task.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    done = subprocess.run(  # noqa: S603 (our own script)
        [sys.executable, CHILD, task.to_json()],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        return said[-1]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(tasks: Sequence[Task], repeats: int) -> list[Measured]:
    """Every task, in turns, so that what else the machine does falls on all alike."""
    found = [Measured(task) for task in tasks]
    for number in range(repeats):
        for one in found:
            got = run(one.task)
            if isinstance(got, str):
                one.failed = got
            else:
                one.runs.append(got)
            print(f"  {number + 1}/{repeats} {one.task.way.name}", file=sys.stderr, flush=True)
    return found


def on_cpu(name: str, asked: argparse.Namespace) -> Iterator[Measured]:
    """The tables of one student; yields what was measured."""

    def task(way: Way) -> Task:
        return Task(way, name, asked.steps, asked.examples, asked.micro_tokens, asked.threads)

    shape = SHAPES[name]
    matmul = run(task(Way("matmul", "matmul")))
    if isinstance(matmul, str):
        raise SystemExit(f"the rate of a matrix product could not be measured: {matmul}")
    said = " ".join(f"{kind} {rate / 1e9:.0f} GFLOP/s" for kind, rate in matmul.items())
    print(f"\n{shape}\nmatrix product, for each second of the processor: {said}")
    settings = grid(quick=asked.quick)
    scan = measure([task(way) for way in (*settings, *batches())], 1)
    if not scan[0].runs:
        raise SystemExit(f"TRL's default does not run: {scan[0].failed}")
    print(
        f"\nTRL's settings, once each (ratio: to its default)\n{table(scan, scan[0].speed, matmul)}"
    )
    best = {"of its grid": best_correct(scan[1 : len(settings)]), "of all": best_correct(scan[1:])}
    ways = [
        Way(f"heed {precision}", "heed", precision) for precision in ("bf16", "fp32")
    ] + [Way("bare loop, heed's plan, bf16", "bare"), Way("padded loop, bf16", "padded"),
         Way("padded loop, fp32", "padded", "fp32"), DEFAULT]  # fmt: skip
    ways += dict.fromkeys(one.task.way for one in best.values())  # each once
    found = measure([task(way) for way in ways], asked.repeats)
    again = {one.task.way: one for one in found}
    heed, bare, default = found[0], found[2], again[DEFAULT]
    print(f"\nmedians of {asked.repeats}, in turns (ratio: to TRL's default)")
    print(table(found, default.speed, matmul))
    peers = {f"TRL's best correct {what}": (again[one.task.way], 2.5) for what, one in best.items()}
    for what, ratio, mark, reached in verdicts(
        heed, bare, {"TRL's default": (default, 4.0), **peers}
    ):
        print(f"{what:60} {ratio:5.2f}  asked {mark:4.2f}  {'reached' if reached else 'NOT'}")
    yield from (*scan, *found)


def on_cuda(asked: argparse.Namespace) -> Iterator[Measured]:
    """Tokens per second and MFU of heed, packed, by student, method and length."""
    print("MFU = work of a token x tokens per second / peak operations of the device in bfloat16")
    print(f"{FORMULA}\npeak, by name of the device: {PEAKS}; another's is measured")
    toy = asked.models == ["toy"]
    for name in asked.models:
        for method in ("full", "lora", "qlora"):
            for length in (64, 128) if toy else (2048, 4096):
                precision = "bf16" if method == "full" else "bf16-true"
                way = Way(f"{name} {method} {length}", "heed", precision)
                micro = max(2 * length, asked.micro_tokens)
                task = Task(way, name, asked.steps, asked.examples, micro, asked.threads)
                task = replace(task, device=asked.device, method=method, tokens=length)
                (one,) = measure([task], asked.repeats)
                yield one
                if not one.runs:
                    print(f"{way.name:20} failed: {one.failed}", flush=True)
                    continue
                rate = one.rate(supervised=False, cpu=False)
                device = one.runs[0]["device"]
                known = [peak for part, peak in PEAKS.items() if part in device]
                peak = known[0] if known else one.runs[0]["matmul"]
                mfu = rate * work_of(task) / peak
                print(f"{way.name:20} {rate:9.0f} tokens/s  MFU {mfu:6.1%}  "
                      f"peak {one.peak:7.0f} MiB  {device}", flush=True)  # fmt: skip


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for; what was left open by device."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer settings, one repeat, one step")
    parser.add_argument("--models", nargs="+", choices=SHAPES, help="students")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--repeats", type=int, help="of the second table: 3")
    parser.add_argument("--steps", type=int, help="that are measured; one goes before: 3")
    parser.add_argument("--examples", type=int, default=16, help="of an optimiser step")
    parser.add_argument("--micro-tokens", type=int, default=1536, help="most tokens of heed's rows")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--mfu", action="store_true", help="the table of CUDA, on any device")
    parser.add_argument("--out", type=Path, help="where every number is written, as JSON")
    asked = parser.parse_args(given)
    asked.mfu = asked.mfu or asked.device == "cuda"
    asked.models = asked.models or (["1b", "2b", "3b"] if asked.mfu else ["small", "larger"])
    asked.repeats = asked.repeats or (1 if asked.quick else 3)
    asked.steps = asked.steps or (1 if asked.quick else 3)
    return asked


def main() -> None:
    """Measure, print, and write."""
    asked = arguments()
    found: list[Measured] = []
    if asked.mfu:
        found = list(on_cuda(asked))
    else:
        print(FORMULA)
        for name in asked.models:
            found += on_cpu(name, asked)
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")


if __name__ == "__main__":
    main()

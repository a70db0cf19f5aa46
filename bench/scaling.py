"""Training on 1, 2 and 4 ranks: tokens/s, memory and how evenly supervised tokens are shared.

    python bench/scaling.py                                  # on a CPU: a shape check
    python bench/scaling.py --ranks 1 2 --strategies ddp
    python bench/scaling.py --device cuda --models 1b 3b     # a GPU a rank; with MFU

Every group is measured again and again in turns, so that what else the machine does falls on all
alike; the ratio is to one rank of the same method. Ranks of a CPU share its cores: there the ratio
of tokens for each second of the *processor* says what sharing costs, and tokens for each second of
the clock say nothing about a machine with a device a rank.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from train_rows import FORMULA, PEAKS, SHAPES, Task, Way, work_of

RANK = Path(__file__).with_name("scaling_rank.py")
GROUP_SECONDS = 1800
MEANS = """\
tokens/s: of all ranks together, first step left out; medians over repeats
ratio: to one rank of the same method; on a CPU of tokens for each second of the processor
MiB: most that a rank held, of tensors on CUDA since its first step, else of its process beyond what
it held before it had a student; said: what heed's plan says of the step
uneven: supervised tokens of the heaviest rank over the mean, median and worst step (1 is even)"""


@dataclass
class Group:
    """The repeats of one number of ranks.

    Attributes:
        task: What each rank does.
        ranks: How many.
        strategy: `ddp` or `fsdp`; one rank needs neither.
        runs: What the ranks said, in their order, for each repeat.
        failed: The last line of an error; empty if every repeat went through.
    """

    task: Task
    ranks: int
    strategy: str
    runs: list[list[Mapping[str, Any]]] = field(default_factory=list)
    failed: str = ""

    @property
    def name(self) -> str:
        """In tables."""
        shared = f"{self.ranks} {self.strategy}" if self.ranks > 1 else "1"
        return f"{self.task.shape} {self.task.method} {shared}"

    def rate(self, *, cpu: bool) -> float:
        """Median over the repeats of tokens per second, of the clock or of all processors."""
        return statistics.median(_rate(run, cpu=cpu) for run in self.runs)

    @property
    def peak(self) -> float:
        """Median over the repeats of the peak memory of the rank that held most, in MiB."""
        return statistics.median(max(one["peak"] for one in run) for run in self.runs) / 2**20

    @property
    def said(self) -> float | None:
        """What heed says that a rank needs, in MiB; None if it does not."""
        found = self.runs[0][0]["said"]
        return None if found is None else found / 2**20

    @property
    def uneven(self) -> tuple[float, float]:
        """Supervised tokens of the heaviest rank over the mean: median and worst step."""
        steps = zip(*(one["own"] for one in self.runs[0]), strict=True)
        shares = [[supervised for supervised, _ in step] for step in steps]
        found = [max(share) * len(share) / sum(share) for share in shares]
        return statistics.median(found), max(found)

    @property
    def mfu(self) -> float:
        """Work of the tokens over what the devices could do."""
        first = self.runs[0][0]
        known = [peak for part, peak in PEAKS.items() if part in first["device"]]
        peak = known[0] if known else first["matmul"]
        return self.rate(cpu=False) * work_of(self.task) / (peak * self.ranks)


def _rate(run: Sequence[Mapping[str, Any]], *, cpu: bool) -> float:
    """Tokens per second of one repeat."""
    tokens = run[0]["marks"][-1][2] - run[0]["marks"][0][2]
    spent = [one["marks"][-1][cpu] - one["marks"][0][cpu] for one in run]
    return tokens / (sum(spent) if cpu else max(spent))


def groups(asked: argparse.Namespace) -> Iterator[Group]:
    """What is measured."""
    for name in asked.models:
        for method in asked.methods:
            precision = "bf16-true" if method == "qlora" else asked.precision
            way = Way(name, "heed", precision, checkpointing=asked.checkpointing)
            task = Task(way, name, asked.steps, asked.examples, asked.micro_tokens, asked.threads,
                        asked.device, method, asked.tokens)  # fmt: skip
            for ranks in asked.ranks:
                for strategy in asked.strategies if ranks > 1 else ("ddp",):
                    if not (strategy == "fsdp" and method == "qlora"):  # refused
                        yield Group(task, ranks, strategy)


class Rank(NamedTuple):
    """A rank under way, and what it prints."""

    process: subprocess.Popen[bytes]
    out: IO[str]
    err: IO[str]


def run(group: Group) -> list[dict[str, Any]] | str:
    """A group of fresh processes: what each said, or the last line of the first error."""
    import torch

    from heed.study.group import LOOPBACK

    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    common = os.environ | {
        **LOOPBACK,
        "OMP_NUM_THREADS": str(group.task.threads),
        "PYTHONPATH": os.pathsep.join([str(RANK.parents[1] / "src"), *sys.path[1:]]),
        "WORLD_SIZE": str(group.ranks),
        "LOCAL_WORLD_SIZE": str(group.ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    if group.task.device == "cpu":
        common["CUDA_VISIBLE_DEVICES"] = ""
    with ExitStack() as stack:
        begun: list[Rank] = []
        for rank in range(group.ranks):
            out, err = (stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(2))
            process = subprocess.Popen(  # noqa: S603 (our own script)
                [sys.executable, RANK, group.task.to_json(), group.strategy],
                env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdin=subprocess.PIPE,  # closed when we die: the rank ends with us
                stdout=out,
                stderr=err,
            )
            assert process.stdin is not None
            stack.callback(process.stdin.close)
            stack.callback(process.wait)
            stack.callback(process.kill)
            begun.append(Rank(process, out, err))
        return _said(begun)


def _said(begun: Sequence[Rank]) -> list[dict[str, Any]] | str:
    """What ranks print last; the first that fails is heard, since the others wait for it."""
    end = time.monotonic() + GROUP_SECONDS
    while time.monotonic() < end:
        codes = [one.process.poll() for one in begun]
        if bad := [one for one, code in zip(begun, codes, strict=True) if code]:
            lines = _lines(bad[0].err)
            return next((x for x in reversed(lines) if "Error" in x), "it says nothing")
        if None not in codes:
            return [json.loads(_lines(one.out)[-1]) for one in begun]
        time.sleep(0.05)
    return f"it was not over after {GROUP_SECONDS} s"


def _lines(file: IO[str]) -> list[str]:
    file.seek(0)
    return file.read().strip().splitlines()


def measure(found: Sequence[Group], repeats: int) -> None:
    """Every group, in turns."""
    for number in range(repeats):
        for group in found:
            if group.failed:
                continue
            got = run(group)
            if isinstance(got, str):
                group.failed = got
            else:
                group.runs.append(got)
            print(f"  {number + 1}/{repeats} {group.name}", file=sys.stderr, flush=True)


def table(found: Sequence[Group]) -> str:
    """A line for each group."""
    cuda = found[0].task.device == "cuda"
    head = f"{'student, method, ranks':24} {'tok/s':>8} {'tok/cpu s':>9} {'ratio':>6} {'MiB':>7} "
    head += f"{'said':>7} {'uneven':>7} {'worst':>6}" + f" {'MFU':>6}" * cuda
    return "\n".join([head, *(_line(one, found) for one in found)])


def _line(one: Group, found: Sequence[Group]) -> str:
    if one.failed:
        return f"{one.name:24} failed: {one.failed}"
    cuda = one.task.device == "cuda"
    alone = [g for g in found if g.task == one.task and g.ranks == 1 and g.runs]
    unit = alone[0].rate(cpu=not cuda) if alone else float("nan")
    said = "-" if one.said is None else f"{one.said:.0f}"
    middle, worst = one.uneven
    return (
        f"{one.name:24} {one.rate(cpu=False):8.0f} {one.rate(cpu=True):9.0f} "
        f"{one.rate(cpu=not cuda) / unit:6.2f} {one.peak:7.0f} {said:>7} {middle:7.3f} "
        f"{worst:6.3f}" + (f" {one.mfu:6.1%}" if cuda else "")
    )


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for; what was left open by device."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--models", nargs="+", choices=SHAPES, help="students")
    parser.add_argument("--methods", nargs="+", default=["full", "lora"])
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--strategies", nargs="+", default=["ddp", "fsdp"])
    parser.add_argument("--precision", choices=("fp32", "bf16", "bf16-true"), help="of a step")
    parser.add_argument("--checkpointing", action="store_true", help="blocks are computed again")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="that are measured; one goes before")
    parser.add_argument("--examples", type=int, default=16, help="of an optimiser step")
    parser.add_argument("--micro-tokens", type=int, default=1536, help="most tokens of a row")
    parser.add_argument("--tokens", type=int, help="of every document; 0: real lengths")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="where every number is written, as JSON")
    asked = parser.parse_args(given)
    cuda = asked.device == "cuda"
    asked.models = asked.models or (["1b", "2b", "3b"] if cuda else ["small"])
    asked.precision = asked.precision or ("bf16" if cuda else "fp32")
    asked.tokens = (4096 if cuda else 0) if asked.tokens is None else asked.tokens
    return asked


def main() -> None:
    """Measure, print, and write."""
    asked = arguments()
    found = list(groups(asked))
    measure(found, asked.repeats)
    print(MEANS)
    if asked.device == "cuda":
        print(f"MFU = work x tokens per second / peak of all devices\n{FORMULA}")
    else:
        print("A SHAPE CHECK: the ranks share the cores of one machine.")
    print(table(found))
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")


if __name__ == "__main__":
    main()

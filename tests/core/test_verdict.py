"""What docs/verdict.md says: its rule is the code's, and its numbers come out again."""

import gzip
import importlib.util
import json
import re
from itertools import combinations
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from heed.core.significance import two_proportions_z
from heed.core.stats import compare_paired, holm, interval, verdict_of

PROJECT = Path(__file__).resolve().parents[2]
PAGE = (PROJECT / "docs" / "verdict.md").read_text(encoding="utf-8")
QUICK = {"level": 0.95, "resamples": 2000, "seed": 0}
SURE, ASKED = 190, 834


def plain(text: str) -> str:
    return " ".join(text.replace("*", "").split())


def rows(header: str) -> list[list[float]]:
    """The table below a header, as numbers; a cell with two of them gives both."""
    _, found, below = PAGE.partition(f"| {header} |\n")
    assert found, header
    lines = below.splitlines()[1:]
    lines = lines[: next(i for i, line in enumerate(lines) if not line.startswith("|"))]
    cells = [re.findall(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?!\w)", line) for line in lines]
    return [[float(cell) for cell in line] for line in cells]


def test_the_rule_in_the_docs_is_the_rule_in_the_code():
    paragraph = plain(PAGE.split("## The rule\n")[1].split("\n## ")[0])
    assert f"The rule: {paragraph} For a metric" in plain(verdict_of.__doc__ or "")


def test_the_ladders_rows_come_out_again():
    table = rows(
        "model | followed before, after | change, points | z, unpaired | "
        "sure if at most so many instructions changed"
    )
    assert [row[:2] for row in table] == [[171, 123], [183, 142], [193, 210]]
    for before, after, change, z, most in table:
        assert change == round(100 * (after - before) / ASKED, 2)
        assert z == round(two_proportions_z(int(before), int(after), ASKED), 1)
        edge = [abs(after - before) / np.sqrt(most + more) for more in (0, 1)]
        assert edge[0] >= 1.959964 > edge[1]
    from scipy.stats import norm

    ps = [2 * norm.sf(abs(two_proportions_z(int(b), int(a), ASKED))) for b, a, *_ in table]
    assert [p < 0.05 for p in holm(ps)] == [True, True, False]


def test_the_ladder_beside_the_controls_comes_out_again():
    assert round(100 * SURE / ASKED, 2) == 22.78
    told = [f"{two_proportions_z(SURE, count, ASKED):+.1f}" for count in (171, 183, 193)]
    assert f"z {told[0]}, {told[1]} and {told[2]} against its {SURE} of {ASKED}" in plain(PAGE)
    told = [f"{two_proportions_z(SURE, count, ASKED):+.1f}" for count in (210, 123, 142)]
    assert f"3B model (z {told[0]})" in plain(PAGE)
    assert f"worse than it ({told[1]} and {told[2]})" in plain(PAGE)
    assert all(13.31 < 100 * n / ASKED < 35.97 for n in (171, 123, 183, 142, 193, 210))


def followed(path: Path) -> dict[str, tuple[list[int], list[int]]]:
    """Of a published model: right prompts, and instructions followed over asked."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        told = {row["key"]: row["strict_list"] for row in map(json.loads, lines)}
    lists = [told[key] for key in sorted(told)]
    return {
        "prompts": ([int(all(one)) for one in lists], [1] * len(lists)),
        "instructions": ([sum(one) for one in lists], [len(one) for one in lists]),
    }


@pytest.mark.shared
@pytest.mark.slow
def test_what_pairing_adds_on_published_answers_comes_out_again(shared_data: Path):
    models = [followed(path) for path in sorted((shared_data / "ifeval/responses").glob("*.gz"))]
    flipped, paired, apart, mde = [], [], [], []
    for one, other in combinations(models, 2):
        found = compare_paired(one["instructions"], other["instructions"], **QUICK)
        alone = [interval(*model["instructions"], **QUICK) for model in (one, other)]
        flips = compare_paired(one["prompts"], other["prompts"], **QUICK | {"resamples": 20}).flips
        flipped.append(100 * sum(flips or ()) / 541)
        paired.append(50 * (found.interval.high - found.interval.low))
        apart.append(50 * np.hypot(*(i.high - i.low for i in alone)))
        mde.append(100 * found.mde)
    page = plain(PAGE)
    assert f"{min(flipped):.1f} to {max(flipped):.1f} % of the prompts flip" in page
    assert f"in the median {np.median(flipped):.1f} %" in page
    told = re.search(
        r"is then ([\d.]+) points wide .*? same answers ([\d.]+), and .*? ([\d.]+) p", page
    )
    assert told is not None
    measured = [np.median(values) for values in (paired, apart, mde)]
    assert [float(one) for one in told.groups()] == pytest.approx(measured, abs=0.12)


@pytest.fixture(scope="module")
def coverage() -> ModuleType:
    """The simulation, `bench/coverage.py`."""
    spec = importlib.util.spec_from_file_location("coverage_bench", PROJECT / "bench/coverage.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def near(told: float, line: str, draws: int, word: str = "covered") -> bool:
    """Whether a share of the page fits a smaller simulation, within four standard errors."""
    found = re.search(rf"{word}\s+([\d.]+) %", line)
    assert found is not None
    share = min(max(told / 100, 0.01), 0.99)
    return abs(float(found[1]) - told) < 400 * np.sqrt(share * (1 - share) / draws)


@pytest.mark.slow
def test_the_coverage_of_the_docs_comes_out_again(coverage: ModuleType):
    draws, least = 400, {"1": 94.0, "more": 93.0}
    table = rows("seeds | sd of seeds | covered %")
    for told, line in zip(table, coverage.one_seed(draws, 500), strict=True):
        assert 96 >= told[2] >= least["1"]
        assert near(told[2], line, draws), line
    table = rows("seeds | sd of seeds | covered % | half width, points")
    for told, line in zip(table, coverage.several_seeds(draws, 500), strict=True):
        assert told[2] >= least["more"]
        assert near(told[2], line, draws), line
        assert told[3] == pytest.approx(float(line.split()[-2]), rel=0.25), line


@pytest.mark.slow
def test_few_changes_are_covered_as_the_docs_say(coverage: ModuleType):
    draws = 1000
    lines = [" ".join(line.split()) for line in coverage.few_flips(draws, 1000)]
    covered = [float(re.findall(r"covered ([\d.]+)", line)[0]) for line in lines]
    assert min(covered) > 93
    for base, changed, delta, held, called in rows(
        "base % | changed % | true delta | covered % | helped or hurt %"
    ):
        start = f"base {base:.0f} % changed {changed:.0f} % true delta {delta:.1f} "
        (line,) = [one for one in lines if one.startswith(start)]
        assert near(held, line, draws), line
        assert near(called, line, draws, "helped or hurt"), line
        assert delta or called < 5

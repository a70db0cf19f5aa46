"""The studies of the sources: which cells they ask for, at full scale and at smaller ones."""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from sweeps import Swept
from tiny import STUDENT

from heed.core.compose import compose_component, option_names
from heed.core.errors import ConfigError
from heed.study.plan import PlannedCell, plan_cells, plan_study
from heed.study.scaling import at_scale
from heed.study.study import Study

CONF = Path(__file__).resolve().parents[2] / "conf"
SCALED = ("size_ladder", "lr_rerun_2b", "lr_surface", "tuning_limits")
CELLS = {"size_ladder": 3, "lr_rerun_2b": 21, "lr_surface": 30, "tuning_limits": 40}
SCALES = option_names(CONF, "scale")
OPEN = {  # what each leaves open: key and file
    "size_ladder": {
        ("model.revision", "1b"), ("model.path", "2b"), ("model.revision", "2b"),
        ("model.revision", "3b"), ("teacher.source.revision", "slimorca"),
    },
    "tuning_limits": {("model.revision", "phi-1_5"), ("model.revision", "Llama-2-7b")},
}  # fmt: skip
ALREADY_RUN = (
    "model=books teacher=alpaca_52k method=lora_size_ladder lr=gentle lr.peak=0.0005 "
    "lr.warmup_steps=10 data=responses data.limit=4000 data.epochs=1 suite=real_small "
    "precision=bf16-mixed checkpoint=last seed=1"
)


def study(name: str, *typed: str, conf: Path = CONF) -> Study:
    made = at_scale(compose_component(conf, "sweep", [f"study={name}", *typed]), conf).study
    assert made is not None
    return made


def covering(lines: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Some of the lines, which hold every setting between them."""
    seen: set[str] = set()
    found = []
    for line in lines:
        if not seen.issuperset(line):
            found.append(line)
            seen.update(line)
    return found


def planned(made: Study, conf: Path = CONF) -> list[PlannedCell]:
    cells = plan_cells(covering(made.lines()), conf)
    assert len({one.key for one in cells}) == len(cells) == len(covering(made.lines()))
    return cells


def test_the_studies_of_the_sources_and_the_scales_are_there():
    assert {*SCALED, "playground"} <= set(option_names(CONF, "study"))
    assert SCALES == ["playground", "small_real"]


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("scale", ["", *SCALES])
def test_a_study_asks_for_its_cells_at_every_scale_each_once(name: str, scale: str):
    made = study(name, *([f"scale={scale}"] if scale else []))
    lines = [frozenset(line) for line in made.lines()]
    assert len(set(lines)) == len(lines) == CELLS[name]
    assert made.stopping
    assert made.primary
    if scale:
        assert made.name == f"{name}-{scale}"
        assert all(sum("lr.peak=" in text for text in line) == 1 for line in lines)


def check_at(name: str, scale: str) -> None:
    cells = planned(study(name, f"scale={scale}"))
    factor = {"playground": 25, "small_real": 10}[scale]
    for one in cells:
        whole = one.cell.lr.peak / factor
        assert any(whole == pytest.approx(rate) for rate in
                   (1.25e-5, 5e-5, 2e-4, 8e-4, 3.2e-3)), one.command  # fmt: skip
        assert one.cell.lr.warmup_steps == 10


def test_the_rerun_plans_on_the_playground():
    check_at("lr_rerun_2b", "playground")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SCALED if name != "lr_rerun_2b"])
def test_so_do_the_others(name: str):
    check_at(name, "playground")


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("name", SCALED)
def test_a_study_plans_with_real_responses(shared_data: Path, monkeypatch, name: str):
    monkeypatch.setenv("HEED_DATA", str(shared_data))
    check_at(name, "small_real")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config tree with the commits written into it, as a user would."""
    conf = tmp_path_factory.mktemp("filled") / "conf"
    shutil.copytree(CONF, conf)
    for number, file in enumerate(("1b", "2b", "3b", "phi-1_5", "Llama-2-7b")):
        path = conf / "model" / f"{file}.yaml"
        text = path.read_text().replace("path: ???", "path: organisation/2b")
        path.write_text(text.replace("revision: ???", f"revision: {str(number) * 39}a"))
    path = conf / "teacher/slimorca.yaml"
    path.write_text(path.read_text().replace("revision: ???", f"revision: {'b' * 40}"))
    return conf


def test_at_full_scale_the_rerun_plans_once_its_commits_are_written_down(filled: Path):
    cells = planned(study("lr_rerun_2b", conf=filled), filled)
    assert {one.names["student"] for one in cells} == {"1b", "2b", "3b"}
    assert {one.cell.data.limit for one in cells} == {50_000}
    rates = {one.names["lr"]: one.names["lr_peak"] for one in cells}
    assert rates == {"gentle": 5e-5, "reference": 2e-4, "aggressive": 8e-4}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPEN)
def test_before_that_it_says_on_one_screen_which_files_leave_what_open(name: str):
    with pytest.raises(ConfigError) as caught:
        plan_study(study(name), CONF)
    told = caught.value.mistakes
    assert {(m.where, m.why.split()[0].split("/")[-1].removesuffix(".yaml")) for m in told} == OPEN[
        name
    ]
    for one in told:
        kind = "teacher" if "teacher" in one.where else "model"
        assert one.action == f"Write it into {one.why.split()[0]}."
        assert one.why.startswith(f"conf/{kind}/")


def test_the_rerun_separates_size_and_rate():
    """At each of the source's rates there are all sizes, and each size at both, with each seed."""
    made = study("lr_rerun_2b", "scale=playground")
    cells = [dict(text.split("=") for text in line) for line in made.lines()]
    assert Counter((cell["model"], cell["lr"]) for cell in cells) == {
        **{(m, lr): 3 for m in ("nano", "micro", "mini") for lr in ("gentle", "reference")},
        ("micro", "aggressive"): 3,
    }
    same = ("teacher", "method", "data", "data.limit", "data.epochs", "checkpoint", "suite")
    assert len({tuple(cell[key] for key in same) for cell in cells}) == 1
    peaks = {(cell["lr"], cell["lr.peak"]) for cell in cells}
    assert peaks == {("gentle", "0.00125"), ("reference", "0.005"), ("aggressive", "0.02")}


def test_the_size_ladder_keeps_the_confusion_of_its_source():
    cells = [dict(text.split("=") for text in line) for line in study("size_ladder").lines()]
    assert [(c["model"], c["lr"]) for c in cells] == [
        ("1b", "reference"), ("2b", "reference"), ("3b", "gentle"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["size_ladder", "lr_rerun_2b"])
def test_published_values_are_counts_of_834_instructions(name: str):
    counts = {"1b": (171, 123), "2b": (183, 142), "3b": (193, 210)}
    for one in study(name).published:
        before, after = (count / 834 for count in counts[str(one["where"]["model"])])
        assert (one["before"], one["after"]) == pytest.approx((before, after), abs=5e-5)
        assert one["delta"] == pytest.approx(one["after"] - one["before"])
        assert str(counts[str(one["where"]["model"])][0]) in one["note"]


@pytest.mark.parametrize("name", SCALED)
def test_every_published_value_stands_beside_a_cell(name: str):
    made = study(name)
    cells = [dict(text.partition("=")[::2] for text in line) for line in made.lines()]
    for one in made.published:
        where = {key: "null" if v is None else str(v) for key, v in one["where"].items()}
        assert any(where.items() <= cell.items() for cell in cells), where


@pytest.mark.parametrize("name", SCALED)
def test_a_published_value_is_about_as_many_cells_at_every_scale(name: str):
    counts = []
    for typed in ([], *([f"scale={scale}"] for scale in SCALES)):
        made = study(name, *typed)
        cells = [dict(text.partition("=")[::2] for text in line) for line in made.lines()]
        wheres = [
            {key: "null" if v is None else str(v) for key, v in one["where"].items()}
            for one in made.published
        ]
        counts.append([sum(w.items() <= cell.items() for cell in cells) for w in wheres])
    assert counts[0] == counts[1] == counts[2]


@pytest.mark.parametrize("scale", SCALES)
def test_more_rows_stay_more_rows(scale: str):
    made = compose_component(CONF, "sweep", ["study=size_ladder", f"scale={scale}"]).scale
    assert made is not None
    rows = {k: v for k, v in made.options["data.limit"].items() if k != "50000"}
    order = sorted(rows, key=lambda text: float("inf") if text == "null" else int(text))
    here = [float("inf") if rows[text] is None else float(str(rows[text])) for text in order]
    assert here == sorted(set(here))


@pytest.mark.shared
def test_a_cell_of_the_small_rerun_is_the_run_of_its_own_line(shared_data: Path, monkeypatch):
    monkeypatch.setenv("HEED_DATA", str(shared_data))
    made = study("lr_rerun_2b", "scale=small_real")
    (line,) = (x for x in made.lines() if {"model=books", "lr=gentle", "seed=1"} <= set(x))
    (cell,) = plan_cells([line], CONF)
    alone = compose_component(CONF, "train", ALREADY_RUN.split())
    assert cell.key[0] == alone.run.id
    assert cell.cell.suite == alone.suite


@pytest.mark.slow
def test_a_study_runs_at_a_scale_from_plan_to_page(tmp_path: Path):
    swept = Swept(tmp_path / "outputs")
    line = (
        "sweep.py", "study=lr_rerun_2b", "scale=playground", "study.axes.model=[1b]",
        "study.axes.lr=[gentle,reference]", "study.exclude=[]", "study.seeds=[1]",
        *STUDENT, "also=none",
    )  # fmt: skip
    try:
        code, printed = swept.run(script=line)
    finally:
        swept.end()
    assert code == 0, printed
    folder = swept.outputs / "studies/lr_rerun_2b-playground"
    rows = [text.split(",") for text in (folder / "table.csv").read_text().splitlines()]
    at = [rows[0].index(name) for name in ("student", "teacher", "lr", "lr_peak")]
    assert [[row[i] for i in at] for row in rows[1:]] == [
        ["nano", "play_clear", "gentle", "0.00125"],
        ["nano", "play_clear", "reference", "0.005"],
    ]
    page = (folder / "report.html").read_text()
    for text in ("nano", "slimorca", "All 21 cells", "multiplied by 25", "Said of model 1b"):
        assert text in page, text
    assert "'lr.peak' is not a studied axis" not in page

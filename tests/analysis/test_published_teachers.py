"""The published numbers of the paper on teachers agree with each other and with what we say.

Source: Xu et al. 2024, https://arxiv.org/abs/2411.07133; its Tables 1 to 4 and 6 as files.
"""

import csv
from pathlib import Path

import numpy as np
import pytest

from heed.analysis.families import Taught, larger_in_family, means, own_family, size_in_family
from heed.analysis.published_teachers import LIKE, RHOS, STUDENTS, TEACHERS, beside
from heed.analysis.spearman import fisher_interval, on_lattice, ranks, spearman

OWN = {
    "Qwen2-1.5B": ("Qwen2",),
    "Gemma 2-2B": ("Gemma 2",),
    "Qwen2.5-3B": ("Qwen2.5",),
    "Llama-3.2-3B": ("Llama 3", "Llama 3.1"),
}
COLUMNS = {  # of the file of Spearman's rho -> our words
    "RM1_ArmoRM-Llama3-8B-v0.1": "reward, ArmoRM-Llama3-8B-v0.1",
    "RM2_Skywork-Reward-Llama-3.1-8B": "reward, Skywork-Reward-Llama-3.1-8B",
    "RM3_Skywork-Reward-Gemma-2-27B": "reward, Skywork-Reward-Gemma-2-27B",
    "IFD-GPT2": "IFD, GPT-2",
    "IFD-Self": "IFD, the student",
    "PPL-GPT2": "perplexity, GPT-2",
    "PPL-Self": "perplexity, the student",
    "Response_Length": "length",
    "CAR": "CAR",
}
MISFITS = {("Qwen2-1.5B", "PPL-GPT2"), ("Llama-3.1-Minitron-4B", "IFD-Self")}


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


@pytest.fixture(scope="module")
def main(papers: Path) -> list[dict[str, str]]:
    return rows_of(papers / "teachers_results_main.csv")


@pytest.fixture(scope="module")
def correlations(papers: Path) -> dict[str, dict[str, str]]:
    return {row["base_model"]: row for row in rows_of(papers / "teachers_spearman.csv")}


@pytest.fixture(scope="module")
def taught(main) -> Taught:
    """AP of every teacher with every student, from the win rates of Table 6."""
    found = {(r["base_model"], r["teacher"]): r for r in main}
    teachers = tuple(dict.fromkeys(row["teacher"] for row in main))
    about = [found[STUDENTS[0], teacher] for teacher in teachers]
    return Taught(
        STUDENTS,
        teachers,
        np.array([[ap(found[s, t]) for t in teachers] for s in STUDENTS]),
        tuple(row["family"] for row in about),
        tuple(float(row["teacher_size_B"]) for row in about),
    )


def ap(row: dict[str, str]) -> float:
    """Average Performance: the mean of two win rates; AlpacaEval's raw one has no part in it."""
    return (float(row["AE2_LC"]) + float(row["ArenaHard_WR"])) / 2


def rank_of(taught: Taught, student: str) -> dict[str, float]:
    row = taught.places[taught.students.index(student)]
    return dict(zip(taught.teachers, row.tolist(), strict=True))


def test_ap_is_the_mean_of_two_win_rates_wherever_it_is_printed(papers: Path):
    printed = [
        (ap(row), float(row["AP_published"]))
        for name in ("teachers_gpt4_comparison", "teachers_reject_sampling")
        for row in rows_of(papers / f"{name}.csv")
    ]
    assert len(printed) == 7 + 8
    for made, said in printed:
        assert made == pytest.approx(said, abs=0.005 + 1e-9)
    exact = [made for made, said in printed if made == pytest.approx(said, abs=1e-9)]
    assert len(exact) == 8 + 3


def test_there_are_nineteen_teachers_of_five_students_and_no_two_have_one_ap(taught: Taught, main):
    assert len(main) == 95
    assert len(taught.teachers) == TEACHERS
    for student in taught.outcomes:
        assert len(set(student.tolist())) == TEACHERS
    said = [float(row["AP_rank_in_base"]) for row in main]
    assert said == [rank_of(taught, row["base_model"])[row["teacher"]] for row in main]


def test_the_files_of_averages_and_of_results_agree(taught: Taught, papers: Path):
    rows = {row["teacher"]: row for row in rows_of(papers / "teachers_avg_ap.csv")}
    assert tuple(rows) == taught.teachers
    for place, (teacher, row) in enumerate(rows.items()):
        printed = [float(row[f"AP_{student}"]) for student in STUDENTS]
        assert taught.outcomes[:, place] == pytest.approx(printed), teacher
        mean = float(row["AP_mean5_derived"])
        assert taught.outcomes[:, place].mean() == pytest.approx(mean, abs=6e-4)


def test_the_table_in_the_project_is_the_published_one(correlations):
    assert {COLUMNS[c] for c in correlations["Average"] if c != "base_model"} == set(RHOS)
    for place, student in enumerate(STUDENTS):
        for column, name in COLUMNS.items():
            assert RHOS[name][place] == float(correlations[student][column])


def test_the_average_row_is_the_mean_over_students(correlations):
    for column, name in COLUMNS.items():
        printed = float(correlations["Average"][column])
        assert np.mean(RHOS[name]) == pytest.approx(printed, abs=1.01e-4)
    (car,) = beside("car")
    assert car["mean"] == pytest.approx(0.8888, abs=1e-4)
    assert (car["lowest"], car["highest"]) == (0.8105, 0.9439)
    assert {name for like in LIKE.values() for name in like} == set(RHOS)
    assert [one["metric"] for one in beside("reward armorm")] == [
        COLUMNS["RM1_ArmoRM-Llama3-8B-v0.1"]
    ]


def test_every_printed_rho_ranks_nineteen_teachers_without_ties_but_for_two_misfits(correlations):
    def fitting(teachers: int) -> set[tuple[str, str]]:
        return {
            (student, column)
            for student in STUDENTS
            for column in COLUMNS
            if on_lattice(float(correlations[student][column]), teachers, 4)
        }

    every = {(student, column) for student in STUDENTS for column in COLUMNS}
    assert every - fitting(19) == MISFITS
    assert len(fitting(18)) == 3
    assert len(fitting(20)) == 9


def test_rho_of_ap_with_size_is_small_for_every_student(taught: Taught):
    found = spearman(taught.outcomes, taught.sizes)
    assert found.tolist() == pytest.approx([0.126, 0.148, 0.123, 0.188, 0.335], abs=6e-4)
    (every,) = [one for one in size_in_family(taught, level=0.95) if one["family"] is None]
    assert every["rhos"] == pytest.approx(found.tolist())
    assert 0 < every["low"] < every["mean"] < every["high"] < 0.35


def test_students_agree_on_their_teachers(taught: Taught):
    pairs = [
        float(spearman(one, two))
        for i, one in enumerate(taught.outcomes)
        for two in taught.outcomes[:i]
    ]
    assert (round(min(pairs), 2), round(max(pairs), 2)) == (0.85, 0.96)


def test_the_best_teachers_are_those_that_the_source_names(taught: Taught):
    order = [name for name, _ in means(taught)]
    assert order[:3] == ["Qwen2.5-72B-Instruct", "gemma-2-9b-it", "gemma-2-27b-it"]
    assert order[-1] == "Qwen2-1.5B-Instruct"


@pytest.mark.parametrize(
    ("smaller", "larger", "wins"),
    [
        ("gemma-2-9b-it", "gemma-2-27b-it", 4),
        ("Meta-Llama-3.1-70B-Instruct", "Meta-Llama-3.1-405B-Instruct", 4),
        ("Qwen2-7B-Instruct", "Qwen2-72B-Instruct", 5),
        ("Phi-3-small-128k-instruct", "Phi-3-medium-128k-instruct", 5),
        ("Meta-Llama-3-8B-Instruct", "Meta-Llama-3-70B-Instruct", 0),
    ],
)
def test_a_larger_teacher_of_the_family_is_often_worse_but_not_always(
    taught, smaller, larger, wins
):
    found = larger_in_family(taught, level=0.95)
    (one,) = [o for o in found if (o["smaller"], o["larger"]) == (smaller, larger)]
    assert (one["smaller_wins"], one["students"]) == (wins, 5)
    assert one["low"] < one["difference"] < one["high"]
    assert (one["difference"] < 0) == (wins > 2)


def test_which_paradoxes_an_interval_over_students_lets_stand(taught: Taught):
    """Five students show that 72B is worse than 7B of Qwen2; 405B against 70B they leave open."""
    found = {(o["smaller"], o["larger"]): o for o in larger_in_family(taught, level=0.95)}
    assert found["Qwen2-7B-Instruct", "Qwen2-72B-Instruct"]["high"] < 0
    assert found["Phi-3-small-128k-instruct", "Phi-3-medium-128k-instruct"]["high"] < 0
    open_ = found["Meta-Llama-3.1-70B-Instruct", "Meta-Llama-3.1-405B-Instruct"]
    assert open_["low"] < 0 < open_["high"]


def test_the_largest_of_qwen_2_5_is_its_best_for_all_students_but_the_one_of_its_family(taught):
    own = [i for i, family in enumerate(taught.families) if family == "Qwen2.5"]
    best = {
        s: taught.teachers[own[taught.outcomes[i, own].argmax()]] for i, s in enumerate(STUDENTS)
    }
    assert best.pop("Qwen2.5-3B") == "Qwen2.5-3B-Instruct"
    assert set(best.values()) == {"Qwen2.5-72B-Instruct"}


def test_gemma_and_qwen_2_5_learn_best_from_their_own_family_and_llama_does_not(taught: Taught):
    found = {one["student"]: one for one in own_family(taught, OWN, level=0.95)}
    assert set(found) == set(OWN)
    gemma, qwen, llama = (found[s] for s in ("Gemma 2-2B", "Qwen2.5-3B", "Llama-3.2-3B"))
    assert (gemma["best_rank"], qwen["best_rank"], llama["best_rank"]) == (1, 1, 9)
    assert rank_of(taught, "Gemma 2-2B")["gemma-2-2b-it"] == 1
    assert rank_of(taught, "Qwen2.5-3B")["Qwen2.5-3B-Instruct"] == 1
    top = rank_of(taught, "Gemma 2-2B")
    assert sum(top[t] <= 4 for t in top if t.startswith("gemma")) == 3
    top = rank_of(taught, "Qwen2.5-3B")
    assert sum(top[t] <= 7 for t in top if t.startswith("Qwen2.5")) == 5
    assert max(gemma["p"], qwen["p"]) < 0.05 < llama["p"]


def test_what_families_gain_beyond_their_rank_elsewhere(taught: Taught):
    """Gemma's and Qwen2.5's teachers rank well everywhere: what is their own is smaller."""
    found = {one["student"]: one for one in own_family(taught, OWN, level=0.95)}
    gains = {student: one["gain"] for student, one in found.items()}
    by_hand = taught.places[[0, 2, 3, 4]].mean(axis=0) - taught.places[1]
    inside = np.array([family == "Gemma 2" for family in taught.families])
    assert gains["Gemma 2-2B"] == pytest.approx(by_hand[inside].mean() - by_hand[~inside].mean())
    assert all(one["low"] < one["gain"] < one["high"] for one in found.values())


def test_the_published_lead_of_car_is_small_beside_what_nineteen_teachers_can_show():
    car, reward = (np.mean(RHOS[n]) for n in ("CAR", "reward, Skywork-Reward-Gemma-2-27B"))
    assert car - reward == pytest.approx(0.018, abs=5e-4)
    interval = fisher_interval(float(car), TEACHERS, 0.95)
    assert interval.low < reward < interval.high
    better = sum(
        RHOS["CAR"][i] > max(RHOS[name][i] for name in RHOS if name != "CAR") for i in range(5)
    )
    assert better == 4


def test_ranks_of_the_reward_are_those_of_car_without_loss(taught: Taught):
    from heed.analysis.car import car

    random = np.random.default_rng(0)
    reward, loss = random.uniform(0.1, 1, TEACHERS), random.uniform(0.5, 3, TEACHERS)
    found = np.array([car(r, nats, 0.0) for r, nats in zip(reward, loss, strict=True)])
    assert ranks(found).tolist() == ranks(reward).tolist()
    assert spearman(taught.outcomes, found).tolist() == spearman(taught.outcomes, reward).tolist()

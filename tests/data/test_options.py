"""Every ready teacher reads rows as its data set has them; the unknown is asked for."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from hydra import compose
from omegaconf import OmegaConf

from heed.core.command import own_hydra
from heed.core.component import build
from heed.core.compose import option_names
from heed.core.errors import ConfigError, DataError
from heed.core.identity import canonical
from heed.data.source import Hub
from heed.data.teacher import Responses

CONF = Path(__file__).resolve().parents[2] / "conf"
COMMIT = "a" * 40
TALK = [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello")]
MESSAGES = [{"role": role, "content": content} for role, content in TALK]
SHAREGPT = [
    {"from": "system", "value": "Be kind.", "weight": None},
    {"from": "human", "value": "Hi", "weight": 0.0},
    {"from": "gpt", "value": "Hello", "weight": 1.0},
]
ZOO = {
    "content": "Hello",
    "Skywork-Reward-Llama-3.1-8B": 2.5,
    "ArmoRM-Llama3-8B-v0.1": 0.1,
    "Skywork-Reward-Gemma-2-27B": -7.5,
}
HUB = {  # option -> a row with the columns that the data set has there
    "alpaca": {"instruction": "Hi", "input": "", "output": "Hello", "text": "Below is"},
    "magpie": {"uuid": "1", "instruction": "Hi", "response": "Hello", "instruct_reward": 2.5},
    "openorca": {"id": "t0.1", "system_prompt": "Be kind.", "question": "Hi", "response": "Hello"},
    "orca_dpo": {"chosen": MESSAGES, "rejected": MESSAGES[:2], "prompt": "Hi"},
    "slimorca": {"conversations": SHAREGPT},
    "tulu3": {"id": "1", "messages": MESSAGES, "source": "x"},
    "ultrachat": {"prompt": "Hi", "prompt_id": "1", "messages": MESSAGES},
}
ZOO_OPTIONS = [name for name in option_names(CONF, "teacher") if name.startswith("generator_zoo/")]
GENERATORS = [name for name in ZOO_OPTIONS if name != "generator_zoo/GPT-4"]  # of no column
SOME = [  # composed in full; the others differ in their name alone
    "generator_zoo/Meta-Llama-3.1-405B-Instruct",
    "generator_zoo/gemma-2-2b-it",
]
FILES = {  # option -> rows, and how many of them have an empty response
    "alpaca_52k": (52_002, 28),
    "alpaca_aligned/gpt-4": (3404, 951),
    "alpaca_aligned/llm-refined": (3404, 2404),
    "alpaca_aligned/text-davinci-003": (3404, 1),
    "alpaca_random_9k": (9229, 4),
    "alpagasus": (5305, 4),
    "alpaca_eval/gemma-2b-it": (805, 22),
    "alpaca_eval/phi-2": (803, 0),
    "dolly": (2996, 0),
    "dpo_demo": (300, 0),
    "evol_instruct": (1000, 0),
    "human_mix": (3000, 0),
    "lima": (1000, 0),
    "lima_first_paragraph": (1000, 0),
    "magpie_sample": (5, 0),
    "orca_dpo_sample": (284, 0),
}


def teacher(option: str, *overrides: str, data: Path = Path("/nowhere")) -> Any:
    """The teacher of `python train.py teacher=<option> ...`."""
    line = [f"teacher={option}", f"data_dir={data}", *overrides]
    with own_hydra(CONF):
        node = OmegaConf.to_container(compose("train", line), resolve=False)["teacher"]
        whole = OmegaConf.create({"teacher": node, "data_dir": str(data)})
        return build(OmegaConf.to_container(whole, resolve=True)["teacher"], "teacher")


def hub_row(option: str) -> dict[str, Any]:
    if option in HUB:
        return HUB[option]
    name = option.removeprefix("generator_zoo/")
    return {"uuid": "1", "instruction": "Hi", "somebody-else-1.5": ZOO | {"content": "?"}} | {
        name: ZOO
    }


@pytest.mark.parametrize("option", [*HUB, *SOME])
def test_a_data_set_of_the_hub_is_read_as_it_is_laid_out(monkeypatch, option: str):
    row = hub_row(option)
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list([row])
    )
    ids = ["teacher.source.id=Magpie-Align/x"] if option == "magpie" else []
    (found,) = teacher(option, f"teacher.source.revision={COMMIT}", *ids).rows()
    said = [(message.role, message.content) for message in found.messages]
    assert said == (TALK if "Be kind." in str(row) else TALK[1:])
    assert found.reward == (2.5 if option == "magpie" or option in GENERATORS else None)
    of_three = {"armorm": 0.1, "skywork_llama": 2.5, "skywork_gemma": -7.5}
    assert found.rewards == (of_three if option in GENERATORS else {})


@pytest.mark.parametrize("option", [*HUB, *SOME])
def test_a_revision_that_nobody_has_looked_at_is_asked_for(option: str):
    ids = ["teacher.source.id=Magpie-Align/x"] if option == "magpie" else []
    with pytest.raises(ConfigError) as caught:
        teacher(option, *ids)
    assert [mistake.where for mistake in caught.value.mistakes] == ["teacher.source.revision"]


def test_there_is_an_option_for_each_of_the_19_generators_and_they_differ_in_their_name_alone():
    texts = {
        (CONF / "teacher" / f"{option}.yaml")
        .read_text()
        .replace(option.split("/")[1], "<name>")
        .partition("\nfamily:")[0]
        for option in GENERATORS
    }
    assert len(GENERATORS) == 19
    assert len(texts) == 1


def test_every_teacher_of_responses_is_in_the_lists_above():
    known = {*HUB, *ZOO_OPTIONS, *FILES, "hub", "file"}
    for option in option_names(CONF, "teacher"):
        text = (CONF / "teacher" / f"{option}.yaml").read_text()
        if "heed.data.teacher.Responses" in text or "heed.data.mix.Mix" in text:
            assert option in known or option.startswith(("alpaca_eval/", "decoded/")), option


LAYOUTS = {  # what the command line names -> a row that it reads
    "instruction_output": {"instruction": "Hi", "output": "Hello"},
    "alpaca": {"instruction": "Hi", "input": "", "output": "Hello"},
    "prompt_completion": {"prompt": "Hi", "completion": "Hello"},
    "messages": {"messages": MESSAGES[1:]},
    "sharegpt": {"conversations": SHAREGPT[1:]},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_of_ones_own_needs_a_path_and_a_layout_and_no_yaml(tmp_path: Path, layout: str):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(LAYOUTS[layout]))
    line = [f"teacher.source.path={path}", f"layout@teacher.layout={layout}"]
    made = teacher("file", *line)
    assert isinstance(made, Responses)
    assert [(m.role, m.content) for row in made.rows() for m in row.messages] == TALK[1:]


def test_columns_of_ones_own_are_named_on_the_command_line(tmp_path: Path):
    path = tmp_path / "mine.csv"
    path.write_text("question,answer\nHi,Hello\n")
    more = ["teacher.layout.instruction=question", "teacher.layout.response=answer"]
    (found,) = teacher("file", f"teacher.source.path={path}", *more).rows()
    assert [message.content for message in found.messages] == ["Hi", "Hello"]


def test_any_dataset_of_the_hub_needs_an_id_and_a_commit():
    line = ["teacher.source.id=some/rows", f"teacher.source.revision={COMMIT}"]
    made = teacher("hub", *line, "layout@teacher.layout=messages")
    assert isinstance(made.source, Hub)
    assert made.name == "some/rows"


@pytest.mark.shared
@pytest.mark.parametrize("option", FILES)
def test_a_real_file_is_read_to_its_last_row(shared_data: Path, option: str):
    told: list[Exception] = []
    rows = list(teacher(option, data=shared_data).rows(told.append))
    empty = sum(not row.messages[-1].content.strip() for row in rows)
    assert (len(rows), empty, told) == (*FILES[option], [])
    assert all(row.messages[-1].role == "assistant" for row in rows)


@pytest.mark.shared
def test_what_a_list_leaves_out_and_what_is_cut_is_counted(shared_data: Path):
    counted = {o: teacher(o, data=shared_data).events() for o in ("alpagasus", "lima")}
    assert counted == {"alpagasus": {"not in alpagasus_claude_t45, left out": 46_697}, "lima": {}}
    assert teacher("lima_first_paragraph", data=shared_data).events() == {
        "response cut to its first paragraph": 693,
        "of these with the next, which its colon announces": 147,
    }


@pytest.mark.shared
def test_a_list_names_rows_of_the_table_that_it_was_made_for(shared_data: Path):
    """The longest 1,000 responses are long, and a random 9,229 are as long as all."""
    mean = {}
    for subset in ("longest_1k", "alpagasus_random_9k"):
        found = teacher("alpagasus", f"teacher.source.subset={subset}", data=shared_data)
        lengths = [len(row.messages[-1].content) for row in found.rows()]
        mean[subset] = sum(lengths) / len(lengths)
    assert mean["longest_1k"] > 1200
    assert 260 < mean["alpagasus_random_9k"] < 285  # of all 52,002: 270


@pytest.mark.shared
def test_system_turns_and_long_conversations_of_a_real_file_are_kept(shared_data: Path):
    rows = list(teacher("dpo_demo", data=shared_data).rows())
    assert Counter(len(row.messages) for row in rows)[3] == 80
    assert sum(row.messages[0].role == "system" for row in rows) == 80
    assert max(len(row.messages) for row in rows) == 14


@pytest.mark.shared
def test_a_mistyped_column_of_a_real_file_is_named_with_those_that_are_there(shared_data: Path):
    made = teacher("alpaca_aligned/gpt-4", "teacher.layout.sparse=false", data=shared_data)
    with pytest.raises(DataError, match=r"no column 'outputs\.gpt-4'.*outputs\.\(text-davinci-003"):
        list(made.rows())


@pytest.mark.shared
@pytest.mark.parametrize("option", ["dpo_demo", "human_mix", "lima"])
def test_no_local_set_names_a_weight_that_its_turns_lack(shared_data: Path, option: str):
    assert not [event for event in teacher(option, data=shared_data).events() if "weight" in event]


SIZES = {  # family -> sizes in billions, as table 1 of https://arxiv.org/abs/2411.07133 prints them
    "Qwen2": [1.5, 7, 72],
    "Qwen2.5": [3, 7, 14, 32, 72],
    "Llama 3": [8, 70],
    "Llama 3.1": [8, 70, 405],
    "Gemma 2": [2, 9, 27],
    "Phi-3": [3.8, 7, 14],
    "GPT-4": [None],
}


def test_the_20_teachers_of_the_paper_have_its_families_and_sizes():
    files = [CONF / "teacher" / f"{option}.yaml" for option in ZOO_OPTIONS]
    made = [yaml.safe_load(file.read_text()) for file in files]
    found = {family: [] for family in SIZES}
    for one in made:
        found[one["family"]].append(one["size_b"])
    assert {name: sorted(sizes, key=str) for name, sizes in found.items()} == {
        name: sorted(sizes, key=str) for name, sizes in SIZES.items()
    }


def test_the_paper_s_gpt_4_is_a_file_that_the_user_points_to(tmp_path: Path):
    with pytest.raises(ConfigError) as caught:
        teacher("generator_zoo/GPT-4")
    assert [mistake.where for mistake in caught.value.mistakes] == ["teacher.source.path"]
    path = tmp_path / "gpt4.jsonl"
    path.write_text(json.dumps({"prompt": "Hi", "completion": "Hello"}))
    made = teacher("generator_zoo/GPT-4", f"teacher.source.path={path}")
    assert (made.name, made.family, len(list(made.rows()))) == ("GPT-4", "GPT-4", 1)


@pytest.mark.parametrize("label", ["teacher.family=Other", "teacher.size_b=1.5"])
def test_family_and_size_leave_the_digest_and_the_id_as_they_are(label: str):
    """The digest is the one that the option had before it had a family."""
    option, commit = "generator_zoo/gemma-2-9b-it", f"teacher.source.revision={COMMIT}"
    one, other = teacher(option, commit), teacher(option, commit, label)
    assert one != other
    assert one.digest() == other.digest() == "e611c255e082"
    assert canonical(one) == canonical(other)


def test_further_scores_leave_the_digest_as_it_is_and_refuse_no_row():
    option, commit = "generator_zoo/gemma-2-9b-it", f"teacher.source.revision={COMMIT}"
    none = teacher(option, commit, "teacher.layout.rewards={}")
    assert none.digest() == teacher(option, commit).digest()
    row = {"instruction": "Hi", "gemma-2-9b-it": ZOO | {"ArmoRM-Llama3-8B-v0.1": "?"}}
    read = teacher(option, commit).layout.read(row)
    assert read.rewards == {"skywork_llama": 2.5, "skywork_gemma": -7.5}


def test_every_alpaca_eval_teacher_has_a_family_and_a_size_where_it_is_public():
    options = [o for o in option_names(CONF, "teacher") if o.startswith("alpaca_eval/")]
    made = {o: yaml.safe_load((CONF / "teacher" / f"{o}.yaml").read_text()) for o in options}
    assert len(made) == 24
    assert all(one["family"] for one in made.values())
    secret = {o for o, one in made.items() if one["size_b"] is None}
    assert {o.split("/")[1] for o in secret} == {
        "gpt-3.5-turbo-1106", "gpt4_0613", "gpt4_1106_preview", "text_davinci_003",
    }  # fmt: skip
    for option, one in made.items():  # a size that stands in the name is that size
        if named := re.search(r"-(\d+(?:\.\d+)?)[bB](?:-|$)", option):
            assert one["size_b"] == float(named[1])

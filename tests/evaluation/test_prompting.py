"""Properties of how an instruction is put to a student: word for word, and cut where it ends."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.errors import DataError
from heed.core.identity import canonical, short_hash
from heed.core.types import Answer
from heed.evaluation.prompting import UNFENCED, Declared, InContext, Plain, Prompting

EXAMPLES = "# Instruction\n\nBe kind.\n\n# Query:\n```\nHi\n```\n\n# Answer:\n```\nHello.\n```\n"
TEMPLATE = SimpleNamespace(begin="<s>", prompt=lambda text: f"<s>Q: {text}\nA: ")
SAID = st.text(alphabet="a`\n #", max_size=30)


@pytest.fixture
def shown(tmp_path: Path) -> InContext:
    """A prompting with one example."""
    (tmp_path / "examples.txt").write_text(EXAMPLES)
    return InContext(path=str(tmp_path / "examples.txt"))


def test_each_prompting_says_the_instruction_once_after_the_beginning(shown: InContext):
    for one in (Declared(), Plain(), shown):
        prompt = one.prompt(TEMPLATE, "Name {a} fish.")  # type: ignore[arg-type]
        assert prompt.startswith("<s>")
        assert prompt.count("<s>") == prompt.count("Name {a} fish.") == 1
    assert Plain().prompt(TEMPLATE, "Hi") == "<s>Hi"  # type: ignore[arg-type]
    assert Declared().prompt(TEMPLATE, "Hi") == "<s>Q: Hi\nA: "  # type: ignore[arg-type]


def test_in_context_the_answer_stands_open_in_the_form_of_the_examples(shown: InContext):
    prompt = shown.prompt(TEMPLATE, "Hi")  # type: ignore[arg-type]
    block = EXAMPLES[EXAMPLES.index("# Query") :].removesuffix("Hello.\n```\n")
    assert prompt == f"<s>{EXAMPLES}\n{block}"


@pytest.mark.shared
def test_the_real_file_is_such_a_prompt(shared_data: Path):
    path = shared_data / "urial" / "inst_1k_v4.txt"
    prompt = InContext(path=str(path)).prompt(TEMPLATE, "Why?")  # type: ignore[arg-type]
    assert prompt.removeprefix("<s>").startswith(path.read_text())
    assert prompt.count("# Query:\n```\n") == prompt.count("# Answer:\n```\n") == 4


@pytest.mark.parametrize("prompting", [Declared(), Plain()])
@given(said=SAID)
def test_no_other_prompting_touches_an_answer(prompting: Prompting, said: str):
    events: Counter[str] = Counter()
    answer = Answer(said, 3, "cap")
    assert prompting.response(answer, events) == answer
    assert not events


@given(said=SAID)
def test_an_answer_ends_before_the_first_line_that_begins_with_a_fence(said: str):
    events: Counter[str] = Counter()
    answer = Answer(said, 3, "cap")
    found = InContext(path="x").response(answer, events)
    before: list[str] = []
    for line in said.split("\n"):
        if line.startswith("```"):
            assert found == Answer("\n".join(before), 3, "stop")
            assert not events
            return
        before.append(line)
    assert found == answer
    assert events == {UNFENCED: 1}


def test_an_answer_without_text_is_passed_on_and_counted(shown: InContext):
    events: Counter[str] = Counter()
    assert shown.response(Answer(None, 0, None), events).text is None
    assert events == {UNFENCED: 1}


def test_the_content_of_the_file_is_the_identity_and_its_place_is_not(shown, tmp_path: Path):
    other = InContext(path=str(tmp_path / "moved.txt"))
    Path(other.path).write_text(EXAMPLES)
    assert short_hash(other) == short_hash(shown)
    assert other.settings() == shown.settings()
    Path(other.path).write_text(EXAMPLES.replace("kind", "curt"))
    assert short_hash(other) != short_hash(shown)
    assert other.settings() != shown.settings()
    assert "path" not in canonical(other)


def test_names_and_identities_of_promptings_differ(shown: InContext):
    three = (Declared(), Plain(), shown)
    assert [one.name for one in three] == ["template", "plain", "urial"]
    assert len({short_hash(one) for one in three}) == 3
    assert len({short_hash(one.settings()) for one in three}) == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "just text",
        EXAMPLES.removesuffix("```\n"),  # the last block is open
        EXAMPLES.replace("# Answer:\n", ""),
        EXAMPLES + "\n# Query:\n```\nWhy?\n```\n",  # one query more than answers
        EXAMPLES.replace("# Query:\n```", "# Query: Hi"),
    ],
)
def test_a_file_that_is_no_such_prompt_is_refused_by_name(text: str, shown: InContext):
    Path(shown.path).write_text(text)
    with pytest.raises(DataError, match=r"examples.txt has .*suite\.prompting.path=<file>"):
        shown.prompt(TEMPLATE, "Hi")  # type: ignore[arg-type]
    with pytest.raises(DataError):
        shown.digest()


def test_a_file_that_is_not_there_is_one_clear_error(shown: InContext):
    Path(shown.path).unlink()
    with pytest.raises(DataError, match=r"cannot be read.*suite\.prompting.path=<file>"):
        shown.settings()

"""Each way in which the hub gives nothing is one screen that says what to do, without a token."""

import httpx
import pytest
from huggingface_hub import errors

from heed.core.errors import RunError
from heed.models.hub import said_by_hub
from heed.models.speech import reading

COMMIT = 40 * "c"
TOKEN = "hf_" + 34 * "s"
PINNED = {"revision": COMMIT, "trust_remote_code": False}


def answered(kind: type[Exception], status: int) -> Exception:
    """An error as the hub's client raises it; the request held a token, and its text repeats it."""
    asked = httpx.Request("GET", "https://huggingface.co/o/m", headers={"authorization": TOKEN})
    response = httpx.Response(status, request=asked)
    return kind(f"{status} Client Error: {TOKEN}", response=response)


def screen(error: Exception, wrapped: bool = False) -> str:
    """What is said where a library fails so."""
    with pytest.raises(RunError) as caught:
        fails(error, wrapped)
    return str(caught.value)


def fails(error: Exception, wrapped: bool) -> None:
    with reading("o/m", "it", PINNED):
        if not wrapped:
            raise error
        try:
            raise error
        except type(error) as cause:
            raise OSError(f"You are trying to access a gated repo: {TOKEN}") from cause


CASES = {
    "gated": (
        answered(errors.GatedRepoError, 403),
        ("Ask on https://huggingface.co/o/m", "hf auth login", "HF_TOKEN"),
    ),
    "unknown": (
        answered(errors.RepositoryNotFoundError, 404),
        ("no such id, or it is private", "HF_TOKEN"),
    ),
    "revision": (
        answered(errors.RevisionNotFoundError, 404),
        (f"no commit {COMMIT}", "/commits/main", "model.revision="),
    ),
    "closed": (answered(errors.DisabledRepoError, 403), ("the hub has closed it",)),
    "token": (answered(errors.HfHubHTTPError, 401), ("refuses the token", "hf auth login")),
    "broken": (answered(errors.HfHubHTTPError, 503), ("answers with 503", "Try again later")),
    "file": (answered(errors.RemoteEntryNotFoundError, 404), ("lacks a file", f"/tree/{COMMIT}")),
    "offline": (
        errors.OfflineModeIsEnabled("offline"),
        ("HF_HUB_OFFLINE", f"hf download o/m --revision {COMMIT}"),
    ),
    "not kept": (errors.LocalEntryNotFoundError("not here"), ("cannot be reached", "model.path")),
}


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])
@pytest.mark.parametrize("case", CASES)
def test_each_is_one_screen_with_what_to_do_and_no_token(case: str, wrapped: bool):
    error, words = CASES[case]
    said = screen(error, wrapped)
    assert said.startswith(f"student 'it': 'o/m' (revision {COMMIT}) could not be loaded: ")
    for word in words:
        assert word in said, said
    assert TOKEN not in said
    assert len(said) < 600
    assert "\n" not in said


def test_no_two_of_them_are_told_alike():
    assert len({screen(error) for error, _ in CASES.values()}) == len(CASES) - 1  # both: offline


def test_what_the_hub_has_no_part_in_is_told_in_general_and_without_tokens():
    error = ValueError(f"config.json is odd: {TOKEN}")
    assert said_by_hub(error, "o/m", COMMIT) is None
    said = screen(error)
    assert "config.json is odd: ***" in said
    assert "model.path" in said


def test_errors_that_are_each_others_context_come_to_an_end():
    one, other = ValueError("one"), ValueError("other")
    one.__context__, other.__context__ = other, one
    assert said_by_hub(one, "o/m", COMMIT) is None


def test_a_published_student_says_so_wherever_it_is_read(monkeypatch, student):
    import transformers

    from heed.models.student import Published

    def gated(*_, **__):
        raise answered(errors.GatedRepoError, 403)

    for auto in ("AutoConfig", "AutoTokenizer", "AutoModelForCausalLM"):
        monkeypatch.setattr(getattr(transformers, auto), "from_pretrained", gated)
    it = Published(
        name="it", path="o/m", revision=COMMIT, dtype="float32", precision="bf16-mixed",
        trust_remote_code=False, template=student.template, new_tokens="refuse", pretraining=None,
    )  # fmt: skip
    for read in (it.fresh, it.skeleton, it.bare_tokenizer):
        with pytest.raises(RunError, match="Ask on"):
            read()

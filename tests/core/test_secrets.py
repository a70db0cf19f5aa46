"""No key that a process holds is shown."""

import pytest

from heed.core.secrets import without_secrets


@pytest.mark.parametrize(
    "name",
    [
        "WANDB_API_KEY",
        "HF_TOKEN",
        "my_password",
        "X_APIKEY",
        "MISTRAL_KEY",
        "AWS_SECRET_ACCESS_KEY",
    ],
)
def test_a_key_of_the_environment_is_blotted_out_wherever_it_stands(name, monkeypatch):
    monkeypatch.setenv(name, "quite-a-secret")
    said = "GET https://quite-a-secret@host: quite-a-secret is wrong"
    assert without_secrets(said) == "GET https://***@host: *** is wrong"


def test_a_key_that_holds_another_is_blotted_out_whole(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "quite-a-secret")
    monkeypatch.setenv("B_TOKEN", "quite-a-secret-more")
    assert without_secrets("quite-a-secret-more") == "***"


@pytest.mark.parametrize("key", ["hf_" + 20 * "a", "sk-" + 20 * "b", "wandb_v1_" + 20 * "c"])
def test_a_key_that_is_kept_elsewhere_is_known_by_its_beginning(key: str):
    assert without_secrets(f"bad token {key}.") == "bad token ***."


def test_other_words_stay(monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "a common word")
    monkeypatch.setenv("USE_TOKEN", "true")
    said = "it is true that a common word such as hf_home or sk-learn stays"
    assert without_secrets(said) == said

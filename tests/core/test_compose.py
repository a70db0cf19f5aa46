"""What an option of the config tree says by itself."""

from pathlib import Path

from heed.core.compose import option_settings


def test_an_option_s_own_settings_are_told_without_its_defaults(tmp_path: Path):
    (tmp_path / "debug").mkdir()
    text = "defaults: [other]\na: {b: {c: 1, d: null}, e: [1, 2]}\nf: x\n"
    (tmp_path / "debug" / "some.yaml").write_text(text)
    found = {"a": {"b": {"c": 1, "d": None}, "e": [1, 2]}, "f": "x"}
    assert option_settings(tmp_path, "debug", "some") == found

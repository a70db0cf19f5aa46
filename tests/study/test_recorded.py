"""What a finished piece of work said is read back, or its record is said to be damaged."""

import json
from typing import Any

import pytest

from heed.core.errors import RunError
from heed.core.manifest import manifest
from heed.study.recorded import recorded_lines


def test_the_lines_of_before_are_told_as_such(tmp_path, capsys):
    (tmp_path / "manifest.json").write_text(json.dumps(manifest() | {"said": ["one", "two"]}))
    assert recorded_lines(tmp_path, "ranking") == ["one", "two"]
    assert "this is the recorded ranking" in capsys.readouterr().err


def test_lines_of_other_code_are_told_as_such(tmp_path, capsys):
    found = manifest() | {"said": ["one"], "code": "0123456789ab"}
    (tmp_path / "manifest.json").write_text(json.dumps(found))
    assert recorded_lines(tmp_path, "analysis") == ["one"]
    assert "0123456789ab" in capsys.readouterr().err


@pytest.mark.parametrize("found", ["{}", '{"said": 3, "code": "x"}', "[]", "{", '{"said": ["x"]}'])
def test_a_damaged_record_is_named_with_the_way_out(tmp_path, found: Any):
    (tmp_path / "manifest.json").write_text(found)
    with pytest.raises(RunError, match=r"does not hold a whole ranking.*Remove the directory"):
        recorded_lines(tmp_path, "ranking")

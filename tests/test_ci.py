"""What `.ci/run` says where something fails."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("slurmctld", "slurmd", "munged", "chromium", "chromedriver")
WRONG = "src/heed/x.py:1: error: made up"


def ci(folder: Path, **made: str) -> subprocess.CompletedProcess[str]:
    """Run `.ci/run` where nothing has to be installed, with some code for targets of make."""
    (folder / ".ci").mkdir()
    (folder / "bin").mkdir()
    shutil.copy(ROOT / ".ci" / "run", folder / ".ci" / "run")
    cases = "".join(f"{target}) {code};;\n" for target, code in made.items())
    scripts = {name: "exit 9" for name in (*TOOLS, "apt-get")}
    scripts["make"] = f'echo "$1" >>asked\ncase $1 in\n{cases}esac'
    for name, code in scripts.items():
        (folder / "bin" / name).write_text(f"#!/usr/bin/env bash\n{code}\n")
        (folder / "bin" / name).chmod(0o755)
    env = os.environ | {"PATH": f"{folder / 'bin'}:/usr/bin:/bin"}
    command = ["bash", str(folder / ".ci" / "run")]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30)


def asked(folder: Path) -> list[str]:
    return sorted((folder / "asked").read_text().split())


def test_what_passes_is_run_once_and_the_types_are_told_once(tmp_path: Path):
    ran = ci(tmp_path, types="echo no issues", test="echo 3 passed")
    assert (ran.returncode, ran.stdout.count("no issues")) == (0, 1)
    assert asked(tmp_path) == ["demo", "demo", "lint", "setup", "test", "types"]


def test_wrong_types_are_told_and_end_it_before_the_tests(tmp_path: Path):
    ran = ci(tmp_path, types=f"echo '{WRONG}'; exit 2")
    assert (ran.returncode != 0, ran.stdout.count(WRONG)) == (True, 1)
    assert "test" not in asked(tmp_path)


@pytest.mark.parametrize("fine", [True, False])
def test_what_the_types_have_said_is_told_also_if_the_demo_fails_first(tmp_path: Path, fine: bool):
    types = f"echo '{WRONG}'; touch said; " + ("exit 2" if fine else "exec sleep 90")
    demo = "until [ -e said ]; do sleep 0.01; done; exit 3"
    ran = ci(tmp_path, types=types, demo=demo)
    assert (ran.returncode, ran.stdout.count(WRONG)) == (3, 1)
    assert asked(tmp_path) == ["demo", "lint", "setup", "types"]


def test_a_failure_before_the_types_are_checked_tells_nothing_of_them(tmp_path: Path):
    ran = ci(tmp_path, lint="exit 4", types=f"echo '{WRONG}'")
    assert (ran.returncode, WRONG in ran.stdout) == (4, False)


def test_a_test_that_was_skipped_for_want_of_a_tool_fails_it(tmp_path: Path):
    skipped = "echo 'SKIPPED [1] tests/slurm: needs SLURM'"
    assert ci(tmp_path, test=skipped).returncode == 1

"""The process of a cell does what its file says, or refuses, and ends with its supervisor."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from stubs import a_cell

from heed.core import ranks
from heed.core.component import plain
from heed.core.errors import StoppedError
from heed.study import crew, group, run_cell
from heed.study.child import child
from heed.study.wanted import key_of


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Run a file in this process, with what it would do replaced; exit code and what was done."""
    monkeypatch.setattr("sys.argv", ["pytest"])
    done = []

    def run(part: str = "cell", change=lambda asked: None, raises=None) -> tuple[int, list]:
        def do(cell):
            done.append((part, cell, list(sys.argv)))
            if raises:
                raise raises

        monkeypatch.setattr(run_cell, {"before": "score_before", "cell": "run_cell"}[part], do)
        cell = a_cell(tmp_path)
        asked = {
            "command": ["train.py", "seed=1"],
            "part": part,
            "key": list(key_of(cell)),
            "cell": plain(cell),
        }
        change(asked)
        (tmp_path / "cell.yaml").write_text(yaml.safe_dump(asked))
        return child(tmp_path / "cell.yaml"), done

    return run


@pytest.mark.parametrize("part", ["before", "cell"])
def test_it_does_the_part_of_the_cell_that_is_asked_for(ask, tmp_path, part):
    assert ask(part) == (0, [(part, a_cell(tmp_path), ["train.py", "seed=1"])])


@pytest.mark.parametrize(
    "change",
    [
        lambda asked: asked["key"].__setitem__(0, "0" * 12),
        lambda asked: asked["key"].__setitem__(1, "0" * 12),
        lambda asked: asked["cell"]["lr"].__setitem__("peak", 0.5),
        lambda asked: asked["cell"]["suite"].__setitem__("max_new_tokens", 5),
    ],
)
def test_what_is_not_the_run_that_was_planned_is_not_done(ask, capsys, change):
    """Code, libraries or data have changed since, or differ on this machine."""
    assert ask(change=change) == (2, [])
    assert "its settings make run" in capsys.readouterr().err


def test_settings_of_another_heed_are_one_screen(ask, capsys):
    assert ask(change=lambda asked: asked["cell"].pop("lr")) == (2, [])
    assert "lr" in capsys.readouterr().err


def test_who_was_stopped_ends_with_the_exit_code_of_the_signal(ask):
    assert ask(raises=StoppedError("SIGTERM", signal.SIGTERM))[0] == 143


@pytest.mark.parametrize(
    ("devices", "part", "size"),
    [(2, "cell", 2), (2, "before", 2), (1, "cell", None), ("all", "cell", None)],
)
def test_a_cell_of_several_devices_is_run_by_a_group(
    ask, tmp_path, monkeypatch, devices, part, size
):
    """`all` is one where torch sees one."""
    begun = []
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr(group, "run_group", lambda file, size: begun.append((file, size)) or 137)

    def change(asked) -> None:
        asked["cell"]["trainer"]["devices"] = devices
        asked["cell"]["trainer"]["accelerator"] = "gpu" if devices == "all" else "cpu"

    code, done = ask(part, change)
    if size is None:
        assert (code, len(done), begun) == (0, 1, [])
    else:
        assert (code, done, begun) == (137, [], [(tmp_path / "cell.yaml", group.Size(size, 1))])


def test_a_rank_joins_and_leads_or_follows(ask, monkeypatch):
    """The first does what is asked for and lets the others go."""
    for name in ("RANK", "LOCAL_RANK", "GROUP_RANK"):
        monkeypatch.setenv(name, "0")
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "1")
    said = []
    monkeypatch.setattr(ranks, "join", lambda device: said.append(f"join {device}"))
    monkeypatch.setattr(ranks, "leave", lambda: said.append("leave"))
    monkeypatch.setattr(crew, "follow", lambda: said.append("follow"))
    monkeypatch.setattr(crew, "dismiss", lambda: said.append("dismiss"))
    code, done = ask()
    assert (code, len(done)) == (0, 1)
    monkeypatch.setattr(ranks, "leads", lambda: False)
    code, done = ask()
    assert (code, len(done)) == (0, 1), "it did nothing of its own"
    assert said == ["join cpu", "dismiss", "leave", "join cpu", "follow", "leave"]


WAITS = """
import subprocess, sys, time
from heed.study.child import end_with_supervisor
end_with_supervisor()
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(other.pid, flush=True)
time.sleep(60)
"""


def test_it_ends_with_its_supervisor_and_so_does_what_it_began():
    own = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
    with subprocess.Popen([sys.executable, "-c", WAITS], text=True, **own) as process:
        other = int(process.stdout.readline())
        process.stdin.close()
        assert process.wait(10) == -signal.SIGTERM
    waited = time.monotonic() + 10
    while Path(f"/proc/{other}/cmdline").exists() and time.monotonic() < waited:
        if not Path(f"/proc/{other}/cmdline").read_bytes():
            break  # dead, and not yet buried
        time.sleep(0.01)
    else:
        assert not os.path.exists(f"/proc/{other}/cmdline")

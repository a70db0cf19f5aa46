"""The mirror never stops a run, keeps to the run's directory, and holds no key."""

from pathlib import Path
from typing import ClassVar

import pytest
import wandb

from heed.tracking.tracker import LocalOnly
from heed.tracking.wandb import Wandb

SECRET = "0123456789abcdef" * 2 + "01234567"


def mirror(mode: str = "offline") -> Wandb:
    return Wandb(project="heed", entity=None, group=None, mode=mode)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr(wandb, "login", lambda *, prompt: True)  # would ask the server
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home" / name))


def use(tracker: Wandb | LocalOnly, directory: Path) -> None:
    tracker.start("a run", "0123456789ab", {"lr": {"peak": 1.0}}, directory)
    tracker.log({"step": 1, "loss": 2.5})
    tracker.finish({"play/acc": {"delta": 0.1}}, failed=False)


@pytest.mark.parametrize("error", [ConnectionError("no route"), wandb.errors.CommError("down")])
def test_an_outage_is_said_and_stops_nothing(error: Exception, monkeypatch, capsys, tmp_path: Path):
    def broken(**_: object) -> None:
        raise error

    monkeypatch.setattr(wandb, "init", broken)
    use(mirror("online"), tmp_path)
    said = " ".join(capsys.readouterr().err.split())
    assert type(error).__name__ in said
    assert "The run goes on; its files are whole." in said


def test_an_outage_in_the_middle_of_a_run_stops_nothing(monkeypatch, capsys, tmp_path: Path):
    class Gone:
        step = 0
        summary: ClassVar[dict[str, object]] = {}

        def log(self, *_: object, **__: object) -> None:
            raise BrokenPipeError("gone")

        def finish(self, **_: object) -> None:
            raise BrokenPipeError("gone")

    def begin(**_: object) -> None:
        monkeypatch.setattr(wandb, "run", Gone())

    monkeypatch.setattr(wandb, "init", begin)
    use(mirror("online"), tmp_path)
    said = capsys.readouterr().err
    assert said.count("BrokenPipeError") == 2, "the first row, and the end"
    assert "Wandb mirror: 1 rows of metrics are not in it" in said


@pytest.mark.parametrize("failed", [True, False])
def test_a_run_goes_on_under_its_id_and_rows_that_are_there_are_not_sent(
    failed, monkeypatch, tmp_path: Path
):
    begun, sent, ended = [], [], []

    class There:
        step = 7
        summary: ClassVar[dict[str, object]] = {}

        def log(self, numbers: object, step: int) -> None:
            sent.append((step, numbers))

        def finish(self, exit_code: int) -> None:
            ended.append(exit_code)

    def begin(**settings: object) -> None:
        begun.append(settings)
        monkeypatch.setattr(wandb, "run", There())

    monkeypatch.setattr(wandb, "init", begin)
    tracker = mirror()
    tracker.start("a run", "0123456789ab", {}, tmp_path)
    for step in (5, 6, 7, 8):
        tracker.log({"step": step, "loss": 1, "text": "none", "validation_loss": 2.5})
    tracker.finish({"play/acc": {"delta": 0.1}}, failed=failed)
    assert [(b["id"], b["resume"]) for b in begun] == [("0123456789ab", "allow")]
    assert sent == [(s, {"train/loss": 1.0, "validation/loss": 2.5}) for s in (7, 8)]
    assert ended == [int(failed)]
    assert There.summary == {"play/acc": {"delta": 0.1}}


def test_a_missing_key_is_told_and_nobody_is_asked(monkeypatch, capsys, tmp_path: Path):
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setattr(wandb, "login", lambda *, prompt: prompt)
    monkeypatch.setattr(wandb, "init", lambda **_: pytest.fail("it went on"))
    use(mirror("online"), tmp_path)
    said = " ".join(capsys.readouterr().err.split())
    assert "no key of W&B is known here" in said
    assert "1 rows of metrics" in said


def test_a_key_in_what_the_server_says_is_not_shown(monkeypatch, capsys, tmp_path: Path):
    def refused(**_: object) -> None:
        raise wandb.errors.CommError(f"401 Unauthorized: {SECRET}")

    monkeypatch.setattr(wandb, "init", refused)
    use(mirror(), tmp_path)
    said = capsys.readouterr().err
    assert "401 Unauthorized: ***" in said
    assert SECRET not in said


def test_stopping_a_run_by_hand_is_no_outage(monkeypatch, tmp_path: Path):
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(wandb, "init", interrupted)
    with pytest.raises(KeyboardInterrupt):
        use(mirror(), tmp_path)


def test_no_mirror_writes_nothing(tmp_path: Path):
    use(LocalOnly(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_offline_files_lie_in_the_run_directory_and_hold_no_key(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "not yet there"
    use(mirror(), run)
    kept = [path for path in run.rglob("*") if path.is_file()]
    assert [path for path in kept if path.suffix == ".wandb"]
    assert {path.name for path in tmp_path.iterdir()} <= {"runs", "home"}
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path

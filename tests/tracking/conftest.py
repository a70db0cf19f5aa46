"""W&B as on a machine where nobody has ever used it, and a server of its own."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import wandb
from fake_wandb import FakeWandb, fake_wandb
from mirrors import SECRET

from heed.tracking import server


@pytest.fixture(autouse=True)
def fresh_wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_MODE", "WANDB_DATA_DIR", "WANDB_API_KEY", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home" / name))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nothing leaves this machine
    monkeypatch.setattr(server, "_SILENT", {})


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWandb]:
    """A server that answers, and a key."""
    forget()
    with fake_wandb() as fake:
        monkeypatch.setenv("WANDB_BASE_URL", fake.url)
        monkeypatch.setenv("WANDB_API_KEY", SECRET)
        yield fake
        forget()
    monkeypatch.undo()


def forget() -> None:
    """What the library has read of the environment."""
    with suppress(SystemExit):
        wandb.teardown()

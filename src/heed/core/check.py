"""How every command starts: all its mistakes at once, before anything heavy is imported."""

from __future__ import annotations

import argparse
import functools
import inspect
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from heed.core.command import Command, mistakes_of
from heed.core.config import LIBRARY_ERRORS, build_config
from heed.core.errors import EXIT_CODE, ConfigError, HeedError, Mistake, StoppedError
from heed.core.screen import show


def main(
    config_name: str, conf: Path | None = None
) -> Callable[[Callable[[Any], Any]], Callable[[], None]]:
    """Make a command of a function: compose, check, build, call.

    The function receives the root component that the config builds. A command with mistakes prints
    all of them and exits with code 2; so does a `HeedError` raised by the function (`StoppedError`:
    with a code of its own, as Ctrl-C). Any other exception keeps its traceback. What the function
    returns is what Hydra's sweepers get of a run.

    Args:
        config_name: The primary config without `.yaml`.
        conf: The config tree; by default the folder `conf` beside the function's file.
    """

    def decorate(function: Callable[[Any], Any]) -> Callable[[], None]:
        script = Path(inspect.getfile(function)).resolve()

        @functools.wraps(function)
        def command() -> None:
            try:
                failures = _run(function, script.stem, conf or script.parent / "conf", config_name)
            except StoppedError as error:
                show(error)
                sys.exit(error.exit_code)
            except (HeedError, *LIBRARY_ERRORS) as error:
                show(error)
                failures = 1
            except KeyboardInterrupt:
                show(StoppedError("Ctrl-C; the same command goes on.", signal.SIGINT))
                sys.exit(128 + signal.SIGINT)
            if failures:
                sys.exit(EXIT_CODE)

        return command

    return decorate


def _run(function: Callable[[Any], Any], name: str, conf: Path, config_name: str) -> int:
    """Check and run one command; the number of its runs that ended in a user's error."""
    asked, unread = get_args_parser().parse_known_args()
    if unread:
        raise ConfigError([_unread(text) for text in unread])
    if _checkable(asked):
        mistakes = mistakes_of(
            Command(
                conf=conf,
                config_name=asked.config_name or config_name,
                overrides=tuple(asked.overrides),
                multirun=asked.multirun,
                building=asked.cfg is None,
            )
        )
        if mistakes:
            raise ConfigError(mistakes)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # a real crash shows where it happened
    failures: list[HeedError] = []

    def task(config: DictConfig) -> Any:
        try:
            return function(build_config(config))
        except StoppedError as error:  # the other runs of a sweep do not begin
            show(error)
            sys.exit(error.exit_code)
        except HeedError as error:  # the other runs of a sweep go on
            show(error)
            failures.append(error)
            return None

    task.__module__ = name  # Hydra names the command after it
    hydra.main(version_base="1.3", config_path=str(conf), config_name=config_name)(task)()
    return len(failures)


def _unread(text: str) -> Mistake:
    """What is wrong with a word that is neither an option of Hydra nor stands where settings do."""
    if not text.startswith("-"):
        why = "settings stand before all options that begin with dashes."
        return Mistake(text, text, why, "Move it to the front.")
    key, equals, value = text.lstrip("-").partition("=")
    why = "no option is called so; settings have no dashes."
    return Mistake(text, text, why, f"Write {key}={value if equals else '<value>'}.")


def _checkable(asked: argparse.Namespace) -> bool:
    """Whether a command runs or prints a config of our own tree; the rest is Hydra's."""
    return not (
        asked.help
        or asked.hydra_help
        or asked.info
        or asked.shell_completion
        or asked.config_dir
        or asked.config_path
        or asked.experimental_rerun
    )

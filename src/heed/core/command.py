"""What is wrong with a command line: every override is held against `conf/` before anything runs.

Hydra stops at the first mistake. Here each override is tried, the good ones are composed and built,
and all findings come back together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from heed.core.component import nearest
from heed.core.config import LIBRARY_ERRORS, build_config, first_line
from heed.core.errors import ConfigError, Mistake
from heed.core.launchers import launcher_mistakes
from heed.core.overrides import (
    choices,
    firsts,
    number_hint,
    options_hint,
    places_of,
    unknown_key,
    value_text,
    variants,
)

REFUSALS = (*LIBRARY_ERRORS, ValueError)
"""What composing raises for a config that does not fit together."""


@dataclass(frozen=True)
class Command:
    """One command line and the config tree it speaks about.

    Attributes:
        conf: Absolute path of the config tree.
        config_name: The primary config, `train`.
        overrides: As typed, `lr=gentle`.
        multirun: Whether `-m` was given.
        building: Whether the composed config is built too; where it is only to be printed, a
            value of the wrong type is no hindrance.
    """

    conf: Path
    config_name: str
    overrides: tuple[str, ...] = ()
    multirun: bool = False
    building: bool = True


def mistakes_of(command: Command) -> list[Mistake]:
    """Every mistake of a command, in the order: overrides as typed, then the composed config.

    Overrides of Hydra's own settings (`hydra.x=`, `hydra/x=`) are left to Hydra, but for the choice
    of a launcher.
    """
    with own_hydra(command.conf):
        return _Check(command, _options()).run()


@contextmanager
def own_hydra(conf: Path) -> Iterator[None]:
    """A Hydra of our own over a config tree, also inside a command that Hydra itself started."""
    config, outer = HydraConfig.instance().cfg, GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf), version_base="1.3"):
            yield
    finally:
        HydraConfig.instance().cfg = config
        GlobalHydra.instance().hydra = outer


def _options() -> dict[str, tuple[str, ...]]:
    """Group -> options, those in folders below it included as `folder/option`."""
    loader = GlobalHydra.instance().config_loader()
    groups: dict[str, tuple[str, ...]] = {}

    def below(group: str) -> list[str]:
        names = list(loader.get_group_options(group, ObjectType.CONFIG))
        for folder in loader.list_groups(group):
            names += [f"{folder}/{name}" for name in below(f"{group}/{folder}")]
        groups[group] = tuple(sorted(names))
        return names

    for group in loader.list_groups(""):
        if group != "hydra":
            below(group)
    return groups


@contextmanager
def _refusals(found: list[Mistake], where: str, given: str, action: str) -> Iterator[None]:
    """Turn what composing raises into a mistake."""
    try:
        yield
    except REFUSALS as error:
        found.append(Mistake(where, given, first_line(error), action))


@dataclass
class _Check:
    """The state of one check: what is known to be good so far, and what was found."""

    command: Command
    options: Mapping[str, tuple[str, ...]]
    found: list[Mistake] = field(default_factory=list)
    filled: list[str] = field(default_factory=list)

    def run(self) -> list[Mistake]:
        parsed = self._parsed()
        self.found += launcher_mistakes(parsed, self.command.config_name)
        typed = [o for o in parsed if not o.is_hydra_override()]
        groups = [o for o in typed if self._is_group(o) and not self._wrong_option(o)]
        groups = self._composable(groups, [])
        base = self._compose(firsts(groups))
        if base is None:
            return self._distinct()
        self._sweeps_need_multirun(typed, base)
        plain = OmegaConf.to_container(_without_hydra(base), resolve=False)
        keys = [o for o in typed if not self._is_group(o) and not self._unknown_key(o, plain)]
        good = groups + self._composable(keys, groups)
        if self.command.building:
            for overrides in variants(good):
                self._built(overrides)
        self._place_added(groups)
        return self._distinct()

    def _distinct(self) -> list[Mistake]:
        return list(dict.fromkeys(self.found))

    def _parsed(self) -> list[Override]:
        """The overrides that can be read at all."""
        loader = GlobalHydra.instance().config_loader()
        parser, parsed = OverridesParser.create(config_loader=loader), []
        for text in self.command.overrides:
            try:
                parsed += parser.parse_overrides([text])
            except HydraException:
                why = "this is not of the form key=value (or the value needs quotes)."
                key = text.partition("=")[0]
                hint = nearest(key, list(self.options)) if "=" not in text else ""
                action = f"{hint} Write '{key}=<value>'; quote special characters: \"{key}='a b'\"."
                self.found.append(Mistake(text, text, why, action.strip()))
        return parsed

    def _is_group(self, override: Override) -> bool:
        return override.key_or_group in self.options and not isinstance(override.value(), dict)

    def _place_added(self, chosen: list[Override]) -> None:
        """Of a choice added at the top that does not fit there, say only where it belongs."""
        for override in (o for o in chosen if o.is_add() and not o.package):
            others = firsts(o for o in chosen if o is not override)
            group = override.key_or_group
            wrong = [m for m in self.found if m.where.partition(".")[0] == group]
            advice = self._elsewhere(group, value_text(override), others) if wrong else ""
            if advice:
                why = "this command has no such choice at its top."
                self.found = [m for m in self.found if m not in wrong]
                self.found.append(Mistake(f"+{group}", value_text(override), why, advice))

    def _wrong_option(self, override: Override) -> bool:
        """Note each choice that its group does not have."""
        if override.is_delete():
            return False
        group = override.key_or_group
        named = [n for c in choices(override) for n in (c if isinstance(c, list) else [c])]
        wrong = ["null" if n is None else str(n) for n in named if n not in self.options[group]]
        if not named:  # a glob that matches nothing, or an interval of names
            wrong = [value_text(override)]
        for name in wrong:
            why = f"the group '{group}' has no such option."
            hint = options_hint(name, self.options[group])
            number = number_hint(value_text(override), group, self._plain([]))
            self.found.append(Mistake(group, name, why, f"{number} {hint}".strip()))
        return bool(wrong)

    def _unknown_key(self, override: Override, config: Any) -> bool:
        """Note a key to be changed that the config does not have (`+`, `++`, `~` may differ)."""
        if override.type != OverrideType.CHANGE:
            return False
        mistake = unknown_key(override.key_or_group, value_text(override), config, self.options)
        self.found += [mistake] if mistake else []
        return mistake is not None

    def _sweeps_need_multirun(self, typed: list[Override], base: DictConfig) -> None:
        multirun = self.command.multirun or base.hydra.mode == RunMode.MULTIRUN
        if multirun or any("hydra.mode=MULTIRUN" in text for text in self.command.overrides):
            return
        for override in (o for o in typed if o.is_sweep_override()):
            key, value = override.get_key_element(), value_text(override)
            action = f"Add -m; for one list write {key}=[...]; for one text quote it."
            self.found.append(Mistake(key, value, "several values make several runs.", action))

    def _composable(self, overrides: list[Override], given: list[Override]) -> list[Override]:
        """Those of the overrides that Hydra can apply on top of the given ones."""
        kept: list[Override] = []
        if not overrides or self._tries([*given, *overrides]):
            return overrides
        for override in overrides:
            key = override.get_key_element()
            before = len(self.found)
            before_it = firsts([*given, *kept])
            with _refusals(self.found, key, value_text(override), ""):
                self._raw([*before_it, *firsts([override])])
            self.found[before:] = [
                replace(mistake, action=mistake.action or self._remedy(override, before_it))
                for mistake in self.found[before:]
            ]
            if len(self.found) == before:
                kept.append(override)
        return kept

    def _tries(self, overrides: list[Override]) -> bool:
        return self._composes(firsts(overrides))

    def _composes(self, overrides: list[str]) -> bool:
        probe: list[Mistake] = []
        with _refusals(probe, "", "", ""):
            self._raw(overrides)
        return not probe

    def _plain(self, overrides: list[str]) -> Any:
        """The composed config as plain data, only to look at: nothing is noted."""
        found, filled = list(self.found), list(self.filled)
        try:
            return OmegaConf.to_container(_without_hydra(self._raw(overrides)), resolve=False)
        except REFUSALS:
            return {}
        finally:
            self.found[:], self.filled[:] = found, filled

    def _remedy(self, override: Override, given: list[str]) -> str:
        """What to write instead of an override that does not compose with those before it."""
        key, value = override.key_or_group, value_text(override)
        parent, _, folder = key.rpartition("/")
        at = f"@{override.package}" if override.package else ""
        if key in self.options and parent in self.options:
            return f"Write {parent}{at}={folder}/{value}."
        if key in self.options and override.is_add():
            return f"Write {key}{at}={value}, if this command has that choice already."
        if key in self.options and override.type == OverrideType.CHANGE:
            plus = f"This command has no such choice by default: write +{key}{at}={value}."
            return (not at and self._elsewhere(key, value, given)) or plus
        return f"Compare with `--cfg job`, and give {key} a value that fits there."

    def _elsewhere(self, group: str, value: str, given: list[str]) -> str:
        """Where a choice belongs that this command does not have at its top; may be empty."""
        for place in places_of(group, self._plain(given)):
            for text in (f"{group}@{place}={value}", f"+{group}@{place}={value}"):
                if self._composes([*given, text]):
                    return f"Write {text}."
        for other in sorted(self.command.conf.glob("*.yaml")):
            script = f"{other.stem}.py"
            chosen = re.search(rf"^\s*- {re.escape(group)}: ", other.read_text("utf-8"), re.M)
            if chosen and (self.command.conf.parent / script).is_file():
                return f"That is a choice of another command: python {script} {group}={value}."
        return ""

    def _compose(self, overrides: list[str]) -> DictConfig | None:
        """The composed config; where it cannot be composed the reason is noted."""
        where = f"{self.command.config_name}.yaml"
        action = f"Put {self.command.conf / where} right."
        with _refusals(self.found, where, "the config itself", action):
            return self._raw(overrides)
        return None

    def _raw(self, overrides: list[str]) -> DictConfig:
        """Compose; a required choice that is missing is noted once and filled meanwhile."""
        while True:
            try:
                config = compose(
                    self.command.config_name, [*self.filled, *overrides], return_hydra_config=True
                )
            except HydraException as error:
                missing = re.search(r"You must specify '([^']+)'", str(error))
                group = missing.group(1) if missing else ""
                if not self.options.get(group):
                    raise
                self.filled.append(f"{group}={self.options[group][0]}")
                if not any(mistake.where == group for mistake in self.found):
                    action = f"Add {group}=<option>. {options_hint('', self.options[group])}"
                    self.found.append(Mistake(group, "nothing", "a choice is required.", action))
                continue
            HydraConfig.instance().set_config(config)
            return config

    def _built(self, overrides: list[str]) -> None:
        config = self._compose(overrides)
        if config is None:
            return
        try:
            build_config(config)
        except ConfigError as error:
            self.found += [m for m in error.mistakes if not self._is_filled(m.where)]

    def _is_filled(self, where: str) -> bool:
        """Whether a key lies in a group that was filled only to go on checking."""
        return any(where.startswith(text.partition("=")[0] + ".") for text in self.filled)


def _without_hydra(config: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])

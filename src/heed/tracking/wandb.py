"""The W&B mirror; the only home of wandb."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveFloat, PositiveInt

from heed.core.component import component
from heed.core.console import progress_console
from heed.core.errors import RunError
from heed.core.identity import short_hash
from heed.tracking.finish import GONE, abandon, finish_online
from heed.tracking.folders import FOLDER, all_tags, forget, stay_below, sync_line
from heed.tracking.server import has_key, why_silent
from heed.tracking.tracker import OWN, Ending, Mirror, Mirrored, Rows, numbers, whole_rows

TAG = 64
"""Characters that W&B allows a tag."""

INIT_SECONDS = 15.0
"""Longest wait for a server that answers to begin a run."""

STEPPED = ("train/*", "validation/*", "look/*", "samples/*")
"""What is shown against the optimiser step."""

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
"""The library would tell its makers of its own course, and wait for a server that is away."""

SAY = progress_console()


@component
class Wandb(Mirror):
    """Mirror runs to Weights & Biases under ids of their own, always the same for the same run.

    A training that goes on after an interruption goes on with the same W&B run. Rows of steps that
    it does again are equal to those that are there, and are not sent. Rows that an outage has kept
    from W&B are sent when a run is begun again, from `metrics.jsonl`.
    """

    project: str
    """Project name."""

    entity: str | None
    """Team or user; null for the account's own."""

    group: str | None
    """Runs of one group stand together; null: the study's name."""

    mode: Literal["online", "offline"] | None
    """Offline writes folders below `outputs/wandb`, for `wandb sync`; null: where no key is known.
    """

    artifact: bool
    """Whether the tuned student is sent too: an adapter, or all of its weights."""

    table_rows: PositiveInt
    """Most rows of a table; how many more there are is told."""

    upload_timeout: PositiveFloat
    """Seconds that the end of a run waits for its upload, while the server answers."""

    study: str | None = None
    """The study under way; a sweep says so to its cells."""

    tags: tuple[str, ...] = ()
    """Further words that runs are found by."""

    afar = True

    @cached_property
    def _open(self) -> dict[str, Any]:
        """The W&B run that is followed; empty between runs."""
        return {}

    @property
    def alone(self) -> bool:
        """Whether no sweep is under way."""
        return self.study is None

    def within(self, study: str, tags: tuple[str, ...] = (), *, offline: bool = False) -> Wandb:
        """This mirror for the runs of a study."""
        mode = "offline" if offline else self.mode
        return replace(self, study=study, tags=(*self.tags, *tags), mode=mode)

    def why_not(self) -> str | None:
        """What is wrong with the settings, of the environment too; None: something can be sent."""
        try:
            self._plan()
        except RunError as error:
            return str(error)
        return None

    def reachable(self) -> bool:
        """Whether there is nothing to reach, or the server answers."""
        try:
            return self._plan()[0] == "offline" or self._silence() is None
        except RunError:
            return True  # there is no key, or an odd one: each run says so

    def where(self, root: Path) -> str:
        """Where runs are found that were sent just now; nothing where none can be sent."""
        try:
            mode, _ = self._mode()
        except RunError:
            return ""
        if mode == "offline":
            return f"Written below {root / FOLDER}. To send them: {sync_line(root)}"
        return f"In the W&B project {'/'.join(filter(None, (self.entity, self.project)))}."

    def begin(self, run: Mirrored) -> None:
        """Begin or continue the W&B run of an id, and send the rows that it lacks."""
        import wandb

        mode, why = self._mode()
        (run.root / FOLDER).mkdir(parents=True, exist_ok=True)  # or it takes another place
        tags = None  # online, those of before are kept
        if mode == "offline":
            tags = all_tags(run.root, run.id, self._tags(run))
            forget(run.root, run.id)
        self._open["run"] = wandb.init(
            project=self.project,
            entity=self.entity,
            group=self.group or run.group or self.study,
            job_type=run.kind,
            tags=tags,
            mode=mode,
            name=run.name,
            id=run.id,
            resume="allow",
            reinit="create_new",  # a base may be made in the middle of a cell
            config=dict(run.config),
            dir=str(run.root),
            settings=self._settings(run),
        )
        made = self._open["run"]
        if mode == "online":
            made.tags = tuple(dict.fromkeys((*(made.tags or ()), *self._tags(run))))
        self._open.update(online=mode == "online", root=run.root, held={})
        there = int(made.starting_step)  # steps that W&B has already
        self._open.update(next=there, media=there)
        self._tell(run, why)
        try:
            self._fill(run)
        except BaseException:  # nobody will end it
            abandon(made) if self._open["online"] else made.finish(exit_code=1)
            self._open.clear()
            raise

    def _tags(self, run: Mirrored) -> list[str]:
        """The words that a run is found by; a run that two studies share has those of both."""
        own = (f"study:{self.study}",) if self.study else ()
        return [*dict.fromkeys(map(tag, (*run.tags, *self.tags, *own)))]

    def send(self, row: Mapping[str, Any]) -> None:
        """Take one row of metrics, unless its step is there already; a step is sent whole."""
        step = int(row["step"])
        self._open["media"] = max(self._open["media"], step + 1)
        if step >= self._open["next"]:
            if step > self._open["next"]:
                self._send_held(self._open["run"])
            self._open["next"] = step
            self._open["held"] |= {"step": step, **numbers(row)}

    def _send_held(self, run: Any) -> None:
        """Send the rows of the step that was under way."""
        held, self._open["held"] = self._open["held"], {}
        if held:
            run.log(held, step=held["step"], commit=True)

    def end(self, ending: Ending) -> None:
        """Send the result and end the run, as failed if it failed."""
        run, code = self._open.pop("run"), 1 if ending.failed else 0
        online = self._open["online"]
        if online and (gone := self._silence(again=True)):
            abandon(run)
            raise ConnectionError(GONE.format(gone))
        try:
            self._send_result(run, ending)
        finally:  # a run that is not ended would be waited for when the process ends
            if online:
                finish_online(run, code, lambda: self._silence(again=True))
            else:
                run.finish(exit_code=code)

    def _send_result(self, run: Any, ending: Ending) -> None:
        """Send summary, tables, pictures, and the model if that was asked for.

        Of a run that may go on, the last step is held back: the rest of it could not be added.
        """
        goes_on = ending.failed and self._open["online"]
        if goes_on:
            held = self._open["held"].items()
            run.summary.update({key: value for key, value in held if key != "step"})
        else:
            self._send_held(run)
        run.summary.update({k: value for k, value in ending.summary.items() if value is not None})
        stay_below(self._open["root"], run.id)
        if not goes_on:
            self._send_media(run, ending)
        if self.artifact and ending.model is not None:
            self._send_model(run, ending.model)

    def _send_media(self, run: Any, ending: Ending) -> None:
        """Send tables and pictures, unless these very tables are there."""
        tables = ending.tables()
        own = short_hash([[name, repr(t.columns), repr(t.rows)] for name, t in tables.items()])
        if not (ending.pages or run.summary.get("tables") != own):
            return
        run.summary.update({"tables": own})
        for name, table in tables.items():
            left = max(0, len(table.rows) - self.table_rows)
            run.summary.update({f"rows/{name}": len(table.rows) - left, f"left_out/{name}": left})
            if left:
                said = f"W&B: {name} has {left} rows more than logger.table_rows={self.table_rows}."
                SAY.print(said, markup=False, soft_wrap=True)
        media = {name: self._table(table) for name, table in tables.items()} | self._media(ending)
        if media:  # one step after the last row
            run.log(media, step=max(self._open["media"], self._open["next"]))

    def _mode(self) -> tuple[Literal["online", "offline"], str]:
        """How runs are sent now, and why so: offline, too, where the server is out of reach."""
        mode, why = self._plan()
        silence = self._silence() if mode == "online" else None
        return (mode, why) if silence is None else ("offline", f"no answer of W&B: {silence}")

    def _plan(self) -> tuple[Literal["online", "offline"], str]:
        """How runs are to be sent, and why, where nobody chose that.

        Raises:
            RunError: nothing can be sent: W&B is switched off, its settings cannot be read, or
                online was asked for, and there is no key.
        """
        if self.mode == "offline":
            return "offline", ""
        told = os.environ.get("WANDB_MODE", "")
        if told == "disabled":
            raise RunError(
                "WANDB_MODE=disabled, so nothing is sent to W&B. Take the variable away, or "
                "logger=none."
            )
        if self.mode is None and told in ("offline", "dryrun"):
            return "offline", f"WANDB_MODE={told}"
        if has_key():
            return "online", ""
        if self.mode is None:
            return "offline", "no key of W&B is known here: wandb login, or WANDB_API_KEY"
        raise RunError(
            "no key of W&B is known here. Log in (wandb login, or the variable WANDB_API_KEY), "
            "or take logger.mode=offline and `wandb sync` later."
        )

    def _silence(self, *, again: bool = False) -> str | None:
        import wandb

        return why_silent(str(wandb.setup().settings.base_url), again=again)

    def _settings(self, run: Mirrored) -> Any:
        import wandb

        return wandb.Settings(
            silent=True,  # what there is to say is said here
            console="off",
            disable_git=True,
            save_code=False,
            disable_job_creation=True,
            x_disable_meta=not run.live,  # they would tell of the machine that sends
            x_disable_machine_info=not run.live,
            x_disable_stats=not run.live,
            init_timeout=INIT_SECONDS,
            finish_timeout=self.upload_timeout,
            finish_timeout_raises=True,
        )

    def _tell(self, run: Mirrored, why: str) -> None:
        """Say where a run is found; of those that are told afterwards, their sender does."""
        made = self._open["run"]
        place = made.url if self._open["online"] else made.settings.sync_dir
        if run.live:
            kept = f"W&B offline: {place}{f' ({why})' if why else ''}"
            said = f"W&B: {place}" if self._open["online"] else kept
            SAY.print(said, markup=False, soft_wrap=True)

    def _fill(self, run: Mirrored) -> None:
        """Say what the metrics are shown against, and send the rows that are there so far."""
        made, own = self._open["run"], run.directory / OWN
        if run.kind in ("tuned", "pretraining"):
            made.define_metric("step", hidden=True)
            for metric in STEPPED:
                made.define_metric(metric, step_metric="step")
        for row in whole_rows(own) if own.is_file() else ():
            self.send(row)

    def _table(self, table: Rows) -> Any:
        import wandb

        rows = [list(row) for row in table.rows[: self.table_rows]]
        return wandb.Table(columns=list(table.columns), data=rows, allow_mixed_types=True)

    def _media(self, ending: Ending) -> dict[str, Any]:
        import wandb

        figures = {name: wandb.Image(str(path)) for name, path in ending.figures.items()}
        pages = {name: wandb.Html(path.read_text("utf-8")) for name, path in ending.pages.items()}
        return figures | pages

    def _send_model(self, run: Any, folder: Path) -> None:
        import wandb

        kept = wandb.Artifact(f"model-{run.id}", type="model")
        kept.add_dir(str(folder), skip_cache=True, policy="immutable")
        run.log_artifact(kept)


def tag(text: str) -> str:
    """A text that W&B takes for a tag: one that is too long ends with a hash of all of it.

    Example:
        >>> tag("student:nano"), len(tag("data.path:" + 80 * "x"))
        ('student:nano', 64)
    """
    if len(text) <= TAG:
        return text
    end = f"~{short_hash(text)[:8]}"
    return text[: TAG - len(end)] + end

"""A tuned student on disk, in plain Hugging Face layout: `transformers` and `peft` load it too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from heed.core.errors import RunError
from heed.core.files import read_json, whole_directory, write_text
from heed.core.identity import digest_model
from heed.methods.adapters import Adapter, attach_saved
from heed.models.memory import is_out_of_memory
from heed.models.speech import no_bars, unreadable
from heed.models.student import Loaded, load
from heed.training.card import ADAPTER_FILE, CARD_FILE, how_to_load


def save_student(
    loaded: Loaded, attached: Any, adapter: Adapter, directory: Path, *, card: str
) -> None:
    """Write weights, tokenizer, template and card as one directory that is whole or absent."""
    no_bars()
    loaded.model.generation_config = generation_settings(loaded)
    with whole_directory(directory) as beside:
        adapter.save(attached, beside, base=loaded.source, revision=loaded.revision)
        loaded.tokenizer.save_pretrained(beside)
        loaded.model.generation_config.save_pretrained(beside)
        write_text(beside / CARD_FILE, card + how_to_load(loaded, beside))


def generation_settings(loaded: Loaded) -> Any:
    """How the student was scored, for whoever generates with it: greedily, to its stop tokens."""
    settings = type(loaded.model.generation_config)
    return settings(
        do_sample=False,
        eos_token_id=list(loaded.stop_ids),
        pad_token_id=loaded.tokenizer.pad_token_id,
    )


def load_student(directory: Path, loading: Mapping[str, Any], base: str = "") -> Loaded:
    """Load a saved student; an adapter is merged into its base.

    Args:
        directory: What `save_student` wrote.
        loading: `Student.loading` or `Loaded.loading`: name, template, dtype, trust.
        base: `digest_model` of what an adapter was trained on; empty if that was just now.

    Raises:
        RunError: files are damaged or missing, or an adapter's base is not what it was.
    """
    if not (directory / ADAPTER_FILE).is_file():
        return load(str(directory), **loading)
    source, revision = _base_of(directory, base)
    loaded = load(source, revision=revision, **loading)
    try:
        loaded.model = attach_saved(loaded.model, directory)
    except unreadable() as error:
        if is_out_of_memory(error):
            raise
        said = f"its adapter does not fit the base {source!r} (revision {revision})"
        raise _damaged(directory, said, error) from error
    return loaded


def _base_of(directory: Path, digest: str) -> tuple[str, str | None]:
    """Path and revision of an adapter's base, which must be there and have this digest, if any."""
    path = directory / ADAPTER_FILE
    try:
        base = read_json(path)
        source, revision = str(base["base_model_name_or_path"]), base["revision"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(directory, f"{ADAPTER_FILE} does not name a base", error) from error
    if revision is None and not Path(source).is_dir():
        raise RunError(
            f"The student in {directory} is an adapter of {source}, which is gone, so it cannot be "
            f"loaded. Put that directory back (with a run, its pre-training moves too), or train "
            f"again."
        )
    now = digest_model(source, revision)
    if digest and digest != now:
        raise RunError(
            f"The student in {directory} is an adapter of {source}, whose files have changed since "
            f"the training (digest {digest} then, {now} now): together they are another student. "
            f"Put the base back as it was, or remove the run and train it again."
        )
    return source, revision


def _damaged(directory: Path, what: str, error: Exception) -> RunError:
    first = next(iter(str(error).strip().splitlines()), "")
    return RunError(
        f"The student in {directory} cannot be loaded: {what} ({type(error).__name__}: "
        f"{first[:300]}). Files are damaged or missing, or the base is another one than that of "
        f"the training; what would be scored is not what was trained. Restore the directory (and "
        f"the base), or remove the run and train it again."
    )


TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Largest difference of logits after a reload, as a share of the largest logit: an adapter is
merged into its base there, which rounds once more in the type of the weights, and a student that is
proved on a GPU is compared with one on the processor."""


def check_reload(trained: Loaded, reloaded: Loaded, ids: list[int]) -> float:
    """Largest difference of the logits on one example between memory and disk, as a share.

    Returns:
        Largest difference divided by the largest logit (or by 1, if that is more).

    Raises:
        RunError: they differ: what would be evaluated and shared is not what was trained.
    """
    row = torch.tensor([ids], device=trained.model.device)
    with torch.inference_mode(), trained.evaluating(), reloaded.evaluating():
        want = trained.model(input_ids=row, use_cache=False).logits.float().cpu()
        got = reloaded.model(input_ids=row.to(reloaded.model.device), use_cache=False).logits
    allowed = TOLERANCE[trained.model.dtype]
    difference = float((want - got.float().cpu()).abs().max() / want.abs().max().clamp(min=1.0))
    if not difference <= allowed:
        raise RunError(
            f"student {trained.name!r}: reloaded from disk, its logits differ from memory by "
            f"{difference:.3g} of the largest (allowed {allowed}). The saved student is not the "
            f"trained one; the run is not recorded. Report the model and the method."
        )
    return difference

"""A finished student for others: merged into whole weights, and uploaded to the hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from heed.core.component import component
from heed.core.errors import ConfigError, Mistake, RunError
from heed.core.secrets import without_secrets

if TYPE_CHECKING:
    from heed.models.student import Loaded

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""`organisation/name`, as the hub has it."""

WEIGHTS = (
    "adapter_config.json", "adapter_model.safetensors", "model.safetensors",
    "model-*-of-*.safetensors", "model.safetensors.index.json",
)  # fmt: skip
"""What one export has and another of the same run has not; libraries would put an adapter that
stayed in a repository on the whole weights beside it."""

EXAMPLE = tuple(range(1, 33))
"""Token ids on which two forms of a student are compared; every vocabulary has them."""


@component
class Export:
    """What is made of a finished student beyond `model/`; a run is the same with and without."""

    merge: bool
    """Write `merged/` too: an adapter put into its base, whole weights that load without peft."""

    dtype: Literal["as_scored", "float32", "bfloat16", "float16"]
    """Type of the merged weights; another than that in which the student was scored rounds them,
    which the scores do not know of."""

    push_to_hub: str | None
    """Upload to this repository of the hub, `organisation/name`: `merged/` if it is wanted, else
    `model/`; null uploads nothing. Weights of another export that are in it are
    removed (its history keeps them). The key is that of `hf auth login` or HF_TOKEN."""

    private: bool
    """Whether a repository that is made for it is seen by its owner only."""

    def __post_init__(self) -> None:
        found = []
        if self.push_to_hub is not None and not REPOSITORY.fullmatch(self.push_to_hub):
            why = "the hub's names are organisation/name, of letters, digits and . _ -"
            action = "Give your account's name, a slash, and a name for the model."
            found.append(Mistake("push_to_hub", repr(self.push_to_hub), f"{why}.", action))
        if self.dtype != "as_scored" and not self.merge:
            why = "only merged weights have a type of their own, and none are wanted."
            found.append(Mistake("dtype", self.dtype, why, "Add export.merge=true."))
        if found:
            raise ConfigError(found)

    def mistakes(self, *, adapter: bool, on_the_hub: bool) -> list[Mistake]:
        """What would make an upload useless, known before anything is trained.

        Args:
            adapter: Whether the method leaves an adapter.
            on_the_hub: Whether others have its base.
        """
        if self.push_to_hub is None or self.merge or not adapter or on_the_hub:
            return []
        why = "an adapter would be uploaded whose base only this machine has: nobody could use it."
        action = "Add export.merge=true: whole weights are uploaded then."
        return [Mistake("export.push_to_hub", self.push_to_hub, why, action)]

    @property
    def wanted(self) -> bool:
        """Whether there is anything to do."""
        return self.merge or self.push_to_hub is not None


def merge(run: Path, loaded: Loaded, dtype: str) -> dict[str, Any]:
    """Write `merged/`: the student of a run as whole weights, compared with the adapter.

    Args:
        run: Its directory; `model/` holds an adapter, or whole weights that get another type.
        loaded: What `load_student` makes of `model/`; its type changes.
        dtype: Of the weights; `as_scored` leaves it.

    Returns:
        What is recorded: the type, and the largest difference of logits between the two
        directories, each loaded by a process of its own as its card says.

    Raises:
        RunError: the two are not one student.
    """
    import torch

    from heed.core.files import whole_directory, write_text
    from heed.models.speech import no_bars
    from heed.training.card import CARD_FILE, changed_loading, loading_code
    from heed.training.checkpoint import generation_settings
    from heed.training.reload import STORED_TOLERANCE, TOLERANCE, apart, reread, talks_for

    talks = talks_for(loaded)
    scored = str(loaded.model.dtype).removeprefix("torch.")
    kind = scored if dtype == "as_scored" else dtype
    loaded.model.to(getattr(torch, kind))
    loaded.model.generation_config = generation_settings(loaded)
    source, target = run / "model", run / "merged"
    no_bars()
    with whole_directory(target) as beside:
        loaded.model.save_pretrained(beside)
        loaded.tokenizer.save_pretrained(beside)
        loaded.model.generation_config.save_pretrained(beside)
        card = (source / CARD_FILE).read_text(encoding="utf-8")
        card = changed_loading(card, loading_code(loaded, beside), MERGED)
        write_text(beside / CARD_FILE, _rounded(card, scored, kind))
        ids = [id_ for id_ in EXAMPLE if id_ < len(loaded.tokenizer)]
        one, two = (reread(folder, ids, talks) for folder in (source, beside))
        allowed = max(TOLERANCE[getattr(torch, name)] for name in (scored, kind))
        if (source / "base_quantization.json").is_file():
            allowed = max(allowed, STORED_TOLERANCE)
        difference = apart(one.logits, two.logits, allowed, f"{target} beside {source}")
        if (one.texts, one.prompt, one.stops) != (two.texts, two.prompt, two.stops):
            raise RunError(
                f"{target} would be spoken to otherwise than {source}: their templates or stop "
                f"tokens differ. Nothing was written; report the model and the method."
            )
    return {"dtype": kind, "scored_in": scored, "difference": difference}


def _rounded(card: str, scored: str, kind: str) -> str:
    """A card that says so if its weights are of another type than those that were scored."""
    if kind == scored:
        return card
    said = f"These weights are rounded to {kind}; scored was the student in {scored}."
    return card.replace("## Loading it", f"{said}\n\n## Loading it", 1)


MERGED: Mapping[str, Any] = {
    "library_name": "transformers",
    "tags": ["heed"],
    "base_model_relation": None,
}
"""What the front matter of a card says otherwise where an adapter was merged."""


def refuse_unpushable(export: Export) -> None:
    """Say before a run starts that its student could not be uploaded at its end.

    Raises:
        RunError: the hub's library knows no key, or is told to keep offline.
    """
    if export.push_to_hub is None:
        return
    from huggingface_hub import constants, get_token

    lacking = "the hub is switched off here (HF_HUB_OFFLINE)" if constants.HF_HUB_OFFLINE else ""
    cure = "Unset HF_HUB_OFFLINE" if lacking else "Log in (hf auth login, or the variable HF_TOKEN)"
    lacking = lacking or ("" if get_token() else "no key of the hub is known here")
    if lacking:
        raise RunError(
            f"export.push_to_hub={export.push_to_hub}: {lacking}, so nothing could be uploaded. "
            f"{cure}, or leave export.push_to_hub out: "
            f"a finished run is uploaded by the same command with it, and is not trained again."
        )


def push(folder: Path, export: Export, message: str) -> str:
    """Upload a directory to the hub: the repository then holds these weights, and no others.

    Args:
        folder: What.
        export: Where to.
        message: Of the commit.

    Returns:
        The address of the commit.

    Raises:
        RunError: it cannot be uploaded; what is here is untouched.
    """
    from huggingface_hub import HfApi

    repository = str(export.push_to_hub)
    try:
        hub = HfApi()
        hub.create_repo(repository, private=export.private, exist_ok=True, repo_type="model")
        made = hub.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message=message,
            repo_type="model",
            delete_patterns=[*WEIGHTS],
        )
    except Exception as error:  # the network, the hub and its library may raise anything
        first = next(iter(without_secrets(str(error)).strip().splitlines()), "")
        raise RunError(
            f"{folder} could not be uploaded to {repository} ({type(error).__name__}: "
            f"{first[:300]}). The run itself is whole and recorded; nothing is lost. Put right "
            f"what the hub says (the key's rights, the name, the network), and give the same "
            f"command again: only the upload is done."
        ) from error
    return str(getattr(made, "commit_url", made))

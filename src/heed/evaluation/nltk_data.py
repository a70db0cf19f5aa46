"""nltk's data, which some verifiers read: found in a folder or on nltk's path, never downloaded."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from heed.core.errors import DataError

NEEDS_PUNKT = frozenset(
    {
        "change_case:capital_word_frequency",
        "format:title_case",
        "length_constraints:number_sentences",
        "words:keywords_specific_position",
        "words:start_verb",
        "words:words_position",
    }
)
"""Instruction types of IFEval and IFBench whose verifiers split text with nltk's `punkt_tab`."""

PUNKT_FILES = ("abbrev_types.txt", "collocations.tab", "ortho_context.tab", "sent_starters.txt")
"""What the English part of that data is made of."""


class DataMissingError(DataError):
    """A verifier lacks data of nltk.

    Attributes:
        resource: What nltk calls the data.
    """

    def __init__(self, resource: str, what: str):
        self.resource = resource
        super().__init__(
            f"nltk's data {resource!r} is missing, and {what} cannot be verified without. "
            f"{how_to_get(resource)}"
        )


def use_nltk_folder(folder: str | None) -> None:
    """Let nltk look into a folder first; None leaves its own search path as it is."""
    import nltk

    if folder is not None and folder not in nltk.data.path:
        nltk.data.path.insert(0, folder)


def find_punkt(folder: str | None, kinds: Collection[str] = NEEDS_PUNKT) -> str:
    """Make nltk's `punkt_tab` data available to the verifiers, without a download.

    Args:
        folder: Where to look first; None looks only where nltk itself would.
        kinds: The instruction types that need it, for the message.

    Returns:
        A digest of the data: they decide where a sentence ends.

    Raises:
        DataError: it is found nowhere.
    """
    import nltk

    use_nltk_folder(folder)
    found = hashlib.sha256()
    try:
        for name in PUNKT_FILES:
            with nltk.data.find(f"tokenizers/punkt_tab/english/{name}").open() as file:
                found.update(file.read())
    except LookupError:
        place = f"neither in nltk_data={folder} nor" if folder else "nowhere"
        raise DataError(
            f"nltk's punkt_tab data was found {place} on nltk's own path, so instructions of the "
            f"types {', '.join(sorted(kinds))} cannot be verified. {how_to_get('punkt_tab')}"
        ) from None
    return found.hexdigest()[:16]


def how_to_get(*resources: str) -> str:
    """What to type to get data of nltk."""
    return (
        f"Run `python -m nltk.downloader {' '.join(resources)}`, or point the task's nltk_data to "
        f"the folder that holds nltk's data, such as tokenizers/punkt_tab."
    )


@contextmanager
def without_download(what: str) -> Iterator[None]:
    """Keep nltk off the network, and say what it lacks.

    Args:
        what: What is done inside the block, for the message.

    Raises:
        DataMissingError: something inside reads data of nltk that are not there.
    """
    import nltk

    download = nltk.download
    nltk.download = lambda *_, **__: False
    try:
        yield
    except LookupError as error:
        if type(error) is not LookupError:
            raise
        named = re.search(r"nltk\.download\(\W*(\w+)", str(error))
        raise DataMissingError(named.group(1) if named else "all", what) from None
    finally:
        nltk.download = download

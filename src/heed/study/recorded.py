"""The lines that a finished piece of work said when it was done, read back from its manifest."""

from __future__ import annotations

from pathlib import Path

from heed.core.errors import RunError
from heed.core.files import read_json
from heed.study.scores import SAY, say_other_code


def recorded_lines(directory: Path, what: str) -> list[str]:
    """The lines of work that was done before; says that they are of before.

    Args:
        directory: Where the work was kept whole.
        what: Its name in a sentence, such as "analysis".

    Raises:
        RunError: they are damaged.
    """
    try:
        found = read_json(directory / "manifest.json")
        said, code = [str(line) for line in found["said"]], str(found["code"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{directory} does not hold a whole {what} ({type(error).__name__}: {error}). Remove "
            f"the directory and run the command that made it again."
        ) from error
    SAY.print(f"Already done; this is the recorded {what}.")
    say_other_code(directory, code)
    return said

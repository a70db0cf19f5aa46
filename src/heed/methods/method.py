"""A tuning method: how frozen weights are stored, and what may move."""

from __future__ import annotations

from typing import Annotated

from heed.core.component import component
from heed.core.identity import Incidental
from heed.methods.adapters import Adapter


@component
class Method:
    """What of a student moves during tuning."""

    name: Annotated[str, Incidental]
    """How the method is called in tables."""

    adapter: Adapter
    """What is trained; see `heed.methods.adapters`."""

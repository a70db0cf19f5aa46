"""A tuning method: how frozen weights are stored, what may move, and what is disturbed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from heed.core.component import component
from heed.core.errors import ConfigError, Mistake
from heed.core.identity import Incidental
from heed.methods.adapters import Adapter
from heed.methods.noise import Noise
from heed.methods.weights import Weights


@component
class Method:
    """Weights x adapter x noise."""

    name: Annotated[str, Incidental]
    """How the method is called in tables."""

    weights: Weights
    """How frozen weights are stored; see `heed.methods.weights`."""

    adapter: Adapter
    """What is trained; see `heed.methods.adapters`."""

    noise: Noise | None
    """What is disturbed in training; see `heed.methods.noise`."""

    def __post_init__(self) -> None:
        if self.weights.fixed and self.adapter.needs_plain:
            kind, form = type(self.adapter).__name__, type(self.weights).__name__
            why = f"{kind} changes weights of the base, and weights stored as {form} cannot change."
            action = "Leave weights plain, or take an adapter that leaves the base (method=qlora)."
            raise ConfigError([Mistake("weights", form, why, action)])

    @property
    def label(self) -> str:
        """Its name, with weights and noise that it does not say: no two methods look alike.

        Example: `dora+NF4` of `method=dora weights=nf4`; `qlora` says its weights itself.
        """
        said = any(word in self.name.lower() for word in self.weights.words)
        weights = "" if not self.weights.fixed or said else f"+{type(self.weights).__name__}"
        noise = "" if self.noise is None else f"+{type(self.noise).__name__}"
        return f"{self.name}{weights}{noise}"

    def store(self, model: Any) -> None:
        """Bring the weights of a transformers model into their form, in place."""
        self.weights.store(model)

    def events(self, model: Any) -> dict[str, int]:
        """What a reader must know of how a model was prepared, counted.

        Args:
            model: The transformers model, once it was stored and attached to.
        """
        return self.weights.events(model) | self.adapter.events(model)

    def attach(self, model: Any, tokens: Sequence[int] = ()) -> Any:
        """Prepare a transformers model for training, in place.

        Args:
            model: Whose weights are stored already.
            tokens: Ids whose rows of embedding and head must move too.

        Returns:
            What `adapter.save` wants.
        """
        attached = self.adapter.attach(model, tokens)
        if self.noise is not None:
            self.noise.attach(model)
        return attached

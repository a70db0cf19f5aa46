"""A training that is broken off after a step."""

import lightning

from heed.core.component import component
from heed.training.callbacks import Watcher


class PowerCutError(Exception):
    """As if the process were gone."""


@component
class PowerCut(Watcher):
    """Breaks a training off after a step, before or after the others have written of it."""

    step: int

    def build(self, watched):
        step = self.step

        class Cut(lightning.Callback):
            def on_train_batch_end(self, trainer, module, *_):
                if module.done == step:
                    raise PowerCutError

        return Cut()

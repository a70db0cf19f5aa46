"""Properties of what turns prompts into answers: speed leaves no trace, and what might is told."""

from collections import Counter
from types import SimpleNamespace

import torch

from heed.models.backend import HeedBackend
from heed.models.generate import generate

OWN = HeedBackend(batch_tokens=2000, rows=4)
ASKED = ["Name a colour.", "Name a fish, please.", "Why?"]


def test_settings_name_what_may_change_a_text(loaded):
    assert OWN.settings(loaded) == {"name": "heed"}
    assert OWN.settings(SimpleNamespace(model=loaded.model.to(torch.bfloat16))) == {
        "name": "heed",
        "batch": [2000, 4],  # in short types, how prompts are batched may decide a near tie
    }


def test_heeds_backend_is_heeds_engine(loaded):
    said = OWN.answers(loaded, ASKED, max_new_tokens=6, events=Counter())
    assert dict(said) == dict(
        generate(loaded, ASKED, max_new_tokens=6, batch_tokens=2000, max_rows=4)
    )

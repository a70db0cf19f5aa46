"""Properties of what turns prompts into answers: speed leaves no trace, and what might is told."""

from collections import Counter

import torch

from heed.models.backend import HeedBackend
from heed.models.generate import generate

OWN = HeedBackend(batch_tokens=2000, rows=4)
ASKED = ["Name a colour.", "Name a fish, please.", "Why?"]


def test_settings_of_speed_are_no_settings_of_the_scores(loaded):
    assert OWN.settings() == HeedBackend(batch_tokens=9, rows=1).settings()


def test_answers_in_a_short_type_are_told(loaded):
    assert OWN.told(loaded, 3) == {}
    loaded.model.to(torch.bfloat16)
    assert OWN.told(loaded, 3) == {"answers in bfloat16, where a near tie may hang on the batch": 3}
    assert OWN.told(loaded, 0) == {}


def test_heeds_backend_is_heeds_engine(loaded):
    said = OWN.answers(loaded, ASKED, max_new_tokens=6, events=Counter())
    assert dict(said) == dict(
        generate(loaded, ASKED, max_new_tokens=6, batch_tokens=2000, max_rows=4)
    )

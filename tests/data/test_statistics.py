"""Numbers about a dataset are those of its examples."""

from hypothesis import given
from hypothesis import strategies as st

from heed.core.files import write_json
from heed.data.encode import encode_all
from heed.data.statistics import BINS, happened, histogram, statistics


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.integers(0, 20))
def test_every_length_stands_in_one_bar(lengths: list[int], more: int):
    bars = histogram(lengths, max(lengths) + more)
    assert sum(bar.examples for bar in bars) == len(lengths)
    assert len(bars) <= BINS
    for bar in bars:
        assert bar.examples == sum(bar.low <= n <= bar.high for n in lengths)
    assert [bar.low for bar in bars[1:]] == [bar.high + 1 for bar in bars[:-1]]


def test_sums_are_those_of_the_examples(toy, template, tokenizer, recipe_of, tmp_path):
    data = recipe_of(validation_share=0.3).data
    dataset = encode_all(toy, template, tokenizer, data)
    found = statistics(dataset)
    lengths = sorted(len(e.ids) for e in dataset.examples)
    assert found["tokens"] == sum(lengths)
    assert found["supervised_tokens"] == sum(e.supervised for e in dataset.examples)
    assert found["supervised_share"] == found["supervised_tokens"] / found["tokens"]
    assert found["lengths"]["longest"] == lengths[-1]
    assert found["lengths"]["p50"] == lengths[(len(lengths) - 1) // 2]
    assert found["examples"] + found["validation_examples"] == len(toy.examples)
    write_json(tmp_path / "plain.json", found)


@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9))
def test_what_was_dropped_is_told_singly_and_as_a_share_of_the_rows(good: int, long: int, bad: int):
    events = {"rows read": good + long + bad, "windows made of over-long rows": 7}
    events |= {"dropped: over-long": long, "dropped: row cannot be read": bad}
    told = happened({"events": events, "overlap": None})
    assert all(told[event] == str(times) for event, times in events.items())
    share = (long + bad) / (good + long + bad)
    whole = f"{long + bad} ({share:.1%} of the rows)" if long + bad else None
    assert told.get("dropped in all") == whole


def test_prompts_that_were_looked_for_are_told():
    overlap = {"prompts_looked_for": 1200, "prompts_found": 3}
    overlap["prompts_too_short_to_be_looked_for"] = 9
    told = happened({"events": {"rows read": 1}, "overlap": overlap})
    assert told["prompts found, of 1,200 looked for"] == "3"
    assert told["prompts too short to be looked for"] == "9"

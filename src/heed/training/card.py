"""The card of a student on disk: what it is, where it comes from, and how others load it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from heed.core.console import visible
from heed.data.source import Hub

if TYPE_CHECKING:
    from heed.models.student import Loaded
    from heed.training.run import Recipe

CARD_FILE = "README.md"
"""What the hub shows of a model."""

ADAPTER_FILE = "adapter_config.json"
"""Stands beside an adapter, and beside no whole weights."""

STORED_FILE = "base_quantization.json"
"""Stands beside an adapter whose base was stored in few bits."""

RESULT = "<!-- heed: result -->"
"""Stands before and after what was measured; nothing stands between until there is a result."""

MARKS = re.compile(r"([\\`*_{}\[\]|#~])")
"""Characters that Markdown reads as more than themselves."""


def escaped(text: str) -> str:
    r"""A text from outside as plain text of a Markdown line.

    Example:
        >>> escaped("<b>a|b</b>\n*c*")
        '&lt;b&gt;a\\|b&lt;/b&gt; \\*c\\*'
    """
    line = " ".join(visible(text).split())
    return MARKS.sub(r"\\\1", html.escape(line, quote=False))


def front_matter(loaded: Loaded, recipe: Recipe, *, adapter: bool) -> dict[str, Any]:
    """What the hub reads of a card. No license is stated: base and data have theirs.

    Args:
        loaded: The student.
        recipe: How it was trained.
        adapter: Whether only an adapter lies there.
    """
    found: dict[str, Any] = {
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["heed", *(["lora"] if adapter else [])],
    }
    if loaded.revision is not None:  # a directory is no name that others know
        found["base_model"] = loaded.source
        found["base_model_relation"] = "adapter" if adapter else "finetune"
    if sets := sorted(set(_hub_sets(recipe))):
        found["datasets"] = sets
    return found


def _hub_sets(recipe: Recipe) -> Iterator[str]:
    """Data sets of the hub that a recipe trains on."""
    parts: Mapping[str, Any] = getattr(recipe.teacher, "parts", dict)()
    for teacher in parts.values():
        source = getattr(teacher, "source", None)
        if isinstance(source, Hub):
            yield source.id


def described(loaded: Loaded, recipe: Recipe) -> str:
    """In two sentences, how a student was made."""
    base = "random weights"
    if loaded.source:
        pinned = f" at {loaded.revision}" if loaded.revision else ", a student made or kept locally"
        base = f"{loaded.source if loaded.revision else loaded.name}{pinned}"
    return (
        f"Trained by heed on responses of {escaped(recipe.teacher.name)} (method "
        f"{escaped(recipe.method.label)}: {type(recipe.method.adapter).__name__}, peak learning "
        f"rate {recipe.lr.peak:g}, seed {recipe.seed}, precision {recipe.precision}). Base: "
        f"{escaped(base)}."
    )


def card_head(loaded: Loaded, recipe: Recipe) -> str:
    """The card of a student that has not been scored yet, up to how it is loaded."""
    adapter = not recipe.method.adapter.moves_base
    head = yaml.safe_dump(front_matter(loaded, recipe, adapter=adapter), sort_keys=False)
    return (
        f"---\n{head}---\n\n# {escaped(loaded.name)}\n\n{described(loaded, recipe)}\n\n"
        f"{RESULT}\n{RESULT}\n"
    )


def how_to_load(loaded: Loaded, directory: Path) -> str:
    """The part of a card that says how others load the student; code to be run in its directory.

    Args:
        loaded: The student.
        directory: Where its weights or its adapter lie already.
    """
    code = "\n".join(loading_code(loaded, directory))
    return (
        f"\n## Loading it\n\nIn this directory (elsewhere, with its name in place of `.`):\n\n"
        f"```python\n{code}\n```\n\n"
        f"It was scored by greedy decoding, up to one of the stop tokens of "
        f"`generation_config.json`. How it is spoken to is the tokenizer's chat template.\n"
    )


def loading_code(loaded: Loaded, directory: Path) -> list[str]:
    """Lines of Python that make `model` and `tokenizer`, to be run in the student's directory.

    They need transformers (and peft and bitsandbytes, where they say so), and not heed.
    """
    trust = ", trust_remote_code=True" if loaded.trust_remote_code else ""
    kind = f'dtype="{str(loaded.model.dtype).removeprefix("torch.")}"'
    tokenizer = f'tokenizer = transformers.AutoTokenizer.from_pretrained("."{trust})'
    auto = "transformers.AutoModelForCausalLM.from_pretrained"
    if not (directory / ADAPTER_FILE).is_file():
        return ["import transformers", "", f'model = {auto}(".", {kind}{trust})', tokenizer]
    lines = ["import peft", "import transformers", ""]
    given = [repr(loaded.source), *([f"revision={loaded.revision!r}"] if loaded.revision else [])]
    if (directory / STORED_FILE).is_file():
        lines = ["import json", "import pathlib", "", *lines]
        held = f'json.loads(pathlib.Path("{STORED_FILE}").read_text())'
        lines.append(f"stored = {held}  # how the base was held")
        given.append("quantization_config=transformers.BitsAndBytesConfig.from_dict(stored)")
    lines.append(f"base = {auto}({', '.join(given)}, {kind}{trust})")
    if (directory / STORED_FILE).is_file():
        lines.append("base = base.dequantize(base.dtype)  # activations are not rounded")
    if loaded.added:
        rows = loaded.model.get_input_embeddings().weight.shape[0]
        lines.append("# tokens were added to the base")
        lines.append(f"base.resize_token_embeddings({rows}, mean_resizing=False)")
    return [
        *lines,
        'model = peft.PeftModel.from_pretrained(base, ".")',
        'model.generation_config = transformers.GenerationConfig.from_pretrained(".")',
        tokenizer,
    ]


def code_of(card: str) -> str:
    """The lines of a card that load its student.

    Raises:
        ValueError: it has none.
    """
    found = re.search(r"## Loading it\n.*?```python\n(.*?)```", card, flags=re.DOTALL)
    if found is None:
        raise ValueError("the card says not how its student is loaded")
    return found.group(1)


def with_result(card: str, section: str) -> str:
    """A card with what was measured in its place, or at its end if it has no such place.

    Args:
        card: As `card_head` began it, or with an earlier result.
        section: Markdown.
    """
    body = f"{RESULT}\n{section.replace(RESULT, '').strip()}\n{RESULT}"
    if card.count(RESULT) < 2:
        return f"{card.replace(RESULT, '').rstrip()}\n\n{body}\n"
    before, _, rest = card.partition(RESULT)
    return before + body + rest.rpartition(RESULT)[2]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""A table; its cells are plain text.

    Example:
        >>> print(markdown_table(["a", "b"], [["1", "2|3"]]))
        | a | b |
        | --- | --- |
        | 1 | 2\|3 |
    """
    lines = [header, ["---"] * len(header), *rows]
    cells = [[c if c == "---" else escaped(c) for c in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def changed_loading(card: str, code: Sequence[str], head: Mapping[str, Any]) -> str:
    """The card of the same student in another form: its lines that load it, and what the hub reads.

    Args:
        card: Of the student in the form that was trained.
        code: Lines that load the other form.
        head: Entries of the front matter that change; None takes one away.
    """
    _, kept, rest = card.split("---\n", 2)
    found = {k: v for k, v in (yaml.safe_load(kept) | dict(head)).items() if v is not None}
    old = code_of(card)
    text = rest.replace(old, "\n".join(code) + "\n", 1)
    return f"---\n{yaml.safe_dump(found, sort_keys=False)}---\n{text}"

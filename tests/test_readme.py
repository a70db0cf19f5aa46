"""What the README and the how-to say is true."""

import re
import shlex
from pathlib import Path

import pytest

from heed.core.command import Command, mistakes_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [
    "README.md",
    "docs/how-to/README.md",
    "docs/how-to/compare-in-wandb.md",
    "docs/architecture.md",
    "docs/scaling.md",
]


def commands(text: str) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", text, re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].split("   #")[0].strip() for line in lines if line.strip()]


@pytest.mark.parametrize("line", [c for c in commands(README) if c.startswith("make")])
def test_every_make_target_named_exists(line: str):
    target = line.split()[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)


def test_the_readme_names_the_two_commands_that_ci_and_newcomers_use():
    assert {"make demo", "make test"} <= {" ".join(c.split()[:2]) for c in commands(README)}
    assert "make test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize(
    "line",
    [
        c
        for page in PAGES
        for c in commands((ROOT / page).read_text())
        if re.search(r"python \S+\.py", c)
    ],
)
def test_every_command_named_is_free_of_mistakes(line: str):
    line = line.replace("<organisation/name>", "a/b").replace("<commit>", 40 * "a")
    line = line.replace("/models/mine", str(ROOT))
    words = shlex.split(line)
    script, overrides = words[1], [w for w in words[2:] if not w.startswith("-")]
    name = Path(script).stem
    found = mistakes_of(Command(ROOT / "conf", name, tuple(overrides), "-m" in words))
    assert (ROOT / script).is_file()
    assert not found


def test_the_tree_is_true():
    tree = re.search(r"## The tree\n+```\n(.*?)```", README, re.S)
    assert tree
    for line in tree.group(1).splitlines():
        for path in line.split("   ")[0].split():
            assert (ROOT / path).exists(), path
    listed = set(re.findall(r"src/heed/(\w+)/", tree.group(1)))
    parts = {p.parent.name for p in (ROOT / "src/heed").glob("*/__init__.py")}
    assert listed == parts


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_picture_is_there(page: str):
    for target in re.findall(r"\]\(([^)]+)\)", (ROOT / page).read_text()):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), target

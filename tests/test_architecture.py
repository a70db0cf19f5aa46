"""The shape of the code: who imports whom, where heavy libraries live, how large things are."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "heed"
MODULES = sorted(SOURCE.rglob("*.py"))
ENTRY_POINTS = {"train.py": 30, "evaluate.py": 30, "sweep.py": 40}  # lines at most
FILE_LINES, FUNCTION_LINES = 350, 50

PARTS = {"data", "models", "methods", "tracking", "training", "evaluation", "analysis"}
MAY_IMPORT = {
    "core": set(),
    "data": {"core"},
    "models": {"core"},
    "methods": {"core"},
    "tracking": {"core"},
    "training": {"core", "data", "models", "methods", "tracking"},
    "evaluation": {"core", "data", "models", "methods"},
    "analysis": {"core", "data", "models"},
    "playground": {"core", "data", "models", "training", "evaluation", "analysis"},
    "study": {"core", *PARTS},
}
HOME = {  # a heavy library is imported in these parts only
    "bitsandbytes": {"methods", "training"},
    "datasets": {"data"},
    "hydra": {"core"},
    "langdetect": {"evaluation"},
    "lightning": {"training"},
    "lm_eval": {"evaluation"},
    "matplotlib": {"analysis"},
    "nltk": {"evaluation"},
    "omegaconf": {"core"},
    "peft": {"methods"},
    "tokenizers": {"models", "playground"},  # where tokenizers are made
    "transformers": {"data", "models", "methods", "playground", "training"},
    "wandb": {"tracking"},
}
SLOW_TO_IMPORT = {"torch", "transformers", "peft", "lightning"}
TOP_LEVEL = {
    ".ci", ".gitignore", ".pre-commit-config.yaml", "CONTRIBUTING.md", "LICENSE", "Makefile",
    "README.md", "bench", "conf", "docs", "evaluate.py", "pyproject.toml", "requirements.lock",
    "src", "sweep.py", "tests", "train.py",
}  # fmt: skip
TESTED_BY = {  # what no test of its part imports by name -> the test that runs it
    "analysis/tables.py": "analysis/test_report.py",
    "core/compose.py": "test_configs.py",
    "core/config.py": "core/test_check.py",
    "core/console.py": "study/test_run_cell.py",
    "core/manifest.py": "study/test_run_cell.py",
    "core/overrides.py": "core/test_check.py",
    "core/types.py": "evaluation/test_suite.py",
    "study/srun.py": "study/test_rank.py",
    "training/resumed.py": "training/test_session.py",
    "models/architectures.py": "models/test_student.py",
    "study/command.py": "study/test_evaluation.py",
    "study/show.py": "study/test_run_cell.py",
    "training/examples.py": "study/test_run_cell.py",
    "training/trainer.py": "study/test_run_cell.py",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported(node: ast.AST) -> Iterator[str]:
    """Dotted names that one statement imports; relative imports are shown as such."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        yield from (f"{module}.{alias.name}" for alias in node.names)


def imports(path: Path) -> set[str]:
    """Every import of a file: also inside functions, also for type checking only."""
    return {name for node in ast.walk(tree_of(path)) for name in imported(node)}


def part_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0] if path.parent != SOURCE else ""


def wrong_parts(part: str, names: set[str]) -> set[str]:
    """Imports of heed's own parts that a part may not make."""
    own = {name.split(".")[1]: name for name in names if name.startswith("heed.")}
    return {name for other, name in own.items() if other not in MAY_IMPORT[part] | {part}}


def at_import(body: list[ast.stmt]) -> Iterator[str]:
    """What the import of a module imports: not what functions do, nor what only types need."""
    for node in body:
        yield from imported(node)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for field in ("body", "orelse", "finalbody"):
                yield from at_import(getattr(node, field, []))


def component_modules() -> list[Path]:
    """Modules that define a component."""
    return [
        path
        for path in MODULES
        if any(
            isinstance(node, ast.ClassDef) and "component" in map(ast.unparse, node.decorator_list)
            for node in ast.walk(tree_of(path))
        )
    ]


def test_every_part_has_an_import_rule_and_every_rule_a_part():
    folders = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name[0] != "_"}
    assert folders == set(MAY_IMPORT)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_the_parts_it_may_know(path: Path):
    if part_of(path):
        assert not wrong_parts(part_of(path), imports(path))


@pytest.mark.parametrize(
    ("part", "code"),
    [
        ("data", "from heed.models.student import Loaded"),
        ("core", "def f():\n    import heed.data.pack"),
        ("study", "from heed.playground import world"),
        ("evaluation", "if TYPE_CHECKING:\n    from heed.training.run import Run"),
    ],
)
def test_a_forbidden_import_is_found_wherever_it_hides(part: str, code: str):
    names = {name for node in ast.walk(ast.parse(code)) for name in imported(node)}
    assert wrong_parts(part, names)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_are_absolute_and_name_a_part(path: Path):
    assert not [n for n in imports(path) if n.startswith(".")]
    assert not [n for n in imports(path) if n == "heed" or n in {f"heed.{p}" for p in MAY_IMPORT}]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_heavy_library_is_imported_at_its_home_only(path: Path):
    used = {name.split(".")[0] for name in imports(path)} & set(HOME)
    assert not {library for library in used if part_of(path) not in HOME[library]}


@pytest.mark.parametrize("path", component_modules(), ids=name_of)
def test_a_module_that_defines_a_component_is_light(path: Path):
    found = {name.split(".")[0] for name in at_import(tree_of(path).body)}
    assert not found & SLOW_TO_IMPORT


def test_importing_all_components_imports_nothing_heavy_through_others():
    names = [
        "heed." + name_of(path).removesuffix(".py").replace("/", ".")
        for path in component_modules()
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {names}:\n"
        "    importlib.import_module(name)\n"
        f"    heavy = {sorted(SLOW_TO_IMPORT)} & sys.modules.keys()\n"
        "    assert not heavy, f'{name} brings {sorted(heavy)}'\n"
    ).replace(f"{sorted(SLOW_TO_IMPORT)} &", f"set({sorted(SLOW_TO_IMPORT)}) &")
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert made.returncode == 0, made.stderr


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_opens_with_a_sentence_and_keeps_its_size(path: Path):
    text = path.read_text(encoding="utf-8")
    said = (ast.get_docstring(tree_of(path)) or "").split("\n\n")[0]
    assert re.search(r"[.?]$", said), "the first paragraph is no sentence"
    assert len(text.splitlines()) <= FILE_LINES
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno + 1 <= FUNCTION_LINES, node.name


@pytest.mark.parametrize(("name", "lines"), ENTRY_POINTS.items())
def test_an_entry_point_is_short_and_knows_only_the_study(name: str, lines: int):
    path = ROOT / name
    assert len(path.read_text(encoding="utf-8").splitlines()) <= lines
    ours = {found for found in imports(path) if found.split(".")[0] == "heed"}
    assert not [n for n in ours if not n.startswith(("heed.core.check.", "heed.study."))]
    rest = {found.split(".")[0] for found in imports(path)} - {"heed"}
    assert rest <= sys.stdlib_module_names


@cache
def names_tested_in(part: str) -> set[str]:
    """What the tests of a part import."""
    return {n for path in (ROOT / "tests" / part).glob("test_*.py") for n in imports(path)}


def test_every_file_with_logic_is_tested_beside_its_part():
    """A test file of its own name, or one of its part that imports it, or the one named above."""
    for path in MODULES:
        kinds = (ast.FunctionDef, ast.ClassDef)
        name, part = name_of(path), part_of(path)
        if not any(isinstance(node, kinds) for node in ast.walk(tree_of(path))):
            continue
        module = "heed." + name.removesuffix(".py").replace("/", ".")
        own = ROOT / "tests" / part / f"test_{path.name}"
        near = any(found.startswith(f"{module}.") for found in names_tested_in(part))
        named = ROOT / "tests" / TESTED_BY.get(name, "nothing")
        assert own.is_file() or near or named.is_file(), f"nothing tests {name}"


def test_the_list_of_what_is_tested_elsewhere_holds_nothing_that_is_gone():
    for name, test in TESTED_BY.items():
        assert (SOURCE / name).is_file(), name
        assert (ROOT / "tests" / test).is_file(), test


def test_tests_mirror_the_parts():
    folders = {p.name for p in (ROOT / "tests").iterdir() if p.is_dir() and p.name[0] not in "._"}
    assert folders <= {*MAY_IMPORT, "hydra_plugins", "invariants", "ranks", "slurm"}
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names)), "pytest needs file names that differ"
    assert not list((ROOT / "tests").rglob("__init__.py"))


def kept() -> list[Path]:
    """Files of the repository: all but what `.gitignore` names."""
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split() if line]

    def below(folder: Path) -> Iterator[Path]:
        for path in folder.iterdir():
            if path.name == ".git" or any(fnmatch(path.name, name) for name in ignored):
                continue
            if path.is_dir():
                yield from below(path)
            else:
                yield path

    return sorted(below(ROOT))


def test_the_top_level_holds_what_the_design_says():
    assert {path.relative_to(ROOT).parts[0] for path in kept()} <= TOP_LEVEL


def test_no_file_speaks_of_work_left_or_of_one_machine():
    left = re.compile("|".join(["TO" + "DO", "FIX" + "ME", "X" * 3, "/wo" + "rk/", "/ho" + "me/"]))
    for path in kept():
        if path.suffix in {".py", ".md", ".yaml", ".toml", ".lock", ""}:
            found = left.search(path.read_text(encoding="utf-8"))
            assert not found, f"{path.relative_to(ROOT)} holds {found.group()!r}" if found else ""


def test_no_module_is_a_drawer_for_everything():
    drawers = {"util", "utils", "helper", "helpers", "misc", "common"}
    assert not [name_of(path) for path in MODULES if drawers & set(path.with_suffix("").parts)]

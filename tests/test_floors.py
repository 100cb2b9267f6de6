"""The shape of the project: who may import whom, what the agent may use, how long a module may be."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "launcher"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A module imports only from its own floor's names listed with it, or from lower ones.
FLOORS: list[tuple[str, ...]] = [
    ("launcher.agent", "launcher.errors", "launcher"),
    ("launcher.job", "launcher.run", "launcher.events"),
    ("launcher.target", "launcher.published", "launcher.lock"),
    (
        "launcher.walk",
        "launcher.files",
        "launcher.bundle",
        "launcher.cuda",
        "launcher.tools",
        "launcher.interpreters",
    ),
    (
        "launcher.environment",
        "launcher.sources",
        "launcher.locking",
        "launcher.ledger",
        "launcher.targetsfile",
        "launcher.hosts",
        "launcher.data",
    ),
    ("launcher.config", "launcher.secrets", "launcher.engine", "launcher.vault"),
    (
        "launcher.transfer",
        "launcher.session",
        "launcher.tensorboard",
        "launcher.runner.context",
        "launcher.targets",
        "launcher.notebook",
    ),
    ("launcher.runner",),
    ("launcher.demo", "launcher.render"),
    ("launcher.cli", "launcher.__main__"),
]
KNOWN_UPWARD = {  # the runner finds targets by name; names are told apart in one place
    ("launcher.targets.registry", "launcher.runner.context"),
}
SDK_HOMES = {
    "docker": ("launcher.engine",),
    "requests": ("launcher.engine", "launcher.tools", "launcher.targets.kaggle", "launcher.targets.colab"),
    "urllib3": ("launcher.engine",),
    "paramiko": ("launcher.hosts",),
    "click": ("launcher.cli",),
    "rich": ("launcher.render", "launcher.cli"),
    "keyring": ("launcher.secrets",),
    "pathspec": ("launcher.walk",),
    "nbformat": ("launcher.notebook",),
    "google": ("launcher.targets.colab",),
    "google_auth_oauthlib": ("launcher.targets.colab",),
    "websocket": ("launcher.targets.colab",),
}
NEVER = {"torch", "torchvision", "boto3", "numpy"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Every imported module, but for those that only type checkers see."""
    tree = ast.parse(path.read_text())
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                inside = ROOT.joinpath(*whole.split("."))
                yield whole if inside.with_suffix(".py").exists() or inside.is_dir() else node.module


def floor(module: str) -> int:
    best, found = -1, -1
    for number, names in enumerate(FLOORS):
        for name in names:
            if (module == name or module.startswith(name + ".")) and len(name) > best:
                best, found = len(name), number
    assert found >= 0, f"{module} has no floor: give it one in {__file__}"
    if module == "launcher":
        return 0
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_from_lower_floors(path: Path) -> None:
    here = name_of(path)
    for module in imports(path):
        if module.split(".")[0] == "launcher" and (here, module) not in KNOWN_UPWARD:
            assert floor(module) <= floor(here), f"{here} imports {module} from a higher floor"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_sdks_are_imported_only_where_they_are_spoken(path: Path) -> None:
    here = name_of(path)
    for module in imports(path):
        top = module.split(".")[0]
        assert top not in NEVER, f"{here} imports {module}"
        if top in SDK_HOMES:
            assert here.startswith(SDK_HOMES[top]), f"{here} imports {module}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "agent").glob("*.py")), ids=name_of)
def test_the_agent_is_standard_library_only_and_reads_on_python_3_8(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 8))
    for module in imports(path):
        top = module.split(".")[0]
        assert top in sys.stdlib_module_names or module.startswith("launcher.agent") or module == "launcher"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_environment_is_read_in_one_place(path: Path) -> None:
    here = name_of(path)
    if here in ("launcher.config", "launcher.demo.train") or here.startswith("launcher.agent"):
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv"):
            raise AssertionError(f"{here}:{node.lineno} reads the environment; launcher.config does that")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_has_at_most_300_lines_and_says_what_it_does(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"

"""What starting costs: commands import only what they need; `--version` not even Click."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Script

HEAVY = (
    *("paramiko", "docker", "boto3", "requests", "urllib3", "rich", "yaml", "cryptography", "asyncio"),
    *("importlib.metadata", "keyring", "packaging", "pathspec", "concurrent.futures", "unittest"),
)

LOADED = """
import sys
from launcher.__main__ import main
sys.argv = ["launcher", *{words!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("MODULES", *sorted(sys.modules))
"""


def loaded(script: Script, *words: str) -> set[str]:
    done = script(LOADED.format(words=list(words)))
    assert done.code == 0, done.err
    return set(done.out.rsplit("MODULES", 1)[1].split())


@pytest.mark.parametrize("line", ["--help", "--version", "ps", "ps --json", "run --help", "status -h"])
def test_heavy_modules_are_not_imported(script: Script, line: str) -> None:
    assert loaded(script, *line.split()) & set(HEAVY) == set()


def test_the_version_is_answered_before_click_is_imported(script: Script) -> None:
    modules = loaded(script, "--version")
    assert not [name for name in modules if name.startswith(("click", "launcher."))] or modules >= {
        "launcher"
    }
    assert "click" not in modules
    assert "launcher.cli" not in modules


def test_help_imports_no_command(script: Script) -> None:
    modules = loaded(script, "--help")
    assert not modules & {
        f"launcher.cli.{name}" for name in ("start", "watch", "stop", "more", "target", "follow")
    }
    assert not modules & {
        "launcher.config",
        "launcher.ledger",
        "launcher.run",
        "dataclasses",
        "sqlite3",
        "json",
    }


def test_the_cli_package_imports_nothing_heavy(script: Script) -> None:
    done = script("import sys, launcher.cli; print(*sys.modules)")
    assert not set(done.out.split()) & {*HEAVY, "click"}


def test_this_check_can_fail(script: Script) -> None:
    done = script("import sys, yaml; print(*sys.modules)")
    assert "yaml" in done.out.split()

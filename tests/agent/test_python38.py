"""The agent runs on Python 3.8 with nothing but its standard library."""

from __future__ import annotations

import ast
import glob
import os
import sys
from pathlib import Path

import pytest

from launcher.hosts.archive import agent_archive
from tests.agent.segment import ROOT, SegmentFolder

MODULES = sorted((ROOT / "launcher" / "agent").glob("*.py"))
NEWER = {  # names that 3.8 does not have
    *("removeprefix", "removesuffix", "file_digest", "pidfd_open", "bit_count", "randbytes", "pairwise"),
    *("is_relative_to", "waitstatus_to_exitcode", "to_thread"),
}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_module_is_python_3_8_and_imports_the_standard_library_only(path: Path) -> None:
    tree = ast.parse(path.read_text(), path.name, feature_version=(3, 8))
    for node in ast.walk(tree):
        for name in imported(node):
            assert name.split(".")[0] in sys.stdlib_module_names or name.startswith("launcher.agent"), name
        used = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        assert used not in NEWER, f"{path.name}:{getattr(node, 'lineno', 0)}: {used}"


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return []


def test_the_check_can_fail() -> None:
    with pytest.raises(SyntaxError):
        ast.parse("match x:\n  case 1: pass", feature_version=(3, 8))
    assert "removeprefix" in NEWER


def interpreters() -> list[str]:
    """The oldest Python that is here, and our own."""
    old = sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/3.8*/bin/python3")))
    return [*old[:1], sys.executable]


@pytest.mark.parametrize("python", interpreters())
def test_the_archive_runs_a_job(segment: SegmentFolder, tmp_path: Path, python: str) -> None:
    archive = tmp_path / "agent.pyz"
    archive.write_bytes(agent_archive()[0])
    save = "mkdir $LAUNCHER_OUT/checkpoints; cd $LAUNCHER_OUT/checkpoints; echo x > a.tmp; mv a.tmp a.pt"
    segment.start(
        f"echo out; echo err >&2; {save}; trap 'exit 75' TERM; while :; do sleep 0.05; done",
        values={"HF_TOKEN": "a-value-of-some-length"},
        agent=[python, "-I", "-B", str(archive), "run"],
    )
    segment.until(lambda: (segment.path / "manifest.jsonl").exists() and segment.manifest("checkpoint"))
    segment.stop()
    end = segment.wait()
    assert (end["state"], end["exit_code"]) == ("cancelled", 75)
    assert segment.said("stdout") == "out\n"
    assert segment.said("stderr").startswith("err\n")  # then the shell's own word on its `sleep`
    assert segment.errors() == ""

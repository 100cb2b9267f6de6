"""Each job's bundle holds all that its scripts import, and one environment on a machine serves all jobs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from launcher.job.parse import load
from launcher.runner.pack import chosen_files

JOBS = Path(__file__).parents[2] / "jobs"
NAMES = sorted(path.parent.name for path in JOBS.glob("*/job.yaml"))


def imported(source: Path) -> set[str]:
    """The first names of all that a script imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_job_brings_each_shared_module_that_it_imports(name: str) -> None:
    files = chosen_files(load(JOBS / name)).files
    brought = {Path(file.path).stem: Path(file.at or JOBS / name / file.path) for file in files}
    shared = {path.stem for path in JOBS.glob("*.py")}
    needed = {module for path in brought.values() if path.suffix == ".py" for module in imported(path)}
    assert needed & shared <= set(brought)


@pytest.mark.parametrize("file", ["requirements.in", "requirements.lock"])
def test_all_jobs_have_the_same_requirements(file: str) -> None:
    assert len({(JOBS / name / file).read_bytes() for name in NAMES}) == 1

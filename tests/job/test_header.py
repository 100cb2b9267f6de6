"""What a script's header and a pyproject.toml ask for."""

from __future__ import annotations

import pytest

from launcher.errors import SpecError
from launcher.job.header import Wanted, choose_python, project, script_header

HEADER = """#!/usr/bin/env python
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch>=2.10",
#   "numpy",
# ]
# [[tool.uv.index]]
# url = "https://index.example/simple"
# ///
import torch
"""


def test_a_header_names_packages_python_and_indexes():
    assert script_header(HEADER, "train.py") == Wanted(
        ("torch>=2.10", "numpy"), ">=3.11", ("https://index.example/simple",)
    )


def test_windows_line_ends_change_nothing():
    assert script_header(HEADER.replace("\n", "\r\n"), "x") == script_header(HEADER, "x")


def test_other_blocks_and_plain_comments_are_no_header():
    assert script_header("# /// other\n# a = 1\n# ///\n", "x") is None
    assert script_header("# script\nimport os\n", "x") is None
    assert script_header("# /// script\n# a = 1\n", "x") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# /// script\n# a = 1\n# ///\n\n# /// script\n# a = 1\n# ///\n", "two `# /// script` headers"),
        ("# /// script\n# a = \n# ///\n", "is not valid TOML"),
        ("# /// script\n# dependencies = 'torch'\n# ///\n", "dependencies must be a list"),
        ("# /// script\n# requires-python = 3.11\n# ///\n", "requires-python must be a text"),
    ],
)
def test_a_damaged_header_is_refused(text, said):
    with pytest.raises(SpecError, match=said):
        script_header(text, "train.py")


def test_a_pyproject_counts_when_it_has_a_project():
    text = '[project]\nname = "x"\nrequires-python = "~=3.12.1"\ndependencies = ["numpy"]\n'
    assert project(text, "pyproject.toml") == Wanted(("numpy",), "~=3.12.1")
    assert project("[tool.ruff]\nline-length = 100\n", "pyproject.toml") is None
    assert project("[project]\nname = 'x'\n", "pyproject.toml") is None


@pytest.mark.parametrize(
    ("requires", "chosen"),
    [(">=3.11", "3.12"), (">=3.13", "3.14"), ("<3.12", "3.11"), ("==3.12.7", "3.12.7"), ("==3.10.*", "3.10"),
     ("~=3.11.2", "3.11"), ("~=3.11", "3.12"), (">=3.10,<3.11", "3.10"), ("!=3.12.*", "3.14"), ("", "3.12"),
     ("!=3.12.1", "3.12"), (">3.11.4,<3.12", "3.11")],
)  # fmt: skip
def test_the_running_minor_version_is_preferred_where_it_is_allowed(requires, chosen):
    assert choose_python(requires, 12) == chosen


@pytest.mark.parametrize("requires", ["three", ">=4", "<3.8", "=>3.11"])
def test_a_version_that_cannot_be_is_refused(requires):
    with pytest.raises(SpecError):
        choose_python(requires, 12)

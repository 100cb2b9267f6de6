"""What a lock is made from, and when it is stale: by content, never by time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.errors import SpecError
from launcher.job.parse import load
from launcher.sources import LockPlan, lock_plan, why_stale
from tests.test_bundle import write

HASH = " --hash=sha256:" + "a" * 64 + "\n"


def job(root: Path, environment: str, **files: str) -> LockPlan:
    """The plan of a job; files are named with `_` for the dot: requirements_in="six"."""
    named = {name.replace("_", "."): text.encode() for name, text in files.items()}
    write(root, {**named, "job.yaml": f"name: x\nrun: 'true'\nenvironment: {{{environment}}}\n".encode()})
    plan = lock_plan(load(str(root)))
    assert plan is not None
    return plan


def locked(plan: LockPlan) -> None:
    plan.path.write_text(
        f"# launcher-lock: 1\n# python: cpython 3.12.16\n# source: sha256:{plan.digest}\nsix==1.17.0{HASH}"
    )


@pytest.mark.parametrize(
    ("named", "there", "lock", "source"),
    [
        ("requirements.lock", "requirements.in", "requirements.lock", "requirements.in"),
        ("requirements.lock", "requirements.txt", "requirements.lock", "requirements.txt"),
        ("requirements.in", "requirements.in", "requirements.lock", "requirements.in"),
        ("requirements.txt", "requirements.txt", "requirements.lock", "requirements.txt"),
        ("gpu.lock", "gpu.in", "gpu.lock", "gpu.in"),
    ],
)
def test_the_lock_lies_beside_its_source(
    tmp_path: Path, named: str, there: str, lock: str, source: str
) -> None:
    plan = job(tmp_path, f"requirements: {named}", **{there.replace(".", "_"): "six\n"})
    assert (plan.path, plan.source) == (tmp_path / lock, tmp_path / source)


def test_a_requirements_txt_with_hashes_is_a_lock_itself(tmp_path: Path) -> None:
    plan = job(tmp_path, "requirements: requirements.txt", requirements_txt=f"six==1.17.0{HASH}")
    assert (plan.path.name, plan.source, why_stale(plan)) == ("requirements.txt", None, "")


def test_a_pyproject_is_locked_into_requirements_lock(tmp_path: Path) -> None:
    project = "[project]\nname = 'x'\nversion = '1'\ndependencies = ['six']\n"
    plan = job(tmp_path, "requirements: requirements.lock", pyproject_toml=project)
    assert (plan.path.name, plan.source) == ("requirements.lock", tmp_path / "pyproject.toml")


def test_a_script_with_a_header_is_locked_beside_it(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": b"# /// script\n# dependencies = ['six']\n# ///\n"})
    plan = lock_plan(load(str(tmp_path / "train.py")))
    assert plan is not None
    assert (plan.path, plan.source) == (tmp_path / "train.lock", tmp_path / "train.py")


def test_a_job_without_requirements_has_no_lock(tmp_path: Path) -> None:
    write(tmp_path, {"job.yaml": b"name: x\nrun: 'true'\n", "requirements.txt": b"six\n"})
    assert lock_plan(load(str(tmp_path))) is None


def test_a_lock_that_is_missing_like_its_source_is_an_error_that_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="does not exist") as caught:
        job(tmp_path, "requirements: requirements.lock")
    assert "requirements.in" in caught.value.hint


def test_without_a_lock_it_is_stale(tmp_path: Path) -> None:
    assert why_stale(job(tmp_path, "requirements: r.lock", r_in="six\n")) == "there is no r.lock yet"


CHANGES = {
    "another package": {"r_in": "six\nclick\n"},
    "another python": {"environment": "requirements: r.lock, python: '3.13'"},
    "another torch": {"environment": "requirements: r.lock, python: '3.12', torch: cu128"},
    "another index": {
        "environment": "requirements: r.lock, python: '3.12', index: [https://example.org/simple]"
    },
    "an included file": {"other_txt": "click\n"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_matters_makes_it_stale(tmp_path: Path, change: str) -> None:
    before = {
        "environment": "requirements: r.lock, python: '3.12'",
        "r_in": "six\n-r other.txt\n",
        "other_txt": "",
    }
    plan = job(tmp_path, **before)
    locked(plan)
    assert why_stale(plan) == ""
    assert why_stale(job(tmp_path, **before | CHANGES[change])) == "r.in or its settings changed"


def test_time_and_comments_do_not_make_it_stale(tmp_path: Path) -> None:
    locked(job(tmp_path, "requirements: r.lock", r_in="six\n"))
    plan = job(tmp_path, "requirements: r.lock", r_in="# why\n\n  six   # small\r\n")
    os.utime(tmp_path / "r.in", (4e9, 4e9))
    assert why_stale(plan) == ""


@pytest.mark.parametrize(
    ("source", "stale"),
    [
        ("six\n", ""),
        ("six>=1.10\n", ""),
        ("Six==1.17.0  # pinned\n--index-url https://example.org\n", ""),
        ("six<1\n", "six<1 of r.in is not in r.lock"),
        ("six\nclick\n", "click of r.in is not in r.lock"),
    ],
)
def test_a_lock_of_another_tool_is_judged_by_its_pins(tmp_path: Path, source: str, stale: str) -> None:
    assert why_stale(job(tmp_path, "requirements: r.lock", r_in=source, r_lock=f"six==1.17.0{HASH}")) == stale


def test_a_lock_alone_is_never_stale(tmp_path: Path) -> None:
    assert why_stale(job(tmp_path, "requirements: r.lock", r_lock=f"six==1.17.0{HASH}")) == ""


def test_a_damaged_lock_is_an_error_and_not_made_anew_silently(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="six has no hash"):
        why_stale(job(tmp_path, "requirements: r.lock", r_in="six\n", r_lock="six==1.17.0\n"))

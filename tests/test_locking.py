"""Locking with the real uv: what stands in the file, what stays, and what is said when it cannot be done."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.errors import LauncherError, SpecError, Unreachable
from launcher.lock import parse_lock
from launcher.locking import LockSettings, compile_command, heavy_in, one_line, write_lock
from launcher.sources import why_stale
from launcher.tools import installed_uv
from tests.servers import interpreter
from tests.servers.interpreter import Served
from tests.test_sources import job

PYTHON = f"python: '{interpreter.MINOR}'"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with interpreter.serving() as served:
        yield served


@pytest.fixture
def settings(tmp_path: Path, served: Served) -> LockSettings:
    return LockSettings(tmp_path / "cache", str(served.table))


def test_a_lock_holds_hashes_the_interpreter_and_what_it_was_made_from(
    tmp_path: Path, settings: LockSettings, served: Served
) -> None:
    plan = job(tmp_path / "job", f"requirements: r.lock, {PYTHON}", r_in="click==8.1.8\nsix==1.17.0\n")
    data = write_lock(plan, settings)
    lock = parse_lock(data)
    assert plan.path.read_bytes() == data
    assert lock.pins == {"click": "8.1.8", "six": "1.17.0", "colorama": lock.pins["colorama"]}
    assert lock.locked_for("x86_64") == {"click": "8.1.8", "six": "1.17.0"}
    assert "colorama" in lock.locked_for("AMD64", system="windows")
    found = lock.interpreter_for(os.uname().machine)
    assert (lock.python, found and found.url, found and found.sha256) == (
        served.version,
        served.url,
        served.sha256,
    )
    assert why_stale(plan) == ""
    assert served.asked == []


def test_uv_itself_installs_from_the_lock(tmp_path: Path, settings: LockSettings) -> None:
    plan = job(tmp_path / "job", f"requirements: r.lock, {PYTHON}", r_in="six==1.17.0\n")
    write_lock(plan, settings)
    target = tmp_path / "site"
    command = [installed_uv(), "pip", "install", "--require-hashes", "--target", target, "-r", plan.path]
    subprocess.run([*command, "--python", sys.executable], check=True, capture_output=True)
    assert (target / "six.py").exists()


def test_locking_twice_gives_the_same_bytes(tmp_path: Path, settings: LockSettings) -> None:
    plan = job(tmp_path / "job", f"requirements: r.lock, {PYTHON}", r_in="six\n")
    assert write_lock(plan, settings) == write_lock(plan, settings)


def test_adding_a_package_leaves_the_versions_that_stand(tmp_path: Path, settings: LockSettings) -> None:
    names = {"environment": f"requirements: r.lock, {PYTHON}"}
    write_lock(job(tmp_path / "job", **names, r_in="six==1.16.0\n"), settings)
    both = job(tmp_path / "job", **names, r_in="six\nclick\n")
    assert parse_lock(write_lock(both, settings)).pins["six"] == "1.16.0"
    upgrade = LockSettings(settings.cache, settings.downloads_json, upgrade=True)
    assert parse_lock(write_lock(both, upgrade)).pins["six"] != "1.16.0"


def test_a_damaged_lock_is_replaced(tmp_path: Path, settings: LockSettings) -> None:
    plan = job(tmp_path / "job", f"requirements: r.lock, {PYTHON}", r_in="six\n", r_lock="damaged")
    assert "six" in parse_lock(write_lock(plan, settings)).pins


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("no-such-package-anywhere-q\n", "no-such-package-anywhere-q was not found"),
        ("six==99\n", "there is no version of six==99"),
        ("six ==\n", "Couldn't parse requirement"),
        ("-e .\n", "cannot be locked"),
    ],
)
def test_what_cannot_be_resolved_is_one_clear_line_and_the_old_lock_stays(
    tmp_path: Path, settings: LockSettings, source: str, said: str
) -> None:
    plan = job(tmp_path / "job", f"requirements: r.lock, {PYTHON}", r_in=source, r_lock="old")
    with pytest.raises(SpecError, match=re.escape(said)) as caught:
        write_lock(plan, settings)
    assert "\n" not in caught.value.message
    assert caught.value.message.startswith("r.in cannot be locked: ")
    assert plan.path.read_text() == "old"
    assert sorted(path.name for path in plan.path.parent.iterdir()) == ["job.yaml", "r.in", "r.lock"]


def test_an_index_that_does_not_answer_is_the_network_not_the_job(
    tmp_path: Path, settings: LockSettings
) -> None:
    environment = f"requirements: r.lock, {PYTHON}, index: ['http://127.0.0.1:9/simple']"
    plan = job(tmp_path / "job", environment, r_in="six\n")
    with pytest.raises(Unreachable, match="a package index did not answer"):
        write_lock(plan, settings)


def test_a_lock_alone_cannot_be_made_anew(tmp_path: Path, settings: LockSettings) -> None:
    line = "six==1.17.0 --hash=sha256:" + "a" * 64
    with pytest.raises(SpecError, match="stands alone"):
        write_lock(job(tmp_path / "job", "requirements: r.lock", r_lock=line), settings)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, settings: LockSettings) -> None:
    plan = job(tmp_path / "job", f"requirements: r.lock, {PYTHON}", r_in="six\n")
    plan.path.mkdir()
    with pytest.raises(LauncherError, match=r"r\.lock"):
        write_lock(plan, settings)


def test_torch_auto_asks_uv_for_nothing_and_other_values_for_their_build(tmp_path: Path) -> None:
    auto = job(tmp_path / "a", "requirements: r.lock", r_in="torch\n")
    assert "--torch-backend" not in compile_command(auto, tmp_path / "out", False)
    cpu = job(tmp_path / "b", "requirements: r.lock, torch: cpu", r_in="torch\n")
    argv = compile_command(cpu, tmp_path / "out", False)
    assert argv[argv.index("--torch-backend") + 1] == "cpu"


def test_packages_with_a_wheel_for_linux_over_50_mb_are_heavy() -> None:
    def package(name: str, size: int, wheel: str) -> str:
        url = f"https://example.org/{name}-1-{wheel}.whl"
        return f'[[packages]]\nname = "{name}"\nwheels = [{{ url = "{url}", size = {size} }}]\n'

    pylock = package("big", 60_000_000, "cp312-cp312-manylinux_2_28_x86_64") + package(
        "small", 40_000_000, "any"
    )
    pylock += package("mac", 90_000_000, "cp312-cp312-macosx_11_0_arm64") + '[[packages]]\nname = "source"\n'
    assert heavy_in(pylock.encode()) == ["big"]


def test_what_uv_says_becomes_one_line() -> None:
    old = "  × No solution found:\n  ╰─▶ Because x was not found,\n      it is \x1b[31mbad\x1b[0m.\n"
    new = "error: No solution found\n  cause: Because x was not found\n"
    assert one_line(old) == "No solution found: Because x was not found, it is bad."
    assert one_line(new) == "No solution found Because x was not found"

"""uv for this machine and for others."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from pathlib import Path

import pytest

from launcher.errors import LauncherError, Unreachable
from launcher.tools import fetch, installed_uv, uv_binary, uv_version

OTHER = "aarch64" if platform.machine() == "x86_64" else "x86_64"


def test_the_installed_uv_serves_machines_like_this_one(tmp_path: Path) -> None:
    tool = uv_binary(platform.system().lower(), platform.machine(), tmp_path)
    said = subprocess.run([tool.path, "--version"], capture_output=True, text=True, check=True).stdout
    assert tool.version in said
    assert str(tool.path) == installed_uv()
    assert tool.sha256 == hashlib.sha256(tool.path.read_bytes()).hexdigest()
    assert list(tmp_path.iterdir()) == []


def test_another_machine_gets_the_same_version_downloaded_once(tmp_path: Path) -> None:
    tool = uv_binary("linux", OTHER, tmp_path)
    assert tool.version == uv_version()
    assert tool.path.read_bytes()[:4] == b"\x7fELF"
    assert os.access(tool.path, os.X_OK)
    before = tool.path.stat().st_mtime_ns
    assert uv_binary("linux", OTHER, tmp_path).path.stat().st_mtime_ns == before


def test_a_machine_that_uv_does_not_serve_is_named(tmp_path: Path) -> None:
    with pytest.raises(LauncherError, match="no uv for plan9 mips"):
        uv_binary("plan9", "mips", tmp_path)


def test_no_answer_is_unreachable() -> None:
    with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:9/x could not be fetched"):
        fetch("http://127.0.0.1:9/x?token=1")

"""Exact interpreters: from the user's table, from uv's, and without the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher import interpreters
from launcher.errors import LauncherError, SpecError
from launcher.interpreters import choose, tables
from launcher.tools import uv_version


def entry(version: str, arch: str = "x86_64", **changes: Any) -> dict[str, dict[str, Any]]:
    major, minor, patch = (int(part) for part in version.split("."))
    numbers = {"major": major, "minor": minor, "patch": patch, "prerelease": "", "variant": None}
    where = {"url": f"https://example.org/{version}-{arch}.tar.gz", "sha256": "a" * 64}
    value = {"name": "cpython", "arch": {"family": arch, "variant": None}, "os": "linux", "libc": "gnu"}
    return {f"cpython-{version}-{arch}-{sorted(changes)}": {**value, **numbers, **where, **changes}}


TABLE = {
    **entry("3.12.9"),
    **entry("3.12.10"),
    **entry("3.12.10", "aarch64"),
    **entry("3.12.11", prerelease="rc1"),
    **entry("3.12.12", os="darwin"),
    **entry("3.12.13", libc="musl"),
    **entry("3.12.14", variant="debug"),
    **entry("3.12.15", name="pypy"),
    **entry("3.1.0"),
}


def test_the_newest_stable_patch_is_chosen_with_all_its_machines() -> None:
    version, found = choose("3.12", None, iter([TABLE]))
    assert version == "3.12.10"
    assert [one.arch for one in found] == ["x86_64", "aarch64"]


def test_what_is_locked_stays_while_it_is_wanted() -> None:
    assert choose("3.12", "3.12.9", iter([TABLE]))[0] == "3.12.9"
    assert choose("3.12.10", "3.12.9", iter([TABLE]))[0] == "3.12.10"


def test_the_users_table_comes_before_that_of_uv() -> None:
    assert choose("3.12", None, iter([entry("3.12.1"), TABLE]))[0] == "3.12.1"
    assert choose("3.12", None, iter([entry("3.11.1"), TABLE]))[0] == "3.12.10"


def test_a_version_that_nobody_has_is_refused() -> None:
    with pytest.raises(SpecError, match=r"no CPython 3\.99"):
        choose("3.99", None, iter([TABLE]))


def test_a_table_is_read_from_a_path_or_a_file_url(tmp_path: Path) -> None:
    path = tmp_path / "my table.json"
    path.write_text(json.dumps(TABLE))
    assert next(tables(str(path), tmp_path)) == TABLE
    assert next(tables(path.as_uri(), tmp_path)) == TABLE


@pytest.mark.parametrize("content", ["", "[]", "not json"])
def test_a_table_that_is_none_is_said(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(LauncherError, match="cannot be read"):
        next(tables(str(tmp_path / "x.json"), tmp_path))


def test_uvs_own_table_has_hashes_and_is_kept(tmp_path: Path) -> None:
    version, found = choose("3.12", None, tables(None, tmp_path))
    assert version.startswith("3.12.")
    assert all(one.url.startswith("https://") and len(one.sha256) == 64 for one in found)
    assert [one.arch for one in found] == ["x86_64", "aarch64"]
    kept = tmp_path / f"uv-{uv_version()}-interpreters.json"
    kept.write_text(json.dumps(TABLE))
    assert choose("3.12", None, tables(None, tmp_path))[0] == "3.12.10"


def test_without_the_archive_uvs_list_gives_versions_without_addresses() -> None:
    version, found = choose("3.12", None, iter([interpreters._listed_by_uv()]))
    assert version.startswith("3.12.")
    assert found == ()

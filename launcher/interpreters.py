"""Knows which CPython builds uv can download: exact versions, addresses and hashes, for the header of a lock.

The table is the user's own where UV_PYTHON_DOWNLOADS_JSON_URL names one, then the one compiled into uv. That
is taken from the source archive of the installed version, because `uv python list` does not show the hashes;
where the archive cannot be had, the list is used, and the lock names a version without an address.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from launcher import tools
from launcher.agent import records
from launcher.errors import LauncherError, SpecError
from launcher.lock import Interpreter

Table = Mapping[str, Mapping[str, Any]]
ARCHITECTURES = ("x86_64", "aarch64")


def choose(wanted: str, keep: str | None, tables: Iterator[Table]) -> tuple[str, tuple[Interpreter, ...]]:
    """The exact version for `3.12` or `3.12.7`, and where Linux machines get it.

    `keep` is the version of the lock so far: it stays while it is what is wanted.
    """
    for table in tables:
        versions = {_version(entry) for entry in table.values() if _usable(entry)}
        fitting = [version for version in versions if f"{version}.".startswith(f"{wanted}.")]
        if keep in fitting:
            return str(keep), _downloads(table, str(keep))
        if fitting:
            newest = max(fitting, key=lambda version: [int(part) for part in version.split(".")])
            return newest, _downloads(table, newest)
    raise SpecError(f"uv knows no CPython {wanted}", "set environment.python to a version like 3.12")


def tables(own: str | None, cache: Path) -> Iterator[Table]:
    """The user's table first (a path or URL), then uv's."""
    if own:
        yield _own(own)
    try:
        yield _of_uv(cache)
    except LauncherError:  # no network: versions without hashes are better than no lock
        yield _listed_by_uv()


def _own(where: str) -> Table:
    parts = urlsplit(where)
    try:
        if parts.scheme in ("http", "https"):
            return _parsed(tools.fetch(where))
        return _parsed(Path(url2pathname(parts.path) if parts.scheme == "file" else where).read_bytes())
    except (OSError, ValueError) as error:
        raise LauncherError(
            f"the table of interpreters {where} cannot be read: {error}", "see UV_PYTHON_DOWNLOADS_JSON_URL"
        ) from error


def _of_uv(cache: Path) -> Table:
    """Kept on this disk for each version of uv."""
    path = cache / f"uv-{tools.uv_version()}-interpreters.json"
    if not path.is_file():
        with tarfile.open(fileobj=io.BytesIO(tools.release_file(".tar.gz")), mode="r:gz") as archive:
            found = (m for m in archive if m.name.endswith("/download-metadata.json"))
            data = next((file.read() for m in found if (file := archive.extractfile(m))), None)
        if data is None:
            raise LauncherError("this uv's source archive has no table of interpreters")
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        records.write_durably(str(path), data)
    return _parsed(path.read_bytes())


def _listed_by_uv() -> Table:
    """The same table from the binary, without hashes."""
    argv = [tools.installed_uv(), "python", "list", "--only-downloads", "--all-versions", "--all-arches"]
    done = subprocess.run([*argv, "--output-format", "json"], capture_output=True, check=False)
    if done.returncode != 0:
        raise LauncherError(
            "uv does not list its interpreters: " + done.stderr.decode("utf-8", "replace")[:200]
        )
    return {
        entry["key"]: {
            "name": entry["implementation"],
            "arch": {"family": entry["arch"]},
            "os": entry["os"],
            "libc": entry["libc"],
            **entry["version_parts"],
            "prerelease": "" if entry["version"].replace(".", "").isdigit() else "pre",
            "variant": None if entry["variant"] == "default" else entry["variant"],
        }
        for entry in json.loads(done.stdout)
    }


def _parsed(data: bytes) -> Table:
    table = json.loads(data)
    if not isinstance(table, dict):
        raise ValueError("not an object")
    return table


def _usable(entry: Mapping[str, Any]) -> bool:
    """Stable, plain CPython for Linux with glibc."""
    arch = entry.get("arch") or {}
    return (
        (entry.get("name"), entry.get("os"), entry.get("libc")) == ("cpython", "linux", "gnu")
        and not entry.get("prerelease")
        and not entry.get("variant")
        and arch.get("family") in ARCHITECTURES
        and not arch.get("variant")
    )


def _version(entry: Mapping[str, Any]) -> str:
    return f"{entry['major']}.{entry['minor']}.{entry['patch']}"


def _downloads(table: Table, version: str) -> tuple[Interpreter, ...]:
    found = {
        entry["arch"]["family"]: Interpreter("linux", entry["arch"]["family"], entry["url"], entry["sha256"])
        for entry in table.values()
        if _usable(entry) and _version(entry) == version and entry.get("sha256")
    }
    return tuple(found[arch] for arch in ARCHITECTURES if arch in found)

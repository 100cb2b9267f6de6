"""A Docker base image with a shell, five small programs and the C library, and nothing else: no Python, no curl."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.servers.base_image import CA_PATH, certificates
from tests.servers.programs import docker

PROGRAMS = {"dash": "sh", "cat": "cat", "sed": "sed", "mv": "mv", "rm": "rm", "mkdir": "mkdir"}
TAG = "launcher-test/bare:1"


@contextlib.contextmanager
def bare() -> Iterator[str]:
    """The tag of the image, while it exists."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        for program, name in PROGRAMS.items():
            _install(root, Path(shutil.which(program) or f"/bin/{program}"), name)
        for needed in ("tmp", "etc", "proc", "dev", "sys"):
            (root / needed).mkdir()
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        changes = ["--change", "ENV PATH=/bin"]
        for key, value in certificates().items():
            changes += ["--change", f"ENV {key}={value}"]
            (root / CA_PATH[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(os.environ["SSL_CERT_FILE"], root / CA_PATH[1:])
        archive = Path(folder) / "bare.tar"
        subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
        docker("import", *changes, str(archive), TAG)
    try:
        yield TAG
    finally:
        docker("rmi", "--force", TAG)


def _install(root: Path, program: Path, name: str) -> None:
    """A program and the shared libraries that it needs, where its loader looks for them; libm for Python."""
    (root / "bin").mkdir(parents=True, exist_ok=True)
    shutil.copy2(program.resolve(), root / "bin" / name)
    shown = subprocess.run(["ldd", program.resolve()], capture_output=True, text=True, check=True).stdout
    libraries = [word for word in shown.split() if word.startswith("/")]
    libc = next(Path(one) for one in libraries if "libc.so" in one)
    also = [
        libc.with_name(other)
        for other in (
            "libm.so.6",
            "libdl.so.2",
            "libpthread.so.0",
            "librt.so.1",
            "libgcc_s.so.1",
            "libutil.so.1",
        )
    ]
    for library in [*map(Path, libraries), *(one for one in also if one.exists())]:
        (root / str(library)[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(library.resolve(), root / str(library)[1:])

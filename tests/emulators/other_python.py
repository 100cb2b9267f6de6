"""A Python of another version than this one, as platforms have their own: this machine's, or one fetched for it."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from tests.servers.programs import need, output

WANTED = ("3.12", "3.13", "3.14")


def other_python() -> Path:
    """Its program; nothing is installed outside `.cache/`."""
    return _found() or _fetched()


def _found() -> Path | None:
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in WANTED:
        if version == f"{sys.version_info.major}.{sys.version_info.minor}":
            continue
        found = [*sorted(pyenv.glob(f"{version}.*/bin/python{version}")), shutil.which(f"python{version}")]
        for one in found:
            if one and subprocess.run([one, "-c", ""], capture_output=True, check=False).returncode == 0:
                return Path(one)
    return None


def _fetched() -> Path:
    """The distribution's next release's, which finds that release's own C library beside itself."""
    from tests.emulators.colab.official import fetched_python

    *_, binary = fetched_python()
    own = Path(f"{binary}-anywhere")
    with open(f"{binary}.lock", "w") as mutex:
        fcntl.flock(mutex, fcntl.LOCK_EX)
        if not own.exists():
            need(patchelf="patchelf")
            library = Path(binary).parents[1] / f"lib/{platform.machine()}-linux-gnu"
            loader = next(library.glob("ld-linux-*.so.*"))
            made = shutil.copy2(binary, f"{own}.tmp")
            words = ["--set-interpreter", str(loader), "--force-rpath", "--set-rpath", str(library), made]
            output(["patchelf", *words])
            Path(made).replace(own)
    return own

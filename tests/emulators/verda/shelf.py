"""The images that machines' engines have from the start: loaded by the first machine, hard links for the others."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.servers.gpu_server import OWNER_LABEL
from tests.servers.programs import docker, output

ENGINE = "/var/lib/docker"
LAYERS = "overlay2"  # never written again; all else is copied
MOUNTED = f'{{{{range .Mounts}}}}{{{{if eq .Destination "{ENGINE}"}}}}{{{{.Source}}}}{{{{end}}}}{{{{end}}}}'


class Shelf:
    """One for each emulator; without root's rights it stays empty, and each machine loads its own."""

    def __init__(self) -> None:
        self._volumes: dict[tuple[str, ...], str] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def turn(self, machine: str, images: tuple[str, ...]) -> Iterator[bool]:
        """Whether this machine, not yet started, has got them; if not, others wait until it has loaded them."""
        with self._lock:
            volume = self._volumes.get(images)
            if volume is None:
                yield False
                return
        _copy(_place(volume), _engine_of(machine))
        yield True

    def keep(self, machine: str, images: tuple[str, ...]) -> None:
        """What this machine has loaded; within its turn."""
        if os.geteuid() != 0:
            return
        volume = docker("volume", "create", f"--label={OWNER_LABEL}={os.getpid()}")
        docker("pause", machine)
        try:
            _copy(_engine_of(machine), _place(volume))
        finally:
            docker("unpause", machine)
        self._volumes[images] = volume

    def clear(self) -> None:
        for volume in self._volumes.values():
            docker("volume", "rm", "--force", volume)


def sweep() -> None:
    """Remove what test runs have left that were killed."""
    columns = f'{{{{.Name}}}} {{{{.Label "{OWNER_LABEL}"}}}}'
    shown = docker("volume", "ls", "--filter", f"label={OWNER_LABEL}", "--format", columns)
    for volume, owner in (line.split() for line in shown.splitlines()):
        if not os.path.exists(f"/proc/{owner}"):
            docker("volume", "rm", "--force", volume)


def _copy(source: Path, sink: Path) -> None:
    names = sorted(one.name for one in source.iterdir() if one.name != LAYERS)
    output(["cp", "--archive", *(str(source / name) for name in names), str(sink)])
    output(["cp", "--archive", "--link", str(source / LAYERS), str(sink)])


def _place(volume: str) -> Path:
    return Path(docker("volume", "inspect", "--format", "{{.Mountpoint}}", volume))


def _engine_of(machine: str) -> Path:
    return Path(docker("inspect", "--format", MOUNTED, machine))

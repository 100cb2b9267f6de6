"""What lies on the data volumes of real machines: sparse files behind loop devices, raw as Verda delivers them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from tests.servers.programs import ProgramFailed, output

PREFIX = "launcher-verda-"


class Disk:
    """A raw disk, a block device on each machine that it is attached to when that is made."""

    def __init__(self, path: Path, size_gb: int) -> None:
        self._path = path
        self._device = ""
        with open(path, "wb") as file:
            file.truncate(size_gb * 10**9)

    def device_option(self, letter: str) -> str:
        """For `docker create`."""
        self._device = self._device or output(["losetup", "--find", "--show", str(self._path)]).strip()
        return f"--device={self._device}:/dev/vd{letter}"

    def destroy(self) -> None:
        """May be called any number of times."""
        if self._device:
            _free(self._device)
            self._device = ""
        self._path.unlink(missing_ok=True)


def sweep() -> None:
    """Give back the loop devices of test runs that were killed."""
    if not Path("/dev/loop-control").exists():
        return
    for line in output(["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"]).splitlines():
        device, _, path = line.strip().partition(" ")
        _, marked, rest = path.partition(PREFIX)
        if marked and not os.path.exists(f"/proc/{rest.partition('-')[0]}"):
            _free(device)


def _free(device: str) -> None:
    with contextlib.suppress(ProgramFailed):
        output(["losetup", "--detach", device])

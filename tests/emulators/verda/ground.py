"""What real machines stand on: an engine, an image, room for disks, and a way to the API from where they are."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.emulators.verda import disks, lifecycle
from tests.emulators.verda.box import Box, Ways
from tests.emulators.verda.objects import Volume
from tests.emulators.verda.world import World
from tests.servers import engine, gpu_image, gpu_server
from tests.servers.programs import docker

Listen = Callable[[str], int]  # address: port
GATEWAY = "{{(index .IPAM.Config 0).Gateway}}"
BRIDGE = "172.17.0.1"


@contextlib.contextmanager
def laid(world: World, api_port: int, listen: Listen) -> Iterator[Callable[[], Box]]:
    """What makes machines; `listen` opens the API at a further address."""
    folder = Path(tempfile.mkdtemp(prefix=f"{disks.PREFIX}{os.getpid()}-"))
    made: list[disks.Disk] = []

    def new_disk(volume: Volume) -> disks.Disk:
        made.append(disks.Disk(folder / f"{volume.id}.img", volume.size))
        return made[-1]

    try:
        with engine.running():
            gpu_server.sweep()
            disks.sweep()
            gpu_image.ensure()
            world.new_disk = new_disk
            address = docker("network", "inspect", "--format", GATEWAY, "bridge") or BRIDGE
            ways = Ways(api_port, listen(address), lambda box: _went_off(world, box))
            yield lambda: Box(ways)
    finally:
        for disk in made:
            disk.destroy()
        shutil.rmtree(folder, ignore_errors=True)


def _went_off(world: World, box: Box) -> None:
    with world.now():
        for one in world.live.values():
            if one.machine is box:
                lifecycle.went_off(world, one)

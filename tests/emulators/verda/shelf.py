"""The images that machines' engines have from the start: loaded once, kept beside the test bed's own images.

Without root's rights nothing is kept, and each machine loads its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from tests.servers import base_image, gpu_image
from tests.servers.programs import CACHE_FOLDER, docker, output

PREFIX = "launcher-test-verda-images-"
ENGINE = "/var/lib/docker"
LAYERS = "overlay2"  # never written again and so linked; all else is copied
COMPLETE = "complete"
MOUNTED = f'{{{{range .Mounts}}}}{{{{if eq .Destination "{ENGINE}"}}}}{{{{.Source}}}}{{{{end}}}}{{{{end}}}}'


@contextlib.contextmanager
def turn(machine: str, images: tuple[str, ...]) -> Iterator[bool]:
    """Whether this machine, not yet started, has got them; if not, others wait until it has loaded and kept them."""
    with open(os.path.join(CACHE_FOLDER, "verda-images.lock"), "w") as mutex:
        fcntl.flock(mutex, fcntl.LOCK_EX)
        kept = _place(_volume(images))
        if kept is not None and (kept / COMPLETE).exists():
            fcntl.flock(mutex, fcntl.LOCK_SH)
            _copy(kept, _engine_of(machine))
            yield True
        else:
            yield False


def keep(machine: str, images: tuple[str, ...]) -> None:
    """What this machine has loaded, in the place of all that was kept before; within its turn."""
    if os.geteuid() != 0:
        return
    for old in docker("volume", "ls", "--quiet", "--filter", f"name={PREFIX}").split():
        docker("volume", "rm", "--force", old)
    kept = _place(docker("volume", "create", _volume(images)))
    assert kept is not None
    docker("pause", machine)
    try:
        _copy(_engine_of(machine), kept)
    finally:
        docker("unpause", machine)
    (kept / COMPLETE).touch()


def source_of(image: str) -> str:
    """The name of an image, or of what stands for it, in this machine's own engine."""
    return image if base_image.exists(image) else base_image.ensure()


def _volume(images: tuple[str, ...]) -> str:
    ids = [docker("image", "inspect", "--format", "{{.Id}}", source_of(image)) for image in images]
    return PREFIX + hashlib.sha256(repr((images, ids, gpu_image.ensure())).encode()).hexdigest()[:12]


def _place(volume: str) -> Path | None:
    """Where a volume lies; None if there is none."""
    if os.geteuid() != 0 or not docker("volume", "ls", "--quiet", "--filter", f"name={volume}"):
        return None
    return Path(docker("volume", "inspect", "--format", "{{.Mountpoint}}", volume))


def _engine_of(machine: str) -> Path:
    return Path(docker("inspect", "--format", MOUNTED, machine))


def _copy(source: Path, sink: Path) -> None:
    names = sorted(one.name for one in source.iterdir() if one.name not in (LAYERS, COMPLETE))
    output(["cp", "--archive", *(str(source / name) for name in names), str(sink)])
    output(["cp", "--archive", "--link", str(source / LAYERS), str(sink)])

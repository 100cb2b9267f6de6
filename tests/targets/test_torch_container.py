"""The locked torch in a container, for a user who is not root: loaders with workers have their shared memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.laptop import Laptop
from tests.servers import interpreter
from tests.servers.programs import docker

UID = 12345
CHECKOUT = Path(__file__).parents[2]
KEPT = "launcher-test/torch:1"  # 6 GB: the next run of the tests finds its layers
BUILD_S = 900  # 3 GB come from the package index
ENGINE_SHM = 64 << 20  # what engines give

LOAD = """
import getpass, json, os, time
import torch
from torch.utils.data import DataLoader, Dataset

BATCH, BATCHES = 64, 10


class Pictures(Dataset):
    def __len__(self):
        return BATCH * BATCHES

    def __getitem__(self, i):
        return torch.full((3, 224, 224), float(i))


def used():
    shm = os.statvfs("/dev/shm")
    return (shm.f_blocks - shm.f_bfree) * shm.f_frsize


loader = iter(DataLoader(Pictures(), batch_size=BATCH, num_workers=2, prefetch_factor=4))
first, most, end = next(loader), 0, time.monotonic() + 60
while used() < 200 << 20 and time.monotonic() < end:
    time.sleep(0.1)
most = used()
total = first[:, 0, 0, 0].sum() + sum(batch[:, 0, 0, 0].sum() for batch in loader)
print(json.dumps({"in_flight": most, "total": total.item(), "user": getpass.getuser(), "uid": os.getuid(),
                  "torch": torch.__version__, "threads": torch.get_num_threads()}))
"""


@pytest.fixture(scope="module")
def ordinary() -> Iterator[Laptop]:
    """A laptop of a user who is not root, with launcher installed in a folder of theirs."""
    folder = Path(tempfile.mkdtemp(prefix="launcher-user-"))
    laptop = Laptop(folder / "home")
    try:
        with tarfile.open(interpreter.archive()) as archive:
            archive.extractall(folder, filter="fully_trusted")
        uv = [sys.executable, "-m", "uv", "--quiet"]
        python = folder / "env/bin/python"
        subprocess.run([*uv, "venv", "--python", folder / "python/bin/python3", folder / "env"], check=True)
        subprocess.run(
            [*uv, "pip", "install", "--link-mode", "copy", "--python", python, CHECKOUT], check=True
        )
        folder.chmod(0o755)
        laptop.env |= {"UV_CACHE_DIR": str(laptop.folder / "cache"), "USER": "ada", "LOGNAME": "ada"}
        group = str(os.stat("/var/run/docker.sock").st_gid)
        as_user = [
            "setpriv",
            f"--reuid={UID}",
            f"--regid={UID}",
            f"--groups={group}",
            "--inh-caps=-all",
            "--",
        ]
        laptop.command = [*as_user, str(python), "-m", "launcher"]
        yield laptop
    finally:
        laptop.launcher("release", "--all", "--force")
        laptop.close()
        shutil.rmtree(folder, ignore_errors=True)


def own(laptop: Laptop) -> None:
    for path in (laptop.folder, *laptop.folder.rglob("*")):
        os.chown(path, UID, UID)


def keep(image: str) -> None:
    old = docker("images", "--quiet", "--no-trunc", KEPT)
    docker("tag", image, KEPT)
    if old not in ("", image):
        docker("rmi", "--force", old)


@pytest.mark.timeout(BUILD_S + 120)
def test_a_loader_with_workers_has_room_for_its_batches(ordinary: Laptop, base_image: str) -> None:
    job = ordinary.job(
        "load",
        LOAD,
        environment={"python": "3.11", "requirements": "requirements.lock"},
        env={"OMP_NUM_THREADS": "1"},
    )
    shutil.copy(CHECKOUT / "jobs/finetune/requirements.lock", job)
    own(ordinary)
    ordinary.ok("target", "add", "here", "local", "--docker", "always")

    done = ordinary.ok("run", str(job), "--on", "here", timeout=BUILD_S)

    keep(ordinary.segment()["image"])
    seen = json.loads(done.out.splitlines()[-1])
    assert seen["in_flight"] > 2 * ENGINE_SHM
    assert seen["total"] == sum(range(640))
    assert (seen["uid"], seen["threads"]) == (UID, 1)
    assert f"torch=={seen['torch'].partition('+')[0]}" in (job / "requirements.lock").read_text()
    assert ordinary.segment()["fingerprint"]["portable"]["torch_cuda"]
    home = ordinary.work / "runs" / ordinary.status()["id"]
    assert {path.stat().st_uid for path in (home, *home.rglob("*"))} == {UID}
    there = ordinary.folder / ".launcher"
    assert {path.lstat().st_uid for path in (there, *there.rglob("*"))} == {UID}

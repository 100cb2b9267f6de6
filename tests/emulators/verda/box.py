"""The real kind of machine: a container with an sshd and a Docker Engine, at an address of its own, port 22."""

from __future__ import annotations

import importlib.resources
import io
import json
import os
import queue
import subprocess
import tarfile
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from tests.emulators.verda import shelf
from tests.emulators.verda.disks import Disk
from tests.emulators.verda.machines import Plan
from tests.emulators.verda.waiting import wait_until
from tests.servers import base_image, gpu_image
from tests.servers.fake_gpu import HOOK, FakeGPU, nvidia_smi
from tests.servers.gpu_server import CONTAINER, OWNER_LABEL
from tests.servers.programs import ProgramFailed, docker, find

POWER = ("poweroff", "halt", "shutdown", "reboot")


@dataclass(frozen=True)
class Ways:
    """What a machine needs to know of the cloud around it."""

    api_port: int  # of the API's address, on loopback
    host_port: int  # where the API listens for machines
    went_off: Callable[[Box], None]  # told when someone on the machine has powered it off


class Box:
    """Its orders are carried out one after the other by a thread of its own."""

    def __init__(self, ways: Ways) -> None:
        self.name = f"launcher-test-verda-{uuid.uuid4().hex[:8]}"
        self.ip: str | None = None
        self.ready, self.problem = False, ""
        self._ways = ways
        self._plan: Plan | None = None
        self._up = self._made = False
        self._orders: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def order(self, plan: Plan) -> None:
        self.ready = False
        self._orders.put(lambda: self._order(plan))

    def open(self) -> None:
        self._orders.put(lambda: self._exec("mkdir -p /run/box && touch /run/box/open"))

    def run_script(self) -> None:
        if self._plan and self._plan.script:
            self._orders.put(lambda: self._exec("/usr/local/sbin/first-boot", background=True))

    def freeze(self) -> None:
        self._orders.put(lambda: self._docker("pause", self.name))

    def power_off(self) -> None:
        self._orders.put(self._power_off)

    def power_on(self) -> None:
        self._orders.put(self._start)

    def destroy(self) -> None:
        self._orders.put(self._destroy)

    def join(self) -> None:
        """No order is taken after this."""
        self._orders.put(None)
        self._thread.join()

    def settle(self) -> None:
        """Wait until all that was ordered is done."""
        done = threading.Event()
        self._orders.put(done.set)
        assert done.wait(120)

    def run(self, command: str) -> str:
        """A shell command on the machine, past its sshd; what it wrote to stdout."""
        return docker("exec", self.name, "sh", "-c", command)

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            try:
                order()
            except (ProgramFailed, OSError, AssertionError) as e:
                self.problem = self.problem or str(e)

    def _order(self, plan: Plan) -> None:
        first, self._plan = not self._made, plan
        if first:
            self._make(plan)
        if first and plan.images and has_docker(plan):
            self._start_with(plan.images)
        else:
            self._start()
        if not first:
            self._admit(plan.keys)
        self.ready = True

    def _make(self, plan: Plan) -> None:
        label = f"--label={OWNER_LABEL}={os.getpid()}"
        devices = [one.device_option("bcdefgh"[n]) for n, one in enumerate(_files(plan))]
        named = ["--name", self.name, f"--hostname={plan.hostname}", "--entrypoint=docker-init"]
        image = gpu_image.ensure()
        docker("create", *named, label, *CONTAINER, *devices, image, "--", "/usr/local/sbin/verda-box")
        self._made = True
        docker("cp", "-", f"{self.name}:/", data=self._files(plan))

    def _files(self, plan: Plan) -> bytes:
        route = json.dumps([self._ways.api_port, self._ways.host_port])
        settings = "".join(f'{name}="{value}"\n' for name, value in base_image.certificates().items())
        files = {
            "usr/local/sbin/verda-box": guest("box.sh"),
            "usr/local/sbin/first-boot": guest("first_boot.sh"),
            "usr/local/bin/systemctl": guest("systemctl.py"),
            "usr/local/bin/service": '#!/bin/sh\nexec systemctl "$2" "$1"\n',
            "usr/local/lib/verda-box/route.py": guest("route.py"),
            "etc/verda-box/route.json": route,
            "etc/environment": settings,
            "var/lib/cloud/instance/scripts/part-001": plan.script,
            "root/.ssh/authorized_keys": "".join(key + "\n" for key in plan.keys),
            **{f"usr/local/bin/{name}": guest("power.sh") for name in POWER},
            **_drivers(plan),
        }
        if not has_docker(plan):
            files["etc/verda-box/no-docker"] = ""
        if not plan.fate.host_key:
            files["etc/verda-box/other-keys"] = ""
        return _archive(files)

    def _start(self) -> None:
        if self._up:
            return
        docker("start", self.name)
        self._up = True
        self.ip = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", self.name)
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """Notice when someone on the machine has powered it off."""
        subprocess.run([find("docker") or "docker", "wait", self.name], capture_output=True, check=False)
        self._orders.put(self._ended)

    def _ended(self) -> None:
        if self._up and docker("inspect", "--format", "{{.State.Running}}", self.name) != "true":
            self._up = False
            self._ways.went_off(self)

    def _power_off(self) -> None:
        if self._up:
            self._up = False
            self._docker("kill", self.name)

    def _destroy(self) -> None:
        self._up = False
        if self._made:
            self._made = False
            docker("rm", "--force", "--volumes", self.name)

    def _admit(self, keys: tuple[str, ...]) -> None:
        """What a machine that boots from an OS volume gets: new keys, no start-up script."""
        text = "\n".join(keys) + "\n"
        docker("exec", "-i", self.name, "sh", "-c", "cat > /root/.ssh/authorized_keys", data=text.encode())

    def _start_with(self, images: tuple[str, ...]) -> None:
        with shelf.turn(self.name, images) as there:
            self._start()
            if not there:
                for image in images:
                    self._load(image)
                shelf.keep(self.name, images)

    def _load(self, image: str) -> None:
        wait_until(lambda: "Server Version" in self.run("docker info 2>/dev/null || true"))
        source = shelf.source_of(image)
        program = find("docker") or "docker"
        with subprocess.Popen([program, "save", source], stdout=subprocess.PIPE) as save:
            load = [program, "exec", "-i", self.name, "docker", "load", "-q"]
            subprocess.run(load, stdin=save.stdout, stdout=subprocess.DEVNULL, check=True)
        if source != image:
            self.run(f"docker tag {source} {image} && docker rmi {source}")

    def _exec(self, command: str, background: bool = False) -> None:
        if self._up:
            docker("exec", *(["--detach"] if background else []), self.name, "sh", "-c", command)

    def _docker(self, *arguments: str) -> None:
        if self._made:
            docker(*arguments)


def has_docker(plan: Plan) -> bool:
    return plan.image.endswith("-docker") and plan.fate.docker


def guest(name: str) -> str:
    """A program that stands on the machine."""
    return importlib.resources.files("tests.emulators.verda.guest").joinpath(name).read_text()


def _drivers(plan: Plan) -> dict[str, str]:
    """FAKE ones: they answer like NVIDIA's, and nothing can compute."""
    if not plan.type.gpus or not plan.fate.gpu or "cuda" not in plan.image:
        return {}
    kind = plan.type
    gpu = FakeGPU(
        f"FAKE NVIDIA {kind.gpu}", memory_mb=kind.gpu_gb * 1024, compute_cap=kind.cuda, count=kind.gpus
    )
    return {"usr/local/bin/nvidia-smi": nvidia_smi(gpu), "usr/local/bin/nvidia-container-runtime-hook": HOOK}


def _files(plan: Plan) -> list[Disk]:
    return [one for one in plan.disks if isinstance(one, Disk)]


def _archive(files: dict[str, str]) -> bytes:
    """A tar of texts; all may be executed but what is secret."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in files.items():
            data = text.encode()
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o600 if "authorized" in name else 0o755
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()

"""A "GPU server": a container with an sshd and a Docker Engine of its own, on a local port.

By hand: `python -m tests.servers.gpu_server [--fake-gpu]` prints its address and waits for Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from types import TracebackType

from tests.servers import base_image, engine, gpu_image
from tests.servers.fake_gpu import HOOK, FakeGPU, nvidia_smi
from tests.servers.programs import ProgramFailed, docker, find, need, output

OWNER_LABEL = "launcher-test.owner"
START_TIMEOUT_S = 60
CONTAINER = [  # an engine inside needs all this; --privileged is not to be had everywhere
    *("--cap-add=ALL", "--cap-drop=SYS_RESOURCE", "--security-opt=seccomp=unconfined"),
    *("--security-opt=apparmor=unconfined", "--tmpfs=/run:exec", "--volume=/var/lib/docker"),
]


class GPUServer:
    """`with GPUServer() as server:` a machine with Docker, reached as `ssh://trainer@127.0.0.1:PORT`."""

    def __init__(self, user: str = "trainer", docker_engine: bool = True) -> None:
        self.user = user
        self.host = "127.0.0.1"
        self.port = free_port()
        self.name = f"launcher-test-{uuid.uuid4().hex[:8]}"
        self._docker_engine = docker_engine
        self._folder = tempfile.mkdtemp(prefix="launcher-gpu-server-")
        self._cut: list[list[str]] = []
        self.key_path = os.path.join(self._folder, "key")
        self.known_hosts_path = os.path.join(self._folder, "known_hosts")

    def __enter__(self) -> GPUServer:
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()
        with contextlib.suppress(ProgramFailed):
            docker("rm", "--force", "--volumes", self.name)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def address(self) -> str:
        return f"ssh://{self.user}@{self.host}:{self.port}"

    @property
    def host_key(self) -> str:
        """The host's public key as `ssh-ed25519 AAAA…`."""
        return " ".join(self.run("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:2])

    @property
    def fingerprint(self) -> str:
        """The host key's `SHA256:…`, as `target add --host-key` wants it."""
        return output(["ssh-keygen", "-lf", "-"], data=self.host_key.encode()).split()[1]

    @property
    def known_hosts_line(self) -> str:
        return f"[{self.host}]:{self.port} {self.host_key}\n"

    def run(self, command: str, user: str = "root", data: bytes | None = None) -> str:
        """A shell command on the server, past its sshd; what it wrote to stdout."""
        return docker("exec", "-i", "--user", user, self.name, "sh", "-c", command, data=data)

    def ssh(self, *command: str, user: str = "") -> str:
        """A command on the server through the real ssh."""
        return output([*self.ssh_command(user), *command])

    def ssh_command(self, user: str = "") -> list[str]:
        """The ssh command that reaches this server without questions."""
        options = [
            "IdentitiesOnly=yes",
            "BatchMode=yes",
            "ConnectTimeout=4",
            f"UserKnownHostsFile={self.known_hosts_path}",
        ]
        words = [word for option in options for word in ("-o", option)]
        return [
            "ssh",
            "-F",
            "none",
            *words,
            "-i",
            self.key_path,
            "-p",
            str(self.port),
            f"{user or self.user}@{self.host}",
        ]

    def stop_docker(self) -> None:
        """End the server's engine, and with it its containers."""
        self.run("touch /etc/docker/off; pkill -x dockerd; true")
        _wait_for(lambda: not self._docker_answers(), "dockerd to end")

    def start_docker(self) -> None:
        """Start the server's engine and wait until it answers."""
        self.run("rm -f /etc/docker/off")
        _wait_for(self._docker_answers, "dockerd")

    def cut_network(self, how: str = "drop") -> None:
        """`drop`: nothing reaches the sshd or comes back; `reject`: each packet is answered with a reset."""
        end = ["DROP"] if how == "drop" else ["REJECT", "--reject-with", "tcp-reset"]
        need(iptables="iptables")
        for side in ("--dport", "--sport") if how == "drop" else ("--dport",):
            rule = ["INPUT", "-i", "lo", "-p", "tcp", side, str(self.port), "-j", *end]
            output(["iptables", "-w", "-I", *rule])
            self._cut.append(rule)

    def restore(self) -> None:
        """Undo cut_network(); may be called any number of times."""
        while self._cut:
            output(["iptables", "-w", "-D", *self._cut.pop()])

    def reboot(self) -> None:
        """A power cut: every process dies at once, /run and shared memory are empty, the disk stays."""
        docker("kill", self.name)
        docker("start", self.name)
        self._wait()

    def fake_gpu(self, gpu: FakeGPU | None = None) -> None:
        """Put a FAKE GPU in: nvidia-smi answers and `--gpus` is accepted; nothing can compute on it."""
        self._put("/usr/local/bin/nvidia-smi", nvidia_smi(gpu or FakeGPU()))
        self._put("/usr/local/bin/nvidia-container-runtime-hook", HOOK)
        if self._docker_engine:
            self.stop_docker()
            self.start_docker()  # it looks for the hook when it starts

    def load_image(self, name: str = base_image.STAND_IN_FOR) -> None:
        """Put the base image into the server's engine, under this name."""
        programs = [find("docker") or "docker", "save", base_image.ensure()]
        with subprocess.Popen(programs, stdout=subprocess.PIPE) as save:
            load = [programs[0], "exec", "-i", self.name, "docker", "load", "-q"]
            subprocess.run(load, stdin=save.stdout, stdout=subprocess.DEVNULL, check=True)
        if name != base_image.TAG:
            self.run(f"docker tag {base_image.TAG} {name} && docker rmi {base_image.TAG}")

    def _start(self) -> None:
        need(ssh="openssh-client", **{"ssh-keygen": "openssh-client"})
        output(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key_path])
        publish = f"--publish={self.host}:{self.port}:22"
        label = f"--label={OWNER_LABEL}={os.getpid()}"
        settings = [f"--hostname={self.name}", label, publish]
        docker("create", "--name", self.name, *settings, *CONTAINER, gpu_image.ensure())
        docker("start", self.name)
        self._admit()
        if not self._docker_engine:
            self.run("touch /etc/docker/off; pkill -x dockerd; true")
        self._wait()

    def _admit(self) -> None:
        with open(self.key_path + ".pub") as file:
            key = file.read()
        _wait_for(lambda: bool(self.host_key), "the host key")
        with open(self.known_hosts_path, "w") as file:
            file.write(self.known_hosts_line)
        for home in ("/root", "/home/trainer"):
            self._put(f"{home}/.ssh/authorized_keys", key, "600")
        self.run("chown -R trainer:trainer /home/trainer/.ssh; chmod 700 /root/.ssh /home/trainer/.ssh")
        settings = "".join(f'{name}="{value}"\n' for name, value in base_image.certificates().items())
        self._put("/etc/environment", settings, "644")

    def _put(self, path: str, text: str, mode: str = "755") -> None:
        self.run(f"mkdir -p $(dirname {path}); cat > {path}; chmod {mode} {path}", data=text.encode())

    def _wait(self) -> None:
        if self._docker_engine:
            _wait_for(self._docker_answers, "dockerd")
        _wait_for(lambda: self.ssh("true") == "", "sshd")

    def _docker_answers(self) -> bool:
        return "Server Version" in self.run("docker info 2>/dev/null || true")


def sweep() -> None:
    """Remove the servers of test runs that were killed."""
    columns = f'{{{{.ID}}}} {{{{.Label "{OWNER_LABEL}"}}}}'
    for line in docker("ps", "-a", "--filter", f"label={OWNER_LABEL}", "--format", columns).splitlines():
        container, owner = line.split()
        if not os.path.exists(f"/proc/{owner}"):
            docker("rm", "--force", "--volumes", container)


def main(arguments: Sequence[str] | None = None) -> None:
    """Start a server, say how to use it, remove it at Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers.gpu_server", description=__doc__)
    parser.add_argument("--user", default="trainer", choices=["trainer", "root"])
    parser.add_argument("--fake-gpu", action="store_true", help="programs that pretend to be NVIDIA's")
    parser.add_argument("--no-docker", action="store_true", help="a machine without a Docker Engine")
    chosen = parser.parse_args(arguments)
    with engine.running(), GPUServer(chosen.user, docker_engine=not chosen.no_docker) as server:
        if not chosen.no_docker:
            server.load_image()
        if chosen.fake_gpu:
            server.fake_gpu()
        key = f"--key {server.key_path} --host-key {server.fingerprint}"
        print(f"launcher target add gpu {server.address} {key}")
        print(" ".join(server.ssh_command()), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)


def _wait_for(ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        problem = ""
        try:
            if ready():
                return
        except ProgramFailed as e:
            problem = str(e)
        if time.monotonic() > deadline:
            raise ProgramFailed(f"waited {START_TIMEOUT_S} s for {what} {problem}")
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()

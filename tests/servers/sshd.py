"""A real OpenSSH server of a test's own: on 127.0.10.N, with its own host keys, keys and home folder."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.servers.programs import need, output

START_TIMEOUT_S = 20
_numbers = itertools.count(2)


class SSHD:
    """`with SSHD() as server:`; `server.home` is HOME there, `server.key_path` opens the door."""

    def __init__(
        self, *settings: str, host_keys: Sequence[str] = ("ed25519",), shell: str = "", variables: str = ""
    ) -> None:
        self.host = f"127.0.10.{next(_numbers) % 250 + 2}"
        self.port = _free_port(self.host)
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.folder = Path(tempfile.mkdtemp(prefix="launcher-sshd-"))
        self.home = self.folder / "home"
        self.key_path = self.folder / "key"
        self._settings = list(settings)
        self._variables = variables  # "NAME=value …" for every session
        self._kinds = list(host_keys)
        if shell:  # as if this were the user's login shell
            self._settings.append(f'ForceCommand exec {shell} -c "$SSH_ORIGINAL_COMMAND"')
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> SSHD:
        need(sshd="openssh-server", **{"ssh-keygen": "openssh-client"})
        try:
            self._prepare()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        program = shutil.which("sshd") or "/usr/sbin/sshd"
        os.makedirs("/run/sshd", exist_ok=True) if os.getuid() == 0 else None
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [program, "-D", "-e", "-f", str(self.folder / "config")], stderr=log, stdout=log
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("sshd did not start: " + self.log)
            time.sleep(0.02)

    def stop(self) -> None:
        """End the server and every connection to it."""
        if self._process is None:
            return
        children = _children(self._process.pid)
        self._process.terminate()
        self._process.wait()
        for child in children:
            for pid in [*_children(child), child]:
                with _gone_is_fine():
                    os.kill(pid, signal.SIGKILL)
        self._process = None

    def new_host_keys(self) -> None:
        """The same address, another machine."""
        for kind in self._kinds:
            path = self._host_key(kind)
            path.unlink(missing_ok=True)
            output(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)])

    def public_key(self, kind: str = "ed25519") -> str:
        return " ".join(self._host_key(kind).with_suffix(".pub").read_text().split()[:2])

    def fingerprint(self, kind: str = "ed25519") -> str:
        return output(["ssh-keygen", "-lf", str(self._host_key(kind)) + ".pub"]).split()[1]

    @property
    def known_hosts_line(self) -> str:
        return f"[{self.host}]:{self.port} {self.public_key(self._kinds[0])}\n"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def ssh_command(self, *options: str) -> list[str]:
        """The ssh command that reaches this server without questions."""
        known = self.folder / "known_hosts"
        known.write_text(self.known_hosts_line)
        words = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={known}"]
        words += ["-o", "IdentitiesOnly=yes", "-i", str(self.key_path), "-p", str(self.port), *options]
        return [*words, f"{self.user}@{self.host}"]

    def _prepare(self) -> None:
        self.home.mkdir(mode=0o700)
        output(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key_path)])
        shutil.copy(f"{self.key_path}.pub", self.folder / "authorized_keys")
        self.new_host_keys()
        (self.folder / "config").write_text("\n".join(self._config()) + "\n")

    def _config(self) -> list[str]:
        return [
            f"ListenAddress {self.host}:{self.port}",
            *(f"HostKey {self._host_key(kind)}" for kind in self._kinds),
            f"AuthorizedKeysFile {self.folder}/authorized_keys",
            f"PidFile {self.folder}/pid",
            f"SetEnv HOME={self.home} PATH=/usr/local/bin:/usr/bin:/bin {self._variables}",
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "MaxStartups 100",
            "LogLevel VERBOSE",
            "Subsystem sftp internal-sftp",
            *self._settings,
        ]

    def _host_key(self, kind: str) -> Path:
        return self.folder / f"host_{kind}"

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), 1) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == pid:
            found.append(int(entry.name))
    return found


class _gone_is_fine:
    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, ProcessLookupError)


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])

"""Everything that comes from the user's environment and settings: the only reader of os.environ."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher import targetsfile
from launcher.agent import records
from launcher.errors import LauncherError, SpecError
from launcher.targetsfile import TargetConfig

__all__ = ["Config", "TargetConfig"]

SHORT_FORMS = ("local", "verda", "kaggle", "colab")
TARGETS = "targets.yaml"


class Config:
    """The environment (of this process, unless another is given), the two folders, and the targets."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = dict(os.environ if environ is None else environ)

    # folders

    @property
    def home(self) -> Path:
        """Where the ledger and the bundles are."""
        if chosen := self.variable("LAUNCHER_HOME"):
            return self._path(chosen)
        import platformdirs

        return platformdirs.user_state_path("launcher", appauthor=False)

    @property
    def config_dir(self) -> Path:
        """Where targets.yaml is."""
        if chosen := self.variable("LAUNCHER_CONFIG"):
            return self._path(chosen)
        import platformdirs

        return platformdirs.user_config_path("launcher", appauthor=False)

    @property
    def user_home(self) -> Path:
        return Path(self.variable("HOME") or os.path.expanduser("~"))

    # targets

    def targets(self) -> dict[str, TargetConfig]:
        """The named targets of targets.yaml, in its order."""
        path = self.config_dir / TARGETS
        return targetsfile.parse(self._read(path), str(path))

    def resolve_target(self, text: str) -> TargetConfig:
        """A name from targets.yaml, or a short form: local, ssh://user@host:port, verda, kaggle, colab."""
        if text.startswith("ssh://"):
            return targetsfile.from_url(text)
        named = self.targets()
        if text in named:
            return named[text]
        if text in SHORT_FORMS:
            return TargetConfig(text, text, {})
        raise SpecError(f"no target {text!r}", _meant(text, named))

    def add_target(self, name: str, entry: Mapping[str, Any], replace: bool = False) -> TargetConfig:
        """Write a target into targets.yaml; comments there stay."""
        with self.editing(TARGETS) as path:
            source, text = str(path), self._read(path)
            if name in targetsfile.parse(text, source):
                if not replace:
                    raise SpecError(f"there is a target {name!r} already", f"launcher target rm {name}")
                text = targetsfile.without(text, name, source)
            text = targetsfile.with_entry(text, name, entry, source)
            records.write_durably(str(path), text)
            return targetsfile.parse(text, source)[name]

    def remove_target(self, name: str) -> None:
        with self.editing(TARGETS) as path:
            source, text = str(path), self._read(path)
            named = targetsfile.parse(text, source)
            if name not in named:
                raise SpecError(f"no target {name!r} in {path}", _meant(name, named))
            records.write_durably(str(path), targetsfile.without(text, name, source))

    def read_setting(self, name: str) -> bytes:
        """A file in the config folder; b"" when there is none."""
        return self._read(self.config_dir / name)

    # the environment, by purpose

    def variable(self, name: str) -> str | None:
        """An environment variable; None when unset or empty."""
        return self._environ.get(name) or None

    def child_environment(self, **changes: str) -> dict[str, str]:
        """What programs that we start here (uv, nothing of the job) inherit."""
        return {**self._environ, **changes}

    @property
    def ssh_agent(self) -> str | None:
        return self.variable("SSH_AUTH_SOCK")

    @property
    def docker_host(self) -> str | None:
        return self.variable("DOCKER_HOST")

    @property
    def no_color(self) -> bool:
        return bool(self.variable("NO_COLOR")) or self.variable("TERM") == "dumb"

    def uv_environment(self) -> dict[str, str]:
        """The user's uv settings (indexes, mirrors of interpreters), which also count for locks we make."""
        return {name: value for name, value in self._environ.items() if name.startswith("UV_")}

    def base_url(self, variable: str, default: str) -> str:
        """A provider's address; plain http only to this machine."""
        from urllib.parse import urlsplit

        url = (self.variable(variable) or default).rstrip("/")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SpecError(f"{variable}={url!r} is not a URL", "write https://host")
        if parts.scheme == "http" and not _loopback(parts.hostname):
            raise SpecError(f"{variable}: plain http to {parts.hostname}", "use https")
        return url

    # inside

    def _path(self, text: str) -> Path:
        if text == "~" or text.startswith("~/"):
            text = str(self.user_home) + text[1:]
        return Path(os.path.abspath(text))

    def _read(self, path: Path) -> bytes:
        """b"" when there is none; refused when others could have written it: it names machines."""
        try:
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o002:
                    raise LauncherError(f"{path} can be written by others", f"chmod 600 {path}, or own it")
                return file.read()
        except FileNotFoundError:
            return b""
        except OSError as e:
            raise LauncherError(f"cannot read {path}: {e.strerror}", "set LAUNCHER_CONFIG") from e

    @contextlib.contextmanager
    def editing(self, name: str) -> Iterator[Path]:
        """One editor of our settings at a time; a linked file is edited where it lies."""
        try:
            self.config_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self.config_dir / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                yield (self.config_dir / name).resolve()
            finally:
                os.close(fd)
        except OSError as e:
            said = f"cannot write in {self.config_dir}: {e.strerror}"
            raise LauncherError(said, "set LAUNCHER_CONFIG") from e


def _loopback(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _meant(text: str, named: Mapping[str, Any]) -> str:
    if "@" in text:
        return f"did you mean ssh://{text}?"
    import difflib

    known = [*named, *SHORT_FORMS]
    near = difflib.get_close_matches(text, known, n=2, cutoff=0.5)
    return (
        f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}, ssh://user@host:port"
    )

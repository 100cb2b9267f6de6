"""Secret values by name: from the environment, a command or the keyring; never from a file of ours."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from launcher.agent import records
from launcher.config import Config
from launcher.errors import LauncherError, Refused, SpecError

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
SERVICE = "launcher"
KNOWN = "secrets.json"  # names and commands; never a value
COMMAND_S = 120.0  # `pass` may ask for a passphrase


class Secrets(Mapping[str, str]):
    """Values by name, which no traceback, log or debugger shows by accident."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Secrets({', '.join(f'{name}=***' for name in self._values)})"


def gather(config: Config, names: Iterable[str]) -> Secrets:
    """The values of `names`. Raises Refused that says which have none, and the three ways to give one."""
    known = _known(config)
    found = {name: _value(config, known, name) for name in names}
    if missing := [name for name, value in found.items() if value is None]:
        one = missing[0]
        raise Refused(
            f"no value for the secret {', '.join(missing)}",
            f"export {one}=…, or `launcher secret set {one}`,"
            f" or `launcher secret set {one} --command 'pass show {one.lower()}'`",
        )
    return Secrets({name: value for name, value in found.items() if value is not None})


def set_value(config: Config, name: str, value: str) -> None:
    """Keep a value in the system's keyring. Refused (125) where there is none that encrypts."""
    _check_name(name)
    keyring = _keyring()
    if keyring is None:
        raise LauncherError(
            "there is no keyring here that would keep the value encrypted",
            f"export {name}=… before you run, or `launcher secret set {name} --command 'pass show …'`,"
            " which stores the command and never the value",
        )
    _ask_keyring(lambda: keyring.set_password(SERVICE, name, value))
    _remember(config, name, {"keyring": True})


def set_command(config: Config, name: str, command: str) -> None:
    """Keep a command that prints the value (`pass show hf`, `op read op://…`)."""
    _check_name(name)
    _remember(config, name, {"command": command})


def listed(config: Config) -> dict[str, str]:
    """Each known name and where its value comes from, in words."""
    return {name: _source(config, name, entry) for name, entry in sorted(_known(config).items())}


def remove(config: Config, name: str) -> None:
    """Forget a name, and its value in the keyring."""
    known = _known(config)
    if name not in known:
        raise SpecError(f"no secret {name!r} is stored", "`launcher secret ls` lists them")
    keyring = _keyring() if known[name].get("keyring") else None
    if keyring and _ask_keyring(lambda: keyring.get_password(SERVICE, name)) is not None:
        _ask_keyring(lambda: keyring.delete_password(SERVICE, name))
    _remember(config, name, None)


def _value(config: Config, known: Mapping[str, Any], name: str) -> str | None:
    _check_name(name)
    if value := config.variable(name):
        return value
    if command := known.get(name, {}).get("command"):
        return _printed(name, command)
    keyring = _keyring() if name in known else None
    if keyring is None:
        return None
    value = _ask_keyring(lambda: keyring.get_password(SERVICE, name))
    return value or None


def _printed(name: str, command: str) -> str:
    """What the user's command prints, without its last line end; its own messages go to the terminal."""
    try:
        done = subprocess.run(command, shell=True, stdout=subprocess.PIPE, timeout=COMMAND_S, check=False)
    except subprocess.TimeoutExpired as e:
        raise Refused(f"the command for the secret {name} did not end in {COMMAND_S:.0f} s", command) from e
    try:
        value = done.stdout.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise Refused(f"the command for the secret {name} did not print text", f"try it: {command}") from None
    if done.returncode or not value:
        said = f"ended with {done.returncode}" if done.returncode else "printed nothing"
        raise Refused(f"the command for the secret {name} {said}", f"try it: {command}")
    return value


def _source(config: Config, name: str, entry: Mapping[str, Any]) -> str:
    if config.variable(name):
        return "environment"
    return f"command: {entry['command']}" if "command" in entry else "keyring"


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise SpecError(f"{name!r} cannot be a secret's name", "letters, digits and _, as for a variable")


def _known(config: Config) -> dict[str, dict[str, Any]]:
    text = config.read_setting(KNOWN)
    try:
        known = json.loads(text or b"{}")
        return {str(name): dict(entry) for name, entry in known.items()}
    except (ValueError, AttributeError, TypeError) as e:
        raise LauncherError(
            f"{config.config_dir / KNOWN} is not readable", "remove it and set them anew"
        ) from e


def _remember(config: Config, name: str, entry: Mapping[str, Any] | None) -> None:
    with config.editing(KNOWN) as path:
        known = {key: value for key, value in _known(config).items() if key != name}
        known |= {name: dict(entry)} if entry else {}
        records.write_durably(str(path), json.dumps(known, indent=1).encode() + b"\n")


def _keyring() -> Any | None:
    """The first backend that keeps values encrypted. Priority below 1 and keyrings.alt do not."""
    try:
        import keyring
    except ImportError:
        return None
    chosen = keyring.get_keyring()
    candidates = getattr(chosen, "backends", None) or [
        chosen
    ]  # a chain would fall through to any of its links
    return next((backend for backend in candidates if _encrypts(backend)), None)


def _encrypts(backend: Any) -> bool:
    try:
        return float(backend.priority) >= 1 and not type(backend).__module__.startswith("keyrings.alt")
    except Exception:  # a backend says that it cannot work here by raising anything at all
        return False


def _ask_keyring(ask: Any) -> Any:
    from keyring.errors import KeyringError

    try:
        return ask()
    except KeyringError as e:
        raise LauncherError(f"the keyring did not answer: {e}", "unlock it, or export the secret") from e

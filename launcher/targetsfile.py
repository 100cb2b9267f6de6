"""targets.yaml: names for places. Read strictly, edited as text so that comments stay (pure)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from launcher.errors import SpecError

if TYPE_CHECKING:  # PyYAML takes 10 ms to import, which `ps` need not pay: imported on use
    from launcher.job.yaml import Node

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}=?")
MACHINE = {"docker": ("auto", "always", "never"), "root": str}
TYPES: dict[str, dict[str, Any]] = {
    "local": MACHINE,
    "ssh": {"host": str, "user": str, "port": int, "key": str, "host_key": FINGERPRINT, **MACHINE},
    "verda": {"location": str, **MACHINE},
    "kaggle": {
        "accelerator": str,
        "image": str,
        "internet": ("on", "off"),
        "environment": ("build", "dataset"),
        "secrets": ("kaggle", "private-dataset"),
    },
    "colab": {"accelerator": str, "memory": ("standard", "high"), "version": str, "client": str},
}


@dataclass(frozen=True)
class TargetConfig:
    """A way to get a place: its name, its type, and the settings that this type knows."""

    name: str
    type: str
    options: Mapping[str, Any] = field(default_factory=dict)


def parse(data: bytes, source: str) -> dict[str, TargetConfig]:
    """All targets of the file, in its order. SpecError with file:line for anything unknown."""
    root = _root(data, source)
    return {name: _target(name, node, root) for name, node in root.value.items()} if root else {}


def from_url(text: str) -> TargetConfig:
    """`ssh://user@host:port`; the name of such a target is the URL itself."""
    from urllib.parse import unquote, urlsplit

    example = "write ssh://user@host or ssh://user@host:2222"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as e:
        raise SpecError(f"{text!r}: {e}", example) from e
    if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise SpecError(f"{text!r} is not the address of a machine", example)
    if parts.password is not None:
        raise SpecError("a password in an address is not accepted", "use a key: `launcher target add`")
    options: dict[str, Any] = {"host": unquote(parts.hostname)}
    options |= {"user": unquote(parts.username)} if parts.username else {}
    options |= {"port": port} if port else {}
    for key, value in options.items():
        if problem := _problem(value, TYPES["ssh"][key], key):
            raise SpecError(f"{text!r}: {problem}", example)
    return TargetConfig(text, "ssh", options)


def with_entry(data: bytes, name: str, entry: Mapping[str, Any], source: str) -> bytes:
    """The file with one more target at its end."""
    text = data.decode("utf-8-sig")
    text += "" if text.endswith("\n") or not text else "\n"
    settings = {key: value for key, value in entry.items() if value is not None}
    block = f"{name}:\n" + "".join(f"  {key}: {_scalar(value)}\n" for key, value in settings.items())
    before = parse(data, source)
    parse(block.encode(), f"target {name}")
    try:
        parse((text + block).encode(), source)
    except SpecError:  # written in one line with braces, say: write it anew
        text = "".join(_block(target) for target in before.values())
    return (text + block).encode()


def without(data: bytes, name: str, source: str) -> bytes:
    """The file without one target; the comments around it stay."""
    before = parse(data, source)
    root = _root(data, source)
    assert root is not None
    lines = data.decode("utf-8-sig").splitlines(keepends=True)
    first = root.key_lines[name] - 1
    later = [line - 1 for line in root.key_lines.values() if line - 1 > first]
    last = min(later, default=len(lines))
    while last > first + 1 and not re.match(r"[ \t]+[^ \t#\n\r]", lines[last - 1]):
        last -= 1
    wanted = {key: target for key, target in before.items() if key != name}
    text = "".join(lines[:first] + lines[last:])
    try:
        if parse(text.encode(), source) == wanted:
            return text.encode()
    except SpecError:
        pass
    return "".join(_block(target) for target in wanted.values()).encode()


def _root(data: bytes, source: str) -> Node | None:
    if not re.sub(rb"(?m)#.*$", b"", data.removeprefix(b"\xef\xbb\xbf")).strip():
        return None
    from launcher.job import yaml

    root = yaml.read(data, source)
    if not isinstance(root.value, dict):
        raise root.error("targets are `name: {type: …}`", "`launcher target add` writes one")
    return root


def _target(name: str, node: Node, root: Node) -> TargetConfig:
    place = root.at(name)
    if not NAME.fullmatch(name):
        raise place.error(f"{name!r} is no name: a-z, 0-9 and -, at most 41")
    if not isinstance(node.value, dict) or "type" not in node.value:
        raise place.error(f"{name}: a target needs a type", f"one of {', '.join(TYPES)}")
    kind = node.value["type"].value
    if kind not in TYPES:
        types = f"one of {', '.join(TYPES)}"
        raise node.value["type"].error(f"no type {kind!r}{_near(str(kind), TYPES)}", types)
    settings = {key: value for key, value in node.value.items() if key != "type"}
    options = {key: _option(kind, key, value) for key, value in settings.items()}
    if kind == "ssh" and "host" not in options:
        raise place.error(f"{name}: an ssh target needs a host")
    return TargetConfig(name, kind, options)


def _option(kind: str, key: str, node: Node) -> Any:
    known = TYPES[kind]
    if key not in known:
        said = f"a target of type {kind} has no {key!r}{_near(key, known)}"
        raise node.error(said, f"it knows {', '.join(known) or 'nothing but its type'}")
    value = node.text if known[key] is str and not isinstance(node.value, dict | list) else node.value
    if problem := _problem(value, known[key], key):
        raise node.error(problem)
    return value


def _problem(value: Any, rule: Any, key: str) -> str:
    """Why `value` does not do, or nothing."""
    if isinstance(rule, tuple):
        return "" if value in rule else f"{value!r} is none of {', '.join(rule)}"
    if isinstance(rule, re.Pattern):
        fits = isinstance(value, str) and rule.fullmatch(value) is not None
        return "" if fits else f"{value!r} is not a fingerprint like SHA256:… (ssh-keygen -lf shows it)"
    if rule is int:
        fits = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536
        return "" if fits else f"{value!r} is not a port"
    if not isinstance(value, str) or not value or not value.isprintable():
        return f"{value!r} is not a text"
    if key in ("host", "user") and (value.startswith("-") or re.search(r"[\s/@]", value)):
        return f"{value!r} is not a {key}"
    return ""


def _near(text: str, known: Mapping[str, Any]) -> str:
    import difflib

    near = difflib.get_close_matches(text, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def _block(target: TargetConfig) -> str:
    settings = {"type": target.type, **target.options}
    return f"{target.name}:\n" + "".join(f"  {key}: {_scalar(value)}\n" for key, value in settings.items())


def _scalar(value: Any) -> str:
    """As plain as YAML allows: quoted only where it would be read as something else."""
    from launcher.job.scalars import resolve

    text = str(value)
    plain = re.fullmatch(r"[A-Za-z0-9/~_][A-Za-z0-9/~_.@+=:-]*", text) and not text.endswith(":")
    if plain and resolve(text) == (value, False):
        return text
    return json.dumps(text)

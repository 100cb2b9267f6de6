"""Reads a lock: exact interpreter and hash-pinned packages, and which of them one machine gets (pure).

A lock is a `requirements.txt` with hashes, as `uv pip compile --generate-hashes` writes it. What launcher
adds are comments at its top, so that every installer still reads it:

    # launcher-lock: 1
    # python: cpython 3.12.16
    # interpreter: linux x86_64 https://…/cpython-3.12.16….tar.gz sha256:…
    # torch: auto
    # heavy: nvidia-cublas torch triton
    # source: sha256:…
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from launcher.errors import SpecError

FORMAT = "1"
HINT = "`launcher lock` writes a good one"
HEADER = re.compile(r"# (launcher-lock|python|interpreter|torch|heavy|source): (.*)")
HASH = re.compile(r"\s--hash[= ](sha(?:256|384|512):[0-9a-f]{64,128})(?=\s|$)")
INDEX_OPTIONS = (
    "--index-url",
    "--extra-index-url",
    "--find-links",
    "--no-binary",
    "--only-binary",
    "-i ",
    "-f ",
)


@dataclass(frozen=True)
class Interpreter:
    """A downloadable CPython for one system and architecture."""

    system: str
    arch: str
    url: str
    sha256: str


@dataclass(frozen=True)
class Pin:
    """One package at one version; `marker` says where it belongs, `url` is set where no index has it."""

    name: str
    version: str
    hashes: tuple[str, ...]
    marker: str = ""
    url: str = ""

    @property
    def text(self) -> str:
        """One requirement with its hashes and without its marker, always written the same."""
        what = f"{self.name} @ {self.url}" if self.url else f"{self.name}=={self.version}"
        return " \\\n    ".join([what, *(f"--hash={one}" for one in sorted(self.hashes))])


@dataclass(frozen=True)
class Lock:
    """A parsed lock. `python` is the exact version it was made for, None in a lock of another tool."""

    sha256: str
    all: tuple[Pin, ...]
    python: str | None = None
    interpreters: tuple[Interpreter, ...] = ()
    torch: str = "auto"
    heavy: frozenset[str] = frozenset()
    source: str = ""
    options: tuple[str, ...] = ()

    @property
    def pins(self) -> dict[str, str]:
        """Name -> version, over all platforms."""
        return {pin.name: pin.version for pin in self.all}

    def pins_for(self, arch: str, python: str | None = None, system: str = "linux") -> tuple[Pin, ...]:
        """What is installed on one platform, by name."""
        environment = _environment(arch, python or self.python or "3.12", system)
        chosen = [pin for pin in self.all if not pin.marker or Marker(pin.marker).evaluate(environment)]
        names = [pin.name for pin in chosen]
        for name in names:
            if names.count(name) > 1:
                raise SpecError(f"the lock pins {name} twice for {system} {arch}", HINT)
        return tuple(sorted(chosen, key=lambda pin: pin.name))

    def locked_for(self, arch: str, python: str | None = None, system: str = "linux") -> dict[str, str]:
        """Name -> version of exactly what must be installed on one platform."""
        return {pin.name: pin.version for pin in self.pins_for(arch, python, system)}

    def interpreter_for(self, arch: str, system: str = "linux") -> Interpreter | None:
        return next((i for i in self.interpreters if (i.system, i.arch) == (system, arch)), None)


def parse_lock(data: bytes) -> Lock:
    """SpecError, saying what to do, unless every line is an exact version with hashes."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SpecError("the lock is not UTF-8 text", HINT) from error
    header = _Header()
    pins: list[Pin] = []
    options: list[str] = []
    for number, line in _logical_lines(text):
        if line.startswith("#"):
            header.read(number, line)
        elif line.startswith(INDEX_OPTIONS):
            options.append(line)
        else:
            pins.append(_pin(number, line))
    if not pins and header.python is None:
        raise SpecError("the lock is empty", HINT)
    return Lock(
        sha256=hashlib.sha256(data).hexdigest(),
        all=tuple(pins),
        python=header.python,
        interpreters=tuple(header.interpreters),
        torch=header.torch,
        heavy=frozenset(header.heavy),
        source=header.source,
        options=tuple(options),
    )


@dataclass
class _Header:
    """What the comments of launcher say."""

    python: str | None = None
    interpreters: list[Interpreter] = field(default_factory=list)
    torch: str = "auto"
    heavy: list[str] = field(default_factory=list)
    source: str = ""

    def read(self, number: int, line: str) -> None:
        match = HEADER.fullmatch(line)
        if match is None:
            return
        key, value = match.groups()
        if key == "launcher-lock" and value != FORMAT:
            raise SpecError(
                f"the lock has format {value}, this launcher knows {FORMAT}", "upgrade, or lock again"
            )
        if key == "python":
            self.python = _matched(number, r"cpython (\d+\.\d+\.\d+)", value)[1]
        elif key == "interpreter":
            found = _matched(number, r"(\w+) (\w+) (https?://\S+|file://\S+) sha256:([0-9a-f]{64})", value)
            self.interpreters.append(Interpreter(*found.groups()))
        elif key == "torch":
            self.torch = _matched(number, r"[a-z0-9.]+", value)[0]
        elif key == "heavy":
            self.heavy = value.split()
        elif key == "source":
            self.source = value


def _matched(number: int, pattern: str, value: str) -> re.Match[str]:
    match = re.fullmatch(pattern, value)
    if match is None:
        raise SpecError(f"line {number} of the lock is damaged: {value[:60]!r}", HINT)
    return match


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number, line) without blank lines, continuations joined, comments behind a requirement cut off."""
    if text.rstrip().endswith("\\"):
        raise SpecError("the lock ends in the middle of a line", HINT)
    joined, first = "", 0
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if not joined and stripped.startswith("#"):
            yield number, stripped
            continue
        first = first if joined else number
        joined += re.sub(r"(^|\s)#.*", "", line).rstrip()
        if joined.endswith("\\"):
            joined = joined[:-1] + " "
            continue
        if joined.strip():
            yield first, joined.strip()
        joined = ""


def _pin(number: int, line: str) -> Pin:
    hashes = tuple(HASH.findall(line))
    text = HASH.sub(" ", line).strip()
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise SpecError(f"line {number} of the lock is not a locked package: {text[:60]!r}", HINT) from error
    if not hashes:
        raise SpecError(f"line {number} of the lock: {requirement.name} has no hash", HINT)
    return Pin(
        name=canonicalize_name(requirement.name),
        version=_version(number, requirement),
        hashes=hashes,
        marker=str(requirement.marker or ""),
        url=requirement.url or "",
    )


def _version(number: int, requirement: Requirement) -> str:
    """The one version that is meant: `==` and no wildcard, or the one in the file name of a direct URL."""
    if requirement.url:
        filename = requirement.url.split("#")[0].rsplit("/", 1)[-1]
        try:
            if filename.endswith(".whl"):
                return str(parse_wheel_filename(filename)[1])
            return str(parse_sdist_filename(filename)[1])
        except (InvalidWheelFilename, InvalidSdistFilename) as error:
            raise SpecError(f"line {number} of the lock: {filename} names no version", HINT) from error
    only = list(requirement.specifier)
    if len(only) != 1 or only[0].operator not in ("==", "===") or only[0].version.endswith(".*"):
        raise SpecError(f"line {number} of the lock: {requirement.name} is not pinned to one version", HINT)
    return only[0].version


def _environment(arch: str, python: str, system: str) -> Mapping[str, str]:
    """What the markers of PEP 508 see on one platform."""
    full = python if python.count(".") > 1 else python + ".0"
    names = {"linux": ("posix", "Linux", "linux"), "darwin": ("posix", "Darwin", "darwin")}
    os_name, platform_system, sys_platform = names.get(system, ("nt", "Windows", "win32"))
    return {
        "implementation_name": "cpython",
        "implementation_version": full,
        "os_name": os_name,
        "platform_machine": arch,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": platform_system,
        "platform_version": "",
        "python_full_version": full,
        "python_version": ".".join(full.split(".")[:2]),
        "sys_platform": sys_platform,
        "extra": "",
    }

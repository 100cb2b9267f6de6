"""Which names may come home, and what they are called there (pure; the disk is asked about odd ones)."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from launcher.agent import records
from launcher.errors import IntegrityError
from launcher.vault.disk import HIDDEN

CAPSULE = "capsule.json"
MAX_PATH_BYTES, MAX_PART_BYTES, MAX_PARTS = 2048, 255, 64
RESERVED = re.compile(r"log\.jsonl|(late|log)\..*\.jsonl|capsule\.json|metrics\.jsonl|checkpoints", re.DOTALL)
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@, -]{0,99}")  # every disk holds these


def parts_of(path: str) -> tuple[str, ...]:
    """The parts of a path that a manifest names. IntegrityError for what could lead anywhere else."""
    parts = tuple(path.split("/")) if isinstance(path, str) else ()
    try:
        size = len(path.encode())
    except (UnicodeEncodeError, AttributeError):
        size = 0
    hostile = not size or size > MAX_PATH_BYTES or len(parts) > MAX_PARTS or "\0" in path
    if hostile or any(part in ("", ".", "..") for part in parts):
        raise IntegrityError(
            f"{str(path)[:120]!r} is not a path below the run's folder", "is this server yours?"
        )
    return parts


class Names:
    """What the files of a run are called at home. A name keeps its place once it has one.

    Reserved names get `.job` behind; what the disk cannot hold, or what differs from another only by case (or
    by how its accents are composed), is percent-encoded. `holds` says whether this disk can have such a name.
    """

    def __init__(self, known: Iterable[tuple[str, str]], holds: Callable[[str], bool]) -> None:
        self._holds = holds
        self._home: dict[tuple[tuple[str, ...], str], str] = {((), records.CHECKPOINTS): records.CHECKPOINTS}
        self._taken: dict[tuple[str, ...], dict[str, str]] = {}
        for path, at in known:
            self._remember(tuple(path.split("/")), tuple(at.split("/")))

    def place(self, path: str, ours: bool = False) -> str:
        """The path at home of a path in $LAUNCHER_OUT; `ours`: a checkpoint, which lies in our own folder."""
        parts = parts_of(path)
        at: list[str] = []
        for depth, part in enumerate(parts):
            reserved = depth == 0 and not ours and bool(RESERVED.fullmatch(part.casefold()))
            at.append(self._part(parts[:depth], tuple(at), part, reserved))
        return "/".join(at)

    def _part(self, parent: tuple[str, ...], at: tuple[str, ...], part: str, reserved: bool) -> str:
        if not reserved and (known := self._home.get((parent, part))):
            return known
        wanted = part + ".job" if reserved else part
        taken = self._taken.setdefault(at, {})
        for name in _candidates(wanted):
            free = taken.get(_alike(name), part) == part and not (not at and _is_ours(name))
            if free and (PLAIN.fullmatch(name) or self._holds(name)):
                taken[_alike(name)] = part
                if not reserved:
                    self._home[parent, part] = name
                return name
        raise IntegrityError(f"no name at home would do for {part!r}", "rename it in the job")

    def _remember(self, parts: tuple[str, ...], at: tuple[str, ...]) -> None:
        for depth, (part, name) in enumerate(zip(parts, at, strict=False)):
            self._taken.setdefault(at[:depth], {})[_alike(name)] = part
            if depth or not RESERVED.fullmatch(part.casefold()):
                self._home[parts[:depth], part] = name


def _candidates(part: str) -> Iterator[str]:
    """As it is, then without odd characters, then without letters (which have a case), then by its hash."""
    odd = "".join(c if re.match(r"[A-Za-z0-9_.+=@, -]", c) else _percent(c) for c in part)
    letters = "".join(c if re.match(r"[0-9_.+=@, -]", c) else _percent(c) for c in part)
    for name in (part, odd, letters):
        if len(name.encode()) <= MAX_PART_BYTES:
            yield name
    start = re.sub(r"[^A-Za-z0-9]", "_", part)[:40]
    yield f"{start}%{hashlib.sha256(part.encode()).hexdigest()[:24]}"


def _percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def _alike(name: str) -> str:
    """Two names that a case-insensitive or composing disk would take for one are alike."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _is_ours(name: str) -> bool:
    folded = name.casefold()
    return bool(RESERVED.fullmatch(folded)) or folded == HIDDEN

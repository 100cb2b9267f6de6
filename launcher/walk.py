"""Walks a folder for the files that may travel: ignore files as git reads them, and never a key.

The user's global ignore file is not read: it would make the choice differ between machines.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from launcher.errors import SpecError

IGNORE_FILES = (".launcherignore", ".gitignore")  # strongest first
HOME_MARKS = ("capsule.json", ".launcher")  # a folder with one of these is the home of a run, not source

NEVER_FOLDERS = (
    ".git",
    ".hg",
    ".svn",
    "__pycache__",
    ".aws",
    ".ssh",
    ".gnupg",
    ".kaggle",
    ".kube",
    ".docker",
)
KEY_NAMES = frozenset(
    {
        "id_rsa",
        "id_dsa",
        "id_ecdsa",
        "id_ecdsa_sk",
        "id_ed25519",
        "id_ed25519_sk",
        ".netrc",
        "_netrc",
        ".pypirc",
    }
    | {".git-credentials", ".pgpass", "kaggle.json"}
)
KEY_ENDINGS = (".pem", ".key", ".ppk", ".p12", ".pfx", ".kdbx")
KEY_HEADER = re.compile(
    rb"^(?:\xef\xbb\xbf)?(-----BEGIN [A-Z0-9 ]*PRIVATE KEY|PuTTY-User-Key-File-|AGE-SECRET-KEY-1)",
    re.MULTILINE,
)
KEY_HEADER_WITHIN = 1024


@dataclass(frozen=True)
class Wanted:
    """What of a folder is wanted: patterns as in .gitignore, and absolute paths to leave out."""

    include: tuple[str, ...] = ("**",)
    exclude: tuple[str, ...] = ()
    left_out: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Found:
    """Paths below the folder, with slashes: files with their sizes, and what looks like a key."""

    files: tuple[tuple[str, int], ...]
    keys: tuple[str, ...]


def walk(root: Path, wanted: Wanted) -> Found:
    """What travels of an absolute folder; SpecError for what is neither ignored nor a regular file."""
    walk = _Walk(str(root), _patterns(wanted.include), _patterns(wanted.exclude), wanted.left_out)
    return Found(tuple(walk.folder("", _rules_above(root))), tuple(walk.keys))


def never(path: Path) -> str:
    """Why a file or folder never travels, even when it is named; empty for one that may."""
    name = path.name.lower()
    if name in NEVER_FOLDERS or name.endswith(".pyc"):
        return "nothing of that name does"
    if path.is_dir():
        marked = [mark for mark in ("pyvenv.cfg", *HOME_MARKS) if (path / mark).exists()]
        return (
            f"there is a {marked[0]} in it" if marked else "it holds keys" if name.startswith(".env") else ""
        )
    key = name.startswith(".env") or _named_like_a_key(name) or _starts_like_a_key(str(path))
    return "it looks like a key" if key else ""


@dataclass(frozen=True)
class _Rules:
    """The patterns of one ignore file; `base` is its folder's path below the walk's root, ending in a slash.

    For folders above the root, `base` is empty and `above` is the root's path below that folder.
    """

    name: str
    base: str
    spec: GitIgnoreSpec
    above: str = ""

    def ignores(self, path: str) -> bool | None:
        """True or False where a pattern speaks of the path itself (folders end in a slash), else None.

        Patterns that match one of its parents do not count here, as in git: the walk asked about the parents.
        """
        subject = _as_bytes(self.above + path[len(self.base) :])
        for pattern in reversed(self.spec.patterns):
            if pattern.include is not None and _speaks_of(pattern, subject):
                return pattern.include
        return None


@dataclass
class _Walk:
    root: str
    include: GitIgnoreSpec
    exclude: GitIgnoreSpec
    left_out: frozenset[str]
    keys: list[str] = field(default_factory=list)

    def folder(self, path: str, above: Sequence[_Rules]) -> Iterator[tuple[str, int]]:
        """The files below `path` ("" or ending in a slash) that travel."""
        entries = self._entries(path)
        names = {entry.name for entry in entries}
        if path and ("pyvenv.cfg" in names or names.intersection(HOME_MARKS)):
            return
        rules = [*_rules_of(self.root, path, names), *above]
        for entry in entries:
            relative = path + entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            if self._skipped(entry, relative + "/" if is_folder else relative, rules):
                continue
            if is_folder:
                yield from self.folder(relative + "/", rules)
            elif file := self._file(entry, relative):
                yield file

    def _entries(self, path: str) -> list[os.DirEntry[str]]:
        where = os.path.join(self.root, path)
        try:
            with os.scandir(where) as entries:
                return sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            raise SpecError(
                f"cannot read the folder {where}: {error.strerror}", "ignore it, or make it readable"
            ) from error

    def _skipped(self, entry: os.DirEntry[str], relative: str, rules: Sequence[_Rules]) -> bool:
        name, is_folder = entry.name.lower(), relative.endswith("/")
        if name in NEVER_FOLDERS or name.endswith(".pyc") or entry.path in self.left_out:
            return True
        if _ignored(relative, rules) or self.exclude.match_file(_as_bytes(relative)):
            return True
        if name.startswith(".env") or (not is_folder and _named_like_a_key(name)):
            self.keys.append(relative)
            return True
        return entry.is_symlink() and os.path.exists(os.path.join(entry.path, "pyvenv.cfg"))

    def _file(self, entry: os.DirEntry[str], relative: str) -> tuple[str, int] | None:
        if not self.include.match_file(_as_bytes(relative)):
            return None
        _refuse_odd(entry, relative)
        if _starts_like_a_key(entry.path):
            self.keys.append(relative)
            return None
        return relative, entry.stat(follow_symlinks=False).st_size


def _ignored(path: str, rules: Sequence[_Rules]) -> bool:
    """The first rule that speaks decides; all .launcherignore before all .gitignore, deeper before higher."""
    for name in IGNORE_FILES:
        for rule in rules:
            if rule.name == name and (decision := rule.ignores(path)) is not None:
                return decision
    return False


def _speaks_of(pattern: GitIgnoreSpecPattern, subject: str) -> bool:
    """Whether the whole subject is matched: pathspec marks in `ps_d` the slash behind a matched parent."""
    anchored = "/" in str(pattern.pattern).rstrip().rstrip("/")
    if not anchored:  # such a pattern is about the last name only
        subject = subject[subject.rstrip("/").rfind("/") + 1 :]
    match = pattern.regex.search(subject) if pattern.regex else None
    return match is not None and (not match.groupdict().get("ps_d") or match.end("ps_d") == len(subject))


def _refuse_odd(entry: os.DirEntry[str], relative: str) -> None:
    """Whatever is neither ignored nor a regular file with a UTF-8 name ends the choosing, by name."""
    try:
        relative.encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(relative).decode("utf-8", "backslashreplace")
        raise SpecError(f"the name of {shown} is not UTF-8", "rename it, or ignore its folder") from error
    if entry.is_symlink():
        target = os.readlink(entry.path)
        raise SpecError(
            f"{relative} is a symbolic link (to {target}): links do not travel",
            f"copy the file, name it under data:, or add /{relative} to .launcherignore",
        )
    if not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
        raise SpecError(
            f"{relative} is not a regular file", f"remove it, or add /{relative} to .launcherignore"
        )


def _named_like_a_key(name: str) -> bool:
    return name in KEY_NAMES or name.endswith(KEY_ENDINGS)


def _starts_like_a_key(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return KEY_HEADER.search(file.read(KEY_HEADER_WITHIN)) is not None
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror}", "make it readable, or ignore it") from error


def _as_bytes(text: str) -> str:
    """One character a byte: git's `?` and `[...]` match bytes, and names need not be UTF-8.

    A newline becomes a character that no pattern can name: the patterns' regular expressions stop at one.
    """
    return os.fsencode(text).decode("latin-1").replace("\n", "\u2424")


def _patterns(lines: Iterable[str]) -> GitIgnoreSpec:
    return GitIgnoreSpec.from_lines(_as_bytes(line) for line in lines)


def _rules_of(root: str, path: str, names: Iterable[str]) -> Iterator[_Rules]:
    """The ignore files that lie directly in `path`."""
    for name in IGNORE_FILES:
        if name in names:
            yield _Rules(name, path, _read_patterns(os.path.join(root, path, name)))


def _rules_above(root: Path) -> list[_Rules]:
    """Ignore files of the folders above, nearest first, up to the repository's root (as git reads them).

    None when they ignore the job's folder itself: then it was named on purpose.
    """
    top = next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), root)
    rules: list[_Rules] = []
    for folder in (folder for folder in root.parents if top != root and folder.is_relative_to(top)):
        above = root.relative_to(folder).as_posix() + "/"
        for name in IGNORE_FILES:
            if (folder / name).is_file():
                rules.append(_Rules(name, "", _read_patterns(str(folder / name)), above))
    return [] if _ignored("", rules) else rules


def _read_patterns(path: str) -> GitIgnoreSpec:
    try:
        with open(path, encoding="latin-1", newline="\n") as file:  # one character a byte, see _as_bytes
            lines = file.read().removeprefix("\xef\xbb\xbf").split("\n")
        return GitIgnoreSpec.from_lines(line.removesuffix("\r") for line in lines)
    except (OSError, ValueError) as error:
        raise SpecError(f"cannot read the ignore file {path}: {error}") from error

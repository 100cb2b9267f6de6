"""What a run needs where there is no way in but a notebook: a few flat files, each known by its SHA-256.

payload.json names all the others; it is the only one that a notebook must be told the hash of:

    {"v": 1, "run", "segment",
     "platform": "kaggle" | "colab", "root", "segments", "secrets", "wheelhouse",
     "session_s": seconds or null,            length of a session there, from its start
     "order": {…},                            order.json but for bin, secrets_dir and session_s
     "environment": {"key", "trivial", "python", "interpreter": {"url", "sha256"} or null,
                     "uv": {"version", "url", "sha256", "binary"}},     sha256 of the wheel, binary: of uv itself
     "resume": {"resume", "resume_digest"} or {},
     "data": {key: {"digest", "file": "data-<key>.bin"} or {"url", "sha256"}},
     "files": {name: [size, sha256]}}         of every other file

agent.bin        the agent as a zip          bundle.bin   the job's files
environment.bin  the sh script that builds the environment (not when any Python will do)
checkpoint.bin   a tar of the checkpoint to go on from     data-<key>.bin  a tar of one source of data
secrets.bin      {"NAME": "value"}, only for `secrets: file`

The neutral suffix is for Kaggle, which unpacks archives and drops folders.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from launcher.target import Submission

MANIFEST, AGENT, BUNDLE, ENVIRONMENT = "payload.json", "agent.bin", "bundle.bin", "environment.bin"
CHECKPOINT, SECRETS = "checkpoint.bin", "secrets.bin"
SENT, KAGGLE, COLAB, FILE, ASK = "sent", "kaggle", "colab", "file", "ask"  # Platform.secrets


@dataclass(frozen=True)
class Platform:
    """Where the payload will be opened. Folders are absolute paths there."""

    name: str  # kaggle | colab
    root: str  # what is no result: environments, work, data, checkpoints to go on from
    segments: str  # a segment's folder is <segments>/<run>/<n>
    session_s: float | None = None  # how long a session may last
    secrets: str = ASK
    wheelhouse: str = ""  # a folder with what wheelhouse.collect wrote


@dataclass(frozen=True)
class PayloadFile:
    """One file of a payload."""

    name: str
    path: Path
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Payload:
    """A folder with the files of one segment; `key` is the environment's ("" when any Python will do)."""

    folder: Path
    files: tuple[PayloadFile, ...]
    key: str = ""

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    def file(self, name: str) -> PayloadFile:
        """KeyError for one that is not there."""
        return next((file for file in self.files if file.name == name), None) or self._missing(name)

    def packed(self, path: Path) -> PayloadFile:
        """All files as one uncompressed tar at `path`, always with the same bytes."""
        raise NotImplementedError

    def _missing(self, name: str) -> PayloadFile:
        raise KeyError(name)


def write(submission: Submission, folder: Path, platform: Platform) -> Payload:
    """Make the files of a segment in an empty or new folder.

    IntegrityError when the checkpoint is no longer what was published, Refused when data has changed.
    """
    raise NotImplementedError

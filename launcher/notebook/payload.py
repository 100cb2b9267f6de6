"""What a run needs where there is no way in but a notebook: a few flat files, each known by its SHA-256.

payload.json names all the others; it is the only one that a notebook must be told the hash of:

    {"v": 1, "run", "segment",
     "platform": "kaggle" | "colab", "root", "segments", "secrets", "wheelhouse",
     "session_s": seconds or null,            length of a session there, from its start
     "gpu": "1 x T4" or "",                   what the job asks for, in words, and as it is compared:
     "gpu_need": {"models", "memory_bytes", "count"} or null,
     "order": {…},                            order.json but for bin, resume and the session's time
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

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import environment, tools
from launcher.agent import notebook_payload, notebook_secrets, notebook_tree, records
from launcher.bundle import BLOCK, CHUNK, FILES, header
from launcher.data.source import contents
from launcher.data.take import changed
from launcher.environment import EnvironmentPlan, VenvPaths
from launcher.errors import IntegrityError, Refused
from launcher.hosts.archive import agent_archive
from launcher.job.units import show_size
from launcher.target import Submission
from launcher.targets.data import since
from launcher.vault import digest_of

MANIFEST, AGENT, BUNDLE = notebook_payload.MANIFEST, notebook_payload.AGENT, notebook_payload.BUNDLE
ENVIRONMENT, CHECKPOINT = notebook_payload.ENVIRONMENT, notebook_payload.CHECKPOINT
SECRETS = notebook_payload.SECRETS
SENT, KAGGLE, COLAB = notebook_secrets.SENT, notebook_secrets.KAGGLE, notebook_secrets.COLAB
FILE, ASK = notebook_secrets.FILE, notebook_secrets.ASK  # Platform.secrets
ARCH = "x86_64"


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
        return {file.name: file for file in self.files}[name]

    def packed(self, path: Path) -> PayloadFile:
        """All files as one uncompressed tar at `path`, always with the same bytes."""
        return _write(path, _tar((file.name, file.path) for file in self.files))


def write(submission: Submission, folder: Path, platform: Platform) -> Payload:
    """Make the files of a segment in an empty or new folder.

    IntegrityError when the checkpoint is no longer what was published, Refused when data has changed.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    plan = environment.plan(submission.spec.environment, submission.lock, ARCH)
    told = _environment(plan, submission.lock, platform)
    resume, checkpoint = _checkpoint(submission, folder)
    data = {source.key: _data(source, folder) for source in submission.data}
    files = [
        _small(folder / AGENT, agent_archive()[0]),
        _copy(submission.bundle.path, folder / BUNDLE),
        *([] if plan.trivial else [_small(folder / ENVIRONMENT, _script(plan, told, platform))]),
        *checkpoint,
        *(file for _, made in data.values() for file in made),
        *_secrets(submission, folder, platform),
    ]
    segment = submission.segment
    facts = {
        "v": records.VERSION,
        "run": segment.run_id,
        "segment": segment.number,
        "platform": platform.name,
        "root": platform.root,
        "segments": platform.segments,
        "secrets": platform.secrets,
        "wheelhouse": platform.wheelhouse,
        "session_s": platform.session_s,
        "gpu": _gpu(submission.spec.resources),
        "gpu_need": _gpu_need(submission.spec.resources),
        "order": {**submission.order, "form": "plain", "locked": plan.locked},
        "environment": told,
        "resume": resume,
        "data": {key: facts for key, (facts, _) in data.items()},
        "files": {file.name: [file.size_bytes, file.sha256] for file in files},
    }
    manifest = _small(folder / MANIFEST, records.canonical(facts))
    return Payload(folder, (manifest, *files), "" if plan.trivial else plan.key)


def _environment(plan: EnvironmentPlan, lock: Any, platform: Platform) -> dict[str, Any]:
    if plan.trivial:
        return {"key": plan.key, "trivial": True, "python": None, "interpreter": None, "uv": None}
    uv = tools.uv_binary("linux", ARCH)
    interpreter = lock.interpreter_for(ARCH) if lock else None
    wheel = {"url": "", "sha256": ""} if platform.wheelhouse else tools.uv_wheel("linux", ARCH)
    return {
        "key": plan.key,
        "trivial": False,
        "python": plan.python,
        "interpreter": interpreter and {"url": interpreter.url, "sha256": interpreter.sha256},
        "uv": {"version": uv.version, **wheel, "binary": uv.sha256},
    }


def _script(plan: EnvironmentPlan, told: Mapping[str, Any], platform: Platform) -> bytes:
    uv = f"{platform.root}/tools/uv-{told['uv']['version']}"
    return environment.venv_script(plan, VenvPaths(platform.root, uv)).encode()


def _checkpoint(submission: Submission, folder: Path) -> tuple[dict[str, Any], list[PayloadFile]]:
    """The order's keys about the checkpoint, and its tar."""
    found = submission.resume_from
    if found is None:
        return {}, []
    if digest_of(found.path) != found.digest:
        raise IntegrityError(
            f"{found.path} is no longer what was published", "choose another with --checkpoint NAME"
        )
    inside = [
        (
            found.name if path == found.path else f"{found.name}/{path.relative_to(found.path).as_posix()}",
            path,
        )
        for path in _files(found.path)
    ]
    digests = {name: _sha256(path) for name, path in inside}
    made = _write(folder / CHECKPOINT, _tar((FILES + name, path) for name, path in inside))
    resume = f"{records.RESUME}/{found.name}"
    return {"resume": resume, "resume_digest": digests}, [made]


def _data(source: Any, folder: Path) -> tuple[dict[str, Any], list[PayloadFile]]:
    """What payload.json says of a source of data, and its tar; one from the web is fetched there."""
    if source.sha256:
        return {"url": source.origin, "sha256": source.sha256}, []
    files = contents(source)
    wrong = changed(source, files)
    if wrong:
        raise since(source, wrong)
    single = files[0][0] == ""
    name = f"data-{source.key}.bin"
    inside = (
        (
            FILES + (notebook_tree.SINGLE if single else f"{notebook_tree.TREE}/{path}"),
            Path(source.path_of(path)),
        )
        for path, _, _ in files
    )
    return {"digest": source.digest, "file": name}, [_write(folder / name, _tar(inside))]


def _secrets(submission: Submission, folder: Path, platform: Platform) -> list[PayloadFile]:
    names = submission.order["secrets"]
    if platform.secrets != FILE or not names:
        return []
    missing = [name for name in names if name not in submission.secrets]
    if missing:
        raise Refused(f"no value for the secret {', '.join(missing)}", f"launcher secret set {missing[0]}")
    values = {name: submission.secrets[name] for name in names}
    return [_small(folder / SECRETS, records.canonical(values))]


def _gpu(resources: Any) -> str:
    gpu = resources.gpu
    if gpu is None:
        return ""
    what = " or ".join(gpu.models) or "any GPU"
    memory = f" with {show_size(gpu.memory_bytes)}" if gpu.memory_bytes else ""
    return f"{resources.count} x {what}{memory}"


def _gpu_need(resources: Any) -> dict[str, Any] | None:
    gpu = resources.gpu
    if gpu is None:
        return None
    return {"models": list(gpu.models), "memory_bytes": gpu.memory_bytes, "count": resources.count}


def _tar(files: Iterable[tuple[str, Path]]) -> Iterator[bytes]:
    """A tar whose bytes depend on names and contents alone; nothing may be written to meanwhile."""
    for name, path in files:
        size = path.stat().st_size
        yield header(name, size, 0o644)
        done = 0
        with path.open("rb") as source:
            while chunk := source.read(CHUNK):
                done += len(chunk)
                yield chunk
        if done != size:
            raise Refused(f"{path} changed while it was packed", "wait until nothing writes to it")
        yield bytes(-size % BLOCK)
    yield bytes(2 * BLOCK)


def _copy(source: Path, path: Path) -> PayloadFile:
    with source.open("rb") as file:
        return _write(path, iter(lambda: file.read(CHUNK), b""))


def _small(path: Path, data: bytes) -> PayloadFile:
    return _write(path, [data])


def _write(path: Path, chunks: Iterable[bytes]) -> PayloadFile:
    """A new private file: secrets may be in it."""
    digest, size = hashlib.sha256(), 0
    path.unlink(missing_ok=True)
    with open(path, "xb", opener=_private) as out:
        for chunk in chunks:
            digest.update(chunk)
            size += out.write(chunk)
    return PayloadFile(path.name, path, size, digest.hexdigest())


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

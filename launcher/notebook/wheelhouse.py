"""A locked environment as flat files, for a place without internet or as its cache: finished, or as wheels."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from launcher import tools
from launcher.agent import download, records
from launcher.environment import EnvironmentPlan
from launcher.errors import IntegrityError, LauncherError, Unreachable
from launcher.lock import Lock
from launcher.notebook import frozen, wheels
from launcher.notebook.payload import ARCH, PayloadFile
from launcher.notebook.wheels import Wheel

LISTING, UV, PYTHON = "wheelhouse.json", "uv.bin", "python.bin"
THREADS = 4


@dataclass(frozen=True)
class Fetched:
    """How far a collection is: file `name` is here; `done` of `total` files."""

    name: str
    done: int
    total: int


def collect(plan: EnvironmentPlan, lock: Lock | None, folder: Path) -> list[PayloadFile]:
    """Fetch what is missing into `folder` (for linux x86_64, from whatever machine this is); all files.

    wheelhouse.json, and either the finished environment (frozen-<n>.bin, made on Linux alone) or uv.bin,
    python.bin and one NAME.whl.bin a wheel; every hash is the lock's. Unreachable when an index does not
    answer, Refused when a locked package has no wheel for that platform.
    """
    for _ in fetching(plan, lock, folder):
        pass
    return listed(folder)


def fetching(
    plan: EnvironmentPlan, lock: Lock | None, folder: Path, finished: bool = True
) -> Iterator[Fetched]:
    """As `collect`, telling how far it is. `finished`: as a finished environment, where this machine can make it."""
    if plan.trivial or _complete(plan, folder):
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = None
    if finished and frozen.can_be_made(plan):
        yield Fetched("building the environment here", 0, frozen.PARTS)
        made = _frozen(plan, folder)
    if made is None:
        yield from _wheels(plan, lock, folder)
        return
    _tell(plan, folder, {file.name: [file.size_bytes, file.sha256] for file in made.files}, frozen=made.told)
    for number, file in enumerate(made.files, 1):
        yield Fetched(file.name, number, len(made.files))


def _frozen(plan: EnvironmentPlan, folder: Path) -> frozen.Frozen | None:
    try:
        return frozen.freeze(plan, folder)
    except OSError as error:
        raise LauncherError(
            f"cannot build the environment in {folder}: {error.strerror}", "free some space"
        ) from error


def _wheels(plan: EnvironmentPlan, lock: Lock | None, folder: Path) -> Iterator[Fetched]:
    wanted = _wanted(plan, lock)
    made: dict[str, list[object]] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        tasks = [pool.submit(_fetch, one, folder) for one in wanted]
        try:
            for done, task in enumerate(as_completed(tasks), 1):
                file = task.result()
                made[file.name] = [file.size_bytes, file.sha256]
                yield Fetched(file.name, done, len(wanted) + 1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    uv = tools.uv_binary("linux", ARCH)
    shutil.copyfile(uv.path, folder / UV)
    made[UV] = [(folder / UV).stat().st_size, uv.sha256]
    _tell(plan, folder, made, wheels={one.filename: one.stored for one in wanted if one.filename})
    yield Fetched(UV, len(wanted) + 1, len(wanted) + 1)


def _tell(plan: EnvironmentPlan, folder: Path, files: Mapping[str, Any], **more: Any) -> None:
    """The listing, last: what has it is complete."""
    value = {"v": records.VERSION, "key": plan.key, "files": files, **more}
    records.write_durably(str(folder / LISTING), records.canonical(value))


def _complete(plan: EnvironmentPlan, folder: Path) -> bool:
    files = listed(folder)
    if not files or json.loads(files[0].path.read_bytes()).get("key") != plan.key:
        return False
    return all(file.path.is_file() and file.path.stat().st_size == file.size_bytes for file in files)


def listed(folder: Path) -> list[PayloadFile]:
    """The files of a collection that is complete; none when there is no such."""
    try:
        data = (folder / LISTING).read_bytes()
        told = json.loads(data)["files"]
    except (OSError, ValueError, KeyError):
        return []
    own = PayloadFile(LISTING, folder / LISTING, len(data), hashlib.sha256(data).hexdigest())
    return [
        own,
        *(PayloadFile(name, folder / name, size, sha256) for name, (size, sha256) in sorted(told.items())),
    ]


def _wanted(plan: EnvironmentPlan, lock: Lock | None) -> list[Wheel]:
    """The interpreter, and a wheel for each pin."""
    found = []
    interpreter = lock.interpreter_for(ARCH) if lock else None
    if interpreter:
        found.append(Wheel("", PYTHON, interpreter.url, interpreter.sha256))
    pins = lock.pins_for(ARCH, plan.python) if lock else ()
    places = wheels.indexes(lock, plan.torch) if lock else ()
    with ThreadPoolExecutor(THREADS) as pool:
        found += pool.map(lambda pin: wheels.choose(pin, plan.python or "3.12", places), pins)
    return found


def _fetch(wanted: Wheel, folder: Path) -> PayloadFile:
    path = folder / wanted.stored
    if not (path.is_file() and _sha256(path) == wanted.sha256):
        _download(wanted, path)
    return PayloadFile(wanted.stored, path, path.stat().st_size, wanted.sha256)


def _download(wanted: Wheel, path: Path) -> None:
    part = path.with_name(path.name + ".part")
    fd = os.open(part, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if wanted.url.startswith("file:"):
            _copy(wanted, fd)
        else:
            download.download(wanted.url, wanted.sha256, fd, lambda done, total: None)
        os.fsync(fd)
        os.replace(part, path)
    except download.NoWay as error:
        raise Unreachable(f"{wanted.stored}: {error}", "check the network, then try again") from error
    except download.BadDownload as error:
        raise IntegrityError(f"{wanted.stored}: {error}") from error
    except OSError as error:
        raise LauncherError(f"cannot write {path}: {error.strerror}", "free some space") from error
    finally:
        os.close(fd)


def _copy(wanted: Wheel, fd: int) -> None:
    data = Path(url2pathname(urlsplit(wanted.url).path)).read_bytes()
    if hashlib.sha256(data).hexdigest() != wanted.sha256:
        raise IntegrityError(f"{wanted.url} does not have the hash that the lock states")
    os.ftruncate(fd, 0)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(data)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

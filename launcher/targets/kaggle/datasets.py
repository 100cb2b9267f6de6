"""Private datasets: a payload's and an environment's files at Kaggle, there as announced before anything runs."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import Refused, RemoteError, Unreachable
from launcher.notebook.payload import PayloadFile
from launcher.run import Segment, State
from launcher.target import Step
from launcher.targets.kaggle.api import KaggleAPI

LONGEST = 50  # of a notebook's or dataset's name
ENVIRONMENTS = "launcher-env-"
OURS = re.compile(r".+-([a-z2-7]{8})-run(-\d+)?")  # a nonce alone may be any word of eight letters
READY, FAILED = "READY", "FAILED"
PATIENCE_S = 900.0  # for a version to become current, beyond a minute a GB
A_GB_S = 60.0
LOOK_S = (0.2, 0.5, 1.0, 2.0, 5.0)
MARK = b"\n"


@dataclass(frozen=True)
class Wanted:
    """A private dataset `slug` (`user/name`) with exactly these files; `what` is the phase that is shown."""

    slug: str
    files: Sequence[PayloadFile]
    what: str
    patience_s: float = PATIENCE_S

    @property
    def sizes(self) -> dict[str, int]:
        return {file.name: file.size_bytes for file in self.files}

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def notebook_name(segment: Segment) -> str:
    """One notebook for all of a run's segments, each a version of it: what was ticked there stays ticked."""
    return _name(segment, "-run")


def dataset_name(segment: Segment) -> str:
    """A dataset for each segment."""
    return _name(segment, f"-run-{segment.number}")


def nonce_of(slug: str) -> str | None:
    """The nonce in a name of ours; None: not ours."""
    match = OURS.fullmatch(slug.rpartition("/")[2])
    return match[1] if match else None


def _name(segment: Segment, tail: str) -> str:
    """The run's name, cut, with its nonce. Kaggle makes names from titles: no two hyphens side by side."""
    name, tail = segment.run_id[:-9], f"-{segment.run_id[-8:]}{tail}"
    cut = re.sub("-+", "-", name)[: LONGEST - len(tail)].strip("-")
    return f"{cut or 'run'}{tail}"


def marker(folder: Path, digest: str) -> PayloadFile:
    """A small file whose name tells versions apart: a listing shows names and sizes, and no contents."""
    path = folder / marker_name(digest)
    path.write_bytes(MARK)
    return PayloadFile(path.name, path, len(MARK), hashlib.sha256(MARK).hexdigest())


def marker_name(digest: str) -> str:
    return f"contents-{digest[:16]}.bin"


def ready(api: KaggleAPI, slug: str, digest: str) -> bool:
    """Whether the dataset is ready and its current version is the one with this mark: versions come whole."""
    return api.dataset_status(slug) == READY and marker_name(digest) in api.dataset_files(slug)


def bring(api: KaggleAPI, wanted: Wanted) -> Iterator[Step]:
    """The dataset stands there, ready and listed. What is there already is not sent again."""
    yield Step(State.SYNCING, wanted.what, wanted.slug, 0, wanted.size_bytes)
    status = api.dataset_status(wanted.slug)
    if status is None or not (yield from _listed(api, wanted, patience_s=_moment(status))):
        tokens = yield from _uploaded(api, wanted)
        _create(api, wanted, tokens)
        if not (yield from _listed(api, wanted, wanted.patience_s + A_GB_S * wanted.size_bytes / 1e9)):
            raise RemoteError(
                f"Kaggle does not make the dataset {wanted.slug} ready",
                "`launcher attach RUN` looks again, `launcher release RUN` removes it",
            )
    yield Step(State.SYNCING, wanted.what, wanted.slug, wanted.size_bytes, wanted.size_bytes)


def _moment(status: str) -> float:
    """How long to wait for a version that an earlier try may have made."""
    return 0.0 if status in (READY, FAILED) else PATIENCE_S


def _uploaded(api: KaggleAPI, wanted: Wanted) -> Generator[Step, None, list[str]]:
    tokens, before = [], 0
    for file in wanted.files:
        sending = api.upload(file.path, file.name)
        while True:
            try:
                done, _ = next(sending)
            except StopIteration as end:
                tokens.append(end.value)
                break
            yield Step(State.SYNCING, wanted.what, file.name, before + done, wanted.size_bytes + 1)
        before += file.size_bytes
    return tokens


def _create(api: KaggleAPI, wanted: Wanted, tokens: Sequence[str]) -> None:
    """One version more, or the first. A lost answer is looked up by name."""
    name = wanted.slug.rpartition("/")[2]
    before = api.dataset_status(wanted.slug)
    try:
        if before is None:
            api.create_dataset(wanted.slug, name, tokens)
        else:
            api.create_dataset_version(wanted.slug, "by launcher", tokens)
    except Unreachable:
        if not _arrived(api, wanted, before):
            raise
    except Refused as error:
        if before is None and api.dataset_status(wanted.slug) is not None:
            return  # another process of ours was quicker
        raise Refused(
            f"Kaggle does not take the dataset {name}: {error.message}",
            error.hint or "look at https://www.kaggle.com/datasets under Your Work",
        ) from error


def _arrived(api: KaggleAPI, wanted: Wanted, before: str | None) -> bool:
    for wait_s in LOOK_S:
        time.sleep(wait_s)
        status = api.dataset_status(wanted.slug)
        if status != before or (status == READY and api.dataset_files(wanted.slug) == wanted.sizes):
            return status is not None
    return False


def _listed(api: KaggleAPI, wanted: Wanted, patience_s: float) -> Generator[Step, None, bool]:
    """Whether the dataset becomes ready with exactly these files within the time."""
    end, looks = time.monotonic() + patience_s, 0
    while True:
        status = api.dataset_status(wanted.slug)
        if status == FAILED and patience_s:
            raise RemoteError(
                f"Kaggle could not process the dataset {wanted.slug}",
                "`launcher attach RUN` tries again, `launcher release RUN` removes it",
            )
        if status == READY and api.dataset_files(wanted.slug) == wanted.sizes:
            return True
        if time.monotonic() >= end:
            return False
        yield Step(State.SYNCING, wanted.what, f"Kaggle prepares it ({status})", 0, None)
        time.sleep(LOOK_S[min(looks, len(LOOK_S) - 1)])
        looks += 1

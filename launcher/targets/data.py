"""Brings a job's data to a machine: only what it lacks, once for all runs, and proven there."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.agent import datastore, records
from launcher.data.source import Entry, Source, contents
from launcher.data.take import changed
from launcher.errors import IntegrityError, Refused, RemoteError
from launcher.job.units import show_size
from launcher.run import State
from launcher.target import Finding, Step
from launcher.targets import send
from launcher.targets.download import bring_download
from launcher.targets.ready import Brought

ROUNDS = 3  # what another client takes away meanwhile is sent again
MARGIN_BYTES = 64 << 20
MOST_FILES = 100_000  # in one question
MOST_NAMED = 5


@dataclass
class _Lack:
    """What of one source must travel: one entry for each content."""

    source: Source
    files: list[Entry]
    missing: list[Entry]

    @property
    def size_bytes(self) -> int:
        return sum(size for _, size, _ in self.missing)


def bring(steward: Any, sources: Sequence[Source]) -> Generator[Step, None, Brought]:
    """All sources are whole on the machine; nothing is sent that is there."""
    if not sources:
        return Brought()
    local = [source for source in sources if source.digest]
    told = {source.key: _told(source.digest, source.files, source.size_bytes) for source in local}
    for source in sources:
        if not source.digest:
            entry = yield from bring_download(steward, source)
            digest = records.tree_digest([entry])
            if _tree(steward, [entry], digest):
                raise _unstable(steward, source)
            told[source.key] = _told(digest, 1, entry[1])
    lacks = list(_lacking(steward, local))
    if (yield from _made_room(steward, lacks)):
        lacks = list(_lacking(steward, local))  # what was removed may have been part of it
        _room(steward, lacks)
    for lack in lacks:
        _unchanged(lack)
    for lack in lacks:
        yield from _bring(steward, lack)
    return Brought(str(steward.hello["root"]), told)


def lacking(steward: Any, sources: Sequence[Source]) -> dict[str, int]:
    """key -> bytes that would travel; of a download that is not there the size is unknown and left out."""
    found = {source.key: 0 for source in sources if source.digest}
    found |= {
        lack.source.key: lack.size_bytes for lack in _lacking(steward, [s for s in sources if s.digest])
    }
    return found


def finding(steward: Any) -> Finding:
    """What `check` says of the cache."""
    kept = steward.call("data_kept")
    sources, size = (send.figure(steward, kept, key) for key in ("sources", "size_bytes"))
    return Finding("data", True, f"{sources} kept, {show_size(size)}" if sources else "none kept")


def _lacking(steward: Any, sources: Sequence[Source]) -> Iterator[_Lack]:
    if not sources:
        return
    whole = steward.call("data_have", digests=[source.digest for source in sources]).get("whole")
    for source, there in zip(sources, whole if isinstance(whole, list) else (), strict=False):
        if there is not True:
            files = contents(source)
            yield _Lack(source, files, _missing(steward, files))


def _missing(steward: Any, files: Sequence[Entry]) -> list[Entry]:
    """One entry for each content that the machine lacks."""
    by_hash = {entry[2]: entry for entry in files}
    wanted, found = list(by_hash.values()), []
    for start in range(0, len(wanted), MOST_FILES):
        some = wanted[start : start + MOST_FILES]
        answer = steward.call("data_lacks", files=[[sha256, size] for _, size, sha256 in some])
        found += [some[place] for place in places(answer.get("lacks"), len(some), steward.name)]
    return sorted(found)


def places(answer: Any, count: int, name: str) -> list[int]:
    """What the machine says of a list, believed only as far as it speaks of that list."""
    good = isinstance(answer, list) and all(type(place) is int and 0 <= place < count for place in answer)
    if not good or len(set(answer)) != len(answer):
        raise RemoteError(f"{name} does not say which data it lacks", "look at the agent there")
    return sorted(answer)


def _made_room(steward: Any, lacks: Sequence[_Lack]) -> Generator[Step, None, bool]:
    """Whether sources that no run needs had to go. Refused when even that would not do."""
    short = _short(steward, lacks)
    if short <= 0:
        return False
    removed = send.figure(steward, steward.call("data_evict", bytes=short), "removed")
    if not removed:
        _room(steward, lacks)
    what = "one source" if removed == 1 else f"{removed} sources"
    notice = f"removed {what} of data that no run needs now from {steward.name}, to make room"
    yield Step(State.SYNCING, f"data {lacks[0].source.key}", notice=notice)
    return True


def _room(steward: Any, lacks: Sequence[_Lack]) -> None:
    short = _short(steward, lacks)
    if short > 0:
        keys, wanted = ", ".join(lack.source.key for lack in lacks), _size(lacks)
        free = show_size(wanted + MARGIN_BYTES - short)
        raise Refused(
            f"data {keys}: {show_size(wanted)} would travel and {free} are free on {steward.name}",
            "free some space there, or choose another target with --on",
        )


def _short(steward: Any, lacks: Sequence[_Lack]) -> int:
    """How many bytes of room are missing; not above zero if none."""
    wanted = _size(lacks)
    return (
        wanted + MARGIN_BYTES - send.figure(steward, steward.call("data_lacks", files=[]), "free_bytes")
        if wanted
        else 0
    )


def _size(lacks: Sequence[_Lack]) -> int:
    return sum(lack.size_bytes for lack in lacks)


def _unchanged(lack: _Lack) -> None:
    """Only what was recorded is sent: what the run was made from, not today's folder."""
    wrong = changed(lack.source, lack.missing)
    if wrong:
        raise since(lack.source, wrong)


def since(source: Source, wrong: Sequence[str]) -> Refused:
    names = ", ".join(send.shown_path(path) or source.origin for path in wrong[:MOST_NAMED])
    more = f" and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
    return Refused(
        f"data {source.key} has changed since the run: {names}{more}",
        "put the old files back, or start a new run with `launcher run`",
    )


def _bring(steward: Any, lack: _Lack) -> Iterator[Step]:
    source, missing = lack.source, lack.missing
    assert source.digest is not None
    for _ in range(ROUNDS):
        wrong = yield from send.send(steward, source, missing)
        if wrong:
            raise since(source, wrong)
        missing = _tree(steward, lack.files, source.digest)
        if not missing:
            yield Step(State.SYNCING, f"data {source.key}", send.count(len(lack.files)), 1, 1)
            return
        missing = sorted({entry[2]: entry for entry in missing}.values())
    raise _unstable(steward, source)


def _tree(steward: Any, files: Sequence[Entry], digest: str) -> list[Entry]:
    """The tree stands there, or what is still missing for it."""
    answer = steward.call("data_tree", datastore.encode(files), digest=digest)
    return [files[place] for place in places(answer.get("lacks"), len(files), steward.name)]


def _unstable(steward: Any, source: Source) -> IntegrityError:
    what = f"data {source.key} does not stay on {steward.name}"
    return IntegrityError(what, "is something removing it there?")


def _told(digest: str | None, files: int | None, size_bytes: int | None) -> dict[str, Any]:
    return {"digest": digest, "files": files, "size_bytes": size_bytes}

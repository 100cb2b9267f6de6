"""A session's log as one stream: through cuts, replays and silence, each event once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from launcher.errors import RemoteError, Unreachable
from launcher.targets.kaggle.api import KaggleAPI, LogEvent
from launcher.targets.kaggle.said import Said
from launcher.targets.kaggle.status import over

TRIES = 5  # connections one after the other that bring nothing new
LASTING_S = 10.0  # a connection that stood so long was one: idle ones are cut after three minutes
PAUSE_S = 0.5
PAUSE_MOST_S = 5.0
FIRST_S = 4.0  # a look waits so long for a first event
PAUSED_S = 0.3  # … and ends when no further one came for so long
LOOK_S = 5.0  # … or after so long with a job that never pauses


def events(api: KaggleAPI, slug: str, version: int | None) -> Iterator[LogEvent | None]:
    """Until the log's end; None is a sign of life. Unreachable after several connections without any news."""
    seen, failures = 0, 0
    while True:
        began = time.monotonic()
        try:
            for event in _opened(api, slug, version):
                if event is None:
                    yield None
                elif event.index >= seen:
                    seen, failures = event.index + 1, 0
                    yield event
            return
        except Unreachable:
            failures = 0 if time.monotonic() - began > LASTING_S else failures + 1
            if failures >= TRIES:
                raise
        except _Missing:
            status = api.kernel_status(slug, version)
            if status is None or over(status.state):
                return  # it ended without a log
        yield None
        time.sleep(min(PAUSE_S * (1 + failures), PAUSE_MOST_S))


def by_now(api: KaggleAPI, slug: str, version: int | None) -> Iterator[LogEvent]:
    """What a session has said by now, as far as a short look shows it: what comes without a pause."""
    began: float | None = None
    end = time.monotonic() + FIRST_S
    with contextlib.suppress(_Missing):
        for event in _opened(api, slug, version, PAUSED_S):
            if event is None and (began is not None or time.monotonic() > end):
                return
            if event is not None:
                began = began or time.monotonic()
                yield event
            if began is not None and time.monotonic() - began > LOOK_S:
                return


def heard(api: KaggleAPI, place: tuple[str, int | None], first_seq: int = 1) -> Said:
    """All that a session that has ended ever said, looked through."""
    said = Said(first_seq)
    for event in events(api, *place):
        for _ in said.take(event.stream, event.text) if event else ():
            pass
    return said


def session_id(api: KaggleAPI, slug: str, version: int | None) -> str:
    """The number by which a session can be cancelled; "" as long as its notebook has not said it."""
    said = Said()
    end = time.monotonic() + FIRST_S
    with contextlib.suppress(_Missing):
        for event in _opened(api, slug, version, PAUSED_S):
            for _ in said.take(event.stream, event.text) if event else ():
                pass
            if said.session or time.monotonic() > end:
                break
    return said.session


class _Missing(Exception):
    """There is no log yet."""


def _opened(
    api: KaggleAPI, slug: str, version: int | None, heartbeat_s: float | None = None
) -> Iterator[LogEvent | None]:
    more = {} if heartbeat_s is None else {"heartbeat_s": heartbeat_s}
    try:
        yield from api.log_events(slug, version, **more)
    except RemoteError as error:
        if error.code != "missing":
            raise
        raise _Missing from error

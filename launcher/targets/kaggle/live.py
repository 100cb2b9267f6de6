"""A session's log as one stream: through cuts, replays and silence, each event once."""

from __future__ import annotations

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


def events(api: KaggleAPI, slug: str, version: int | None) -> Iterator[LogEvent | None]:
    """Until the log's end; None is a sign of life. Unreachable after several connections without any news."""
    seen, failures = 0, 0
    while True:
        began = time.monotonic()
        try:
            for event in api.log_events(slug, version):
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
        except RemoteError as error:
            if error.code != "missing":
                raise
            status = api.kernel_status(slug, version)
            if status is None or over(status.state):
                return  # it ended without a log
        yield None
        time.sleep(min(PAUSE_S * (1 + failures), PAUSE_MOST_S))


def until_silent(api: KaggleAPI, slug: str, version: int | None) -> Iterator[LogEvent]:
    """What a session has said by now, over one connection."""
    try:
        for event in api.log_events(slug, version):
            if event is None:
                return
            yield event
    except RemoteError as error:
        if error.code != "missing":
            raise


def heard(api: KaggleAPI, slug: str, version: int | None, first_seq: int = 1) -> Said:
    """All that a session has said by now, looked through."""
    said = Said(first_seq)
    for event in until_silent(api, slug, version):
        for _ in said.take(event.stream, event.text):
            pass
    return said


def session_id(api: KaggleAPI, slug: str, version: int | None) -> str:
    """The number by which a session can be cancelled; "" as long as its notebook has not said it."""
    said = Said()
    for event in until_silent(api, slug, version):
        for _ in said.take(event.stream, event.text):
            pass
        if said.session:
            return said.session
    return ""

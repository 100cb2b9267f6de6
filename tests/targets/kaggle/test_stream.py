"""The log of a session: live and finished, through cuts and replays, and whatever else may come instead."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator

import pytest

from launcher.config import Config
from launcher.errors import AuthError, LauncherError, RemoteError, Unreachable
from launcher.targets.kaggle import stream
from launcher.targets.kaggle.api import KaggleAPI, LogEvent, Push, credentials
from tests.emulators.kaggle.emulator import Kaggle
from tests.emulators.kaggle.plain import notebook
from tests.emulators.kaggle.sessions import Session
from tests.emulators.kaggle.settings import Answer, Settings
from tests.targets.kaggle.scripted import Reply, Scripted, sse

LINES = 100_000


@pytest.fixture(scope="module")
def shared() -> Iterator[Kaggle]:
    """Sessions that queue for ever: the tests write their logs."""
    with Kaggle(Settings(queue_wall_s=3600)) as running:
        yield running


@pytest.fixture
def kaggle(shared: Kaggle) -> Iterator[Kaggle]:
    yield shared
    shared.faults.answers.clear()
    shared.faults.cut_stream_after_s = shared.faults.cut_idle_stream_after_s = None
    for session in shared.sessions:
        session.log.close()
        session.cancel()


@pytest.fixture
def api(kaggle: Kaggle) -> KaggleAPI:
    return KaggleAPI(kaggle.url, credentials(Config(kaggle.environment)))


def queued(kaggle: Kaggle, api: KaggleAPI, name: str) -> Session:
    api.save_kernel(Push(name, name, notebook("1")))
    return kaggle.sessions[-1]


def add(session: Session, *texts: str) -> None:
    for text in texts:
        session.log.add({"stream_name": "stdout", "time": 1.0, "data": text})


def texts(events: Iterator[LogEvent | None]) -> list[str]:
    return [event.text for event in events if event is not None]


def until_cut(events: Iterator[LogEvent | None]) -> list[LogEvent]:
    """What a connection brings before it is cut."""
    found: list[LogEvent] = []
    try:
        for event in events:
            found += [event] if event is not None else []
    except Unreachable:
        return found
    raise AssertionError("the stream came to its end")


def test_a_live_log_comes_event_by_event_and_ends(kaggle: Kaggle, api: KaggleAPI) -> None:
    session = queued(kaggle, api, "comes-live")
    events = api.log_events("comes-live", 1)
    for n in range(3):
        add(session, f"line {n}\n")
        assert next(one for one in events if one) == LogEvent(n, "stdout", f"line {n}\n")
    session.log.close()
    assert texts(events) == []


def test_a_finished_log_brings_the_same_events_with_the_same_numbers(kaggle: Kaggle, api: KaggleAPI) -> None:
    session = queued(kaggle, api, "finished-log")
    add(session, "a\n", 'quotes " and \\ and \u00e9\u2028\n', "c\n")
    session.log.close()
    live = list(api.log_events("finished-log"))
    session.cancel()
    kaggle.wait("CANCEL_ACKNOWLEDGED", session)
    assert list(api.log_events("finished-log")) == live
    assert texts(iter(live))[1] == 'quotes " and \\ and \u00e9\u2028\n'


def test_a_cut_drops_half_an_event_and_a_replay_brings_it_whole(kaggle: Kaggle, api: KaggleAPI) -> None:
    session = queued(kaggle, api, "gets-cut")
    kaggle.faults.cut_idle_stream_after_s = 0.3
    add(session, "a\n", "b\n")
    first = until_cut(api.log_events("gets-cut"))
    kaggle.faults.cut_idle_stream_after_s = None
    add(session, "c\n")
    session.log.close()
    second = [one for one in api.log_events("gets-cut") if one]
    assert second[: len(first)] == first
    assert texts(iter(second)) == ["a\n", "b\n", "c\n"]


def test_of_100_000_lines_with_many_cuts_and_full_replays_none_is_lost_and_none_doubled(
    kaggle: Kaggle, api: KaggleAPI
) -> None:
    session = queued(kaggle, api, "many-lines")
    kaggle.faults.cut_stream_after_s = 0.1

    def write() -> None:
        for n in range(0, LINES, 1000):
            add(session, *(f"line {k}\n" for k in range(n, n + 1000)))
            time.sleep(0.05)
        session.cancel()

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[str] = []
    cuts = 0
    while True:
        try:
            for event in api.log_events("many-lines"):
                if event is not None and event.index >= len(seen):
                    assert event.index == len(seen)
                    seen.append(event.text)
            break
        except Unreachable:
            cuts += 1
    writer.join()
    assert cuts > 10
    assert seen == [f"line {n}\n" for n in range(LINES)]


def test_silence_is_told_from_the_end(kaggle: Kaggle, api: KaggleAPI) -> None:
    queued(kaggle, api, "is-silent")
    quiet = api.log_events("is-silent", 1, heartbeat_s=0.05)
    assert list(itertools.islice(quiet, 3)) == [None, None, None]


def test_a_follower_that_stops_leaves_no_thread_and_no_connection(kaggle: Kaggle, api: KaggleAPI) -> None:
    session = queued(kaggle, api, "is-left")
    add(session, "a\n")
    events = api.log_events("is-left")
    assert next(one for one in events if one).text == "a\n"
    events.close()
    no_reader_is_left()


def no_reader_is_left() -> None:
    deadline = time.monotonic() + 120
    while any(thread.name == stream.THREAD for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_log_that_is_not_there_is_missing(kaggle: Kaggle, api: KaggleAPI) -> None:
    queued(kaggle, api, "has-one-version")
    with pytest.raises(RemoteError, match="no log of alice/has-one-version") as caught:
        list(api.log_events("has-one-version", 7))
    assert caught.value.code == "missing"
    with pytest.raises(RemoteError, match="no log of alice/never-was") as caught:
        list(api.log_events("never-was"))
    assert caught.value.code == "missing"


def test_a_log_that_is_not_ours_is_not_taken_for_gone(kaggle: Kaggle, api: KaggleAPI) -> None:
    queued(kaggle, api, "is-alices")
    bob = {**kaggle.environment, "KAGGLE_API_TOKEN": kaggle.account("bob").token()}
    with pytest.raises(AuthError, match="does not let bob see alice/is-alices"):
        list(KaggleAPI(kaggle.url, credentials(Config(bob))).log_events("alice/is-alices"))


def test_a_busy_kaggle_is_waited_for_before_the_stream(kaggle: Kaggle, api: KaggleAPI) -> None:
    session = queued(kaggle, api, "waits-first")
    kaggle.faults.answers += [Answer("logs", status=429, retry_after_s=0.2), Answer("logs", status=502)]
    add(session, "a\n")
    session.log.close()
    assert texts(api.log_events("waits-first")) == ["a\n"]


def test_a_session_that_is_queued_is_waited_for_where_kaggle_has_no_log_yet() -> None:
    later = Reply([b"data: {}\n", b"data: END_OF_LOG\n"], 200, {"Content-Type": "text/event-stream"})
    with Scripted(job=[Reply(b"", 404)], GetKernelSessionLogsStream=[later]) as server:
        assert list(server.api().log_events("job", 2)) == [LogEvent(0, "", "")]
        body = json.loads(server.asked[-1][2])
    assert body == {
        "userName": "alice",
        "kernelSlug": "job",
        "versionLabel": "v2",
        "waitForLogsUrlSeconds": 60,
    }


FRAMES = (
    b": a comment\r\n\r\n"
    b'data: {"stream_name": "stdout", "time": 1.5, "data": "one\\n"}\r\n\r\n'
    b'data:{"stream_name":"stderr","time":2,"data":"zw\xc3\xb6lf"}\n\n'
    b"event: ping\ndata: not JSON\n\n"
    b'data: [1]\n\ndata: {"data": 7, "stream_name": null}\n\n'
    b"data: END_OF_LOG\n\n"
)
EVENTS = [
    LogEvent(0, "stdout", "one\n"),
    LogEvent(1, "stderr", "zwölf"),
    LogEvent(2, "", "not JSON"),
    LogEvent(3, "", ""),
    LogEvent(4, "", ""),
]


def test_events_are_the_same_wherever_the_network_breaks_the_stream_in_pieces() -> None:
    for size in (1, 2, 7, len(FRAMES)):
        pieces = [FRAMES[at : at + size] for at in range(0, len(FRAMES), size)]
        with Scripted(job=[sse(*pieces)]) as server:
            assert list(server.api().log_events("job")) == EVENTS


def test_a_cut_anywhere_brings_whole_events_only() -> None:
    end = FRAMES.index(b"data: END_OF_LOG") + len(b"data: END_OF_LOG\n")
    for at in range(0, end, 3):
        with Scripted(job=[sse(FRAMES[:at])]) as server:
            found = until_cut(server.api().log_events("job"))
        assert found == EVENTS[: len(found)]


def array(*pieces: bytes, **headers: str) -> Reply:
    return Reply(pieces, 200, {"Content-Type": "application/octet-stream", **headers})


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (b"", []),
        (b"[]", []),
        (b"[\n]", []),
        (b' [ {"data": "a"} , {"data": "]["} ] \n', ["a", "]["]),
        (b'[1, null, "x", {"data": "a"}]', ["", "", "x", "a"]),
        (b'[{"data": "no end"}', ["no end"]),
    ],
)
def test_a_finished_log_may_have_any_shape_of_a_list(said: bytes, found: list[str]) -> None:
    for pieces in ([said], [said[at : at + 1] for at in range(len(said))]):
        with Scripted(job=[array(*pieces)]) as server:
            assert texts(server.api().log_events("job")) == found


@pytest.mark.parametrize(
    "said",
    [b"<html>Sign in</html>", b'{"log": 1}', b'[{"data": "a"}, nonsense]', b"[" * 5000, b'[{"data": "'],
)
def test_a_finished_log_that_is_none_is_one_clear_line(said: bytes) -> None:
    with Scripted(job=[array(said)]) as server:
        with pytest.raises(RemoteError) as caught:
            list(server.api().log_events("job"))
    assert caught.value.message.startswith("Kaggle's log ")
    assert "\n" not in caught.value.message


def test_a_finished_log_that_is_cut_is_asked_for_again() -> None:
    with Scripted(job=[array(b'[{"data": "a"},', **{"Content-Length": "100"})]) as server:
        until_cut(server.api().log_events("job"))


def endless(start: bytes, more: bytes) -> Iterator[bytes]:
    yield start
    while True:
        yield more


@pytest.mark.parametrize(
    "reply",
    [
        sse(b""),
        array(b""),
    ],
    ids=["live", "finished"],
)
def test_a_line_without_an_end_is_given_up_before_it_fills_the_memory(reply: Reply) -> None:
    body = endless(
        b'data: {"data": "' if "event" in reply.headers["Content-Type"] else b'[{"data": "', b"x" * 65536
    )
    with Scripted(job=[Reply(body, 200, reply.headers)]) as server:
        with pytest.raises(RemoteError, match=r"16 MiB|no end"):
            list(server.api().log_events("job"))
        assert server.sent_bytes < 64 << 20


def test_a_stream_without_an_end_does_not_pile_up_when_nobody_reads() -> None:
    body = endless(b"", b'data: {"data": "x"}\n' * 3000)
    with Scripted(job=[Reply(body, 200, {"Content-Type": "text/event-stream"})]) as server:
        events = server.api().log_events("job")
        assert next(events) is not None
        before = -1
        while server.sent_bytes != before:
            before = server.sent_bytes
            time.sleep(0.3)
        events.close()
        no_reader_is_left()
        assert before < 64 << 20


@pytest.mark.parametrize("status", [400, 405, 418])
def test_a_refusal_is_one_clear_line(status: int) -> None:
    reply = Reply(b"<html>" + b"no " * 10_000, status, {"Content-Type": "text/html"})
    with Scripted(job=[reply], GetKernelSessionLogsStream=[reply]) as server:
        with pytest.raises(LauncherError) as caught:
            list(server.api().log_events("job"))
    assert caught.value.message == f"Kaggle's log failed with {status}"

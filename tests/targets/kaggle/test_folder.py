"""A session's log put back together from its live output, and the segment's folder from its outputs."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.agent import records
from launcher.config import Config
from launcher.errors import Refused
from launcher.target import Range
from launcher.targets.kaggle.api import KaggleAPI, credentials
from launcher.targets.kaggle.folder import KaggleFolder, Place
from launcher.targets.kaggle.said import METRICS, Said
from tests.emulators.kaggle.emulator import Kaggle
from tests.emulators.kaggle.plain import Plain
from tests.emulators.kaggle.settings import Faults
from tests.targets.kaggle.place import kaggle as kaggle

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def line(seq: int, text: str = "x\n") -> str:
    return records.log_line(seq, "2026-01-01T00:00:00.000Z", 0, 0, "stdout", text).decode()


def gathered(said: Said, pieces: Sequence[str], stream: str = "stdout") -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for piece in pieces:
        for path, data in said.take(stream, piece):
            found[path] = found.get(path, b"") + data
    return found


def cut(text: str, places: Sequence[int]) -> Iterator[str]:
    ends = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    yield from (text[a:b] for a, b in itertools.pairwise(ends))


@given(st.lists(TEXTS, max_size=8), st.lists(st.integers(0, 10_000), max_size=20))
def test_wherever_events_end_the_lines_are_the_agents_byte_for_byte(
    texts: list[str], places: list[int]
) -> None:
    lines = [line(number, text) for number, text in enumerate(texts, 1)]
    metrics = [f'{{"step":{number}}}\n' for number in range(3)]
    whole = (
        "launcher: session 4711\n" + "".join(lines) + "".join(f"launcher:metrics {one}" for one in metrics)
    )
    said = Said()
    found = gathered(said, list(cut(whole, places)))
    assert found.get(records.LOG, b"") == "".join(lines).encode()
    assert found[METRICS] == "".join(metrics).encode()
    assert said.session == "4711"
    assert said.ran == bool(lines)


def test_a_line_that_came_before_is_left_out_and_after_a_gap_nothing_more_is_given() -> None:
    said = Said(first_seq=5)
    found = gathered(said, [line(5), line(6), line(5), line(6), line(7), line(9), line(10)])
    assert found[records.LOG] == (line(5) + line(6) + line(7)).encode()


def test_a_line_without_its_end_is_kept_back() -> None:
    said = Said()
    assert gathered(said, [line(1), line(2)[:-1]])[records.LOG] == line(1).encode()
    assert gathered(said, ["\n"])[records.LOG] == line(2).encode()


def test_words_of_the_notebook_and_of_others_are_for_the_screen_alone() -> None:
    said = Said()
    found = gathered(said, ["launcher: building the environment\nWARNING: something\n" + line(1)])
    assert found[records.SAID] == b"building the environment\nWARNING: something\n"
    assert said.words == "building the environment"
    assert gathered(said, [line(2)], "stderr") == {records.SAID: line(2).encode()}


def test_only_a_number_is_a_sessions_number() -> None:
    said = Said()
    gathered(said, ["launcher: session 12; rm -rf\n"])
    assert said.session == ""


def test_an_endless_line_does_not_fill_the_memory() -> None:
    said = Said()
    for _ in range(100):
        assert gathered(said, ["x" * (1 << 20)]) == {}
    assert sum(len(rest) for rest in said._rest.values()) <= 1 << 20


AGENT = """
import os, sys, time
def line(seq):
    head = '{"v":1,"seq":%d,"time":"2026-01-01T00:00:00.000Z","segment":0,"rank":0,' % seq
    return head + '"stream":"stdout","text":"é %d\\\\n"}\\n' % seq
os.makedirs("/kaggle/working/run/0/out")
log = open("/kaggle/working/run/0/log.jsonl", "w")
metrics = open("/kaggle/working/run/0/out/metrics.jsonl", "w")
print("launcher: session", os.environ["KAGGLE_CONTAINER_NAME"].rsplit("-", 2)[1], flush=True)
for seq in range(1, LINES + 1):
    log.write(line(seq)); log.flush()
    if seq != MISSING:
        sys.stdout.write(line(seq)); sys.stdout.flush()
    if seq % 500 == 0:
        print('launcher:metrics {"step":%d}' % seq, flush=True)
        metrics.write('{"step":%d}\\n' % seq); metrics.flush()
        time.sleep(0.1)
open("/kaggle/working/run/0/manifest.jsonl", "w").write("{}\\n")
print("launcher: ended succeeded 0", flush=True)
time.sleep(AFTER)
"""


@pytest.fixture
def quiet(kaggle: Kaggle) -> Iterator[Kaggle]:
    settings = dict(vars(kaggle.settings))
    try:
        yield kaggle
    finally:
        vars(kaggle.settings).update(settings)
        vars(kaggle.faults).update({k: v for k, v in vars(Faults()).items() if k != "_lock"})


def pushed(kaggle: Kaggle, slug: str, lines: int, missing: int = 0, after: float = 0.0) -> KaggleFolder:
    code = AGENT.replace("LINES", str(lines)).replace("MISSING", str(missing)).replace("AFTER", str(after))
    Plain(kaggle).push(slug, code)
    environment = {**kaggle.environment, "HOME": "/nonexistent"}
    api = KaggleAPI(kaggle.url, credentials(Config(environment)))
    return KaggleFolder(api, Place(f"alice/{slug}", 1, "run/0"))


def followed(folder: KaggleFolder, offset: int = 0) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path, data in folder.follow({records.LOG: offset, records.MANIFEST: 0, METRICS: 0}):
        found[path] = found.get(path, b"") + data
    return found


def whole(lines: int) -> bytes:
    return "".join(line(number, f"é {number}\n") for number in range(1, lines + 1)).encode()


def test_a_stream_that_is_cut_again_and_again_brings_each_line_once(quiet: Kaggle) -> None:
    quiet.faults.cut_stream_after_s = 0.3
    found = followed(pushed(quiet, "cut-again", 10_000))
    assert found[records.LOG] == whole(10_000)
    assert found[METRICS] == b"".join(b'{"step":%d}\n' % step for step in range(500, 10_001, 500))
    assert found[records.MANIFEST] == b"{}\n"


def test_a_silent_stream_that_is_cut_is_waited_for(quiet: Kaggle) -> None:
    quiet.faults.cut_idle_stream_after_s = 0.5
    assert followed(pushed(quiet, "keeps-silent", 10, after=2.0))[records.LOG] == whole(10)


def test_what_the_stream_lost_the_outputs_have(quiet: Kaggle) -> None:
    found = followed(pushed(quiet, "loses-lines", 1000, missing=700))
    assert found[records.LOG] == whole(1000)


def test_a_later_follower_gets_only_what_it_has_not(quiet: Kaggle) -> None:
    folder = pushed(quiet, "later-on", 1000)
    half = len(whole(500))
    assert followed(folder, half)[records.LOG] == whole(1000)[half:]
    assert followed(folder, half)[records.LOG] == whole(1000)[half:]


def test_a_session_in_the_queue_is_followed_from_its_first_line(quiet: Kaggle) -> None:
    quiet.settings.queue_wall_s = 1.5
    folder = pushed(quiet, "in-the-queue", 10)
    assert not folder.over()
    assert followed(folder)[records.LOG] == whole(10)


def test_a_url_whose_time_is_over_is_asked_for_anew(quiet: Kaggle) -> None:
    quiet.settings.signed_url_wall_s = 0.2
    folder = pushed(quiet, "short-urls", 10)
    followed(folder)
    before = folder.outputs()[records.LOG].url
    quiet.settings.signed_url_wall_s = 60.0
    time.sleep(0.3)
    wanted = [Range(records.LOG, 5, 20), Range("no/such/file"), Range(records.LOG, 10**6)]
    assert list(folder.read(wanted)) == [(0, whole(10)[5:25])]
    assert folder.outputs()[records.LOG].url != before


def test_many_files_come_in_the_order_asked_for_and_a_reader_may_stop(quiet: Kaggle) -> None:
    code = (
        "for n in range(300):\n    open(f'/kaggle/working/{n}.bin', 'wb').write(bytes([n % 256]) * n * 1000)"
    )
    Plain(quiet).push("many-files", code)
    quiet.wait("COMPLETE")
    api = KaggleAPI(quiet.url, credentials(Config({**quiet.environment, "HOME": "/nonexistent"})))
    folder = KaggleFolder(api, Place("alice/many-files", 1, "."))
    folder._outputs = {one.name: one for one in api.outputs("alice/many-files", 1)}
    wanted = [Range(f"{n}.bin") for n in reversed(range(300))]
    found: dict[int, bytes] = {}
    order = []
    for index, data in folder.read(wanted):
        found[index] = found.get(index, b"") + data
        order.append(index)
    assert order == sorted(order)
    assert all(found.get(i, b"") == bytes([n % 256]) * n * 1000 for i, n in enumerate(reversed(range(300))))
    first = folder.read(wanted)
    assert next(first)[0] == 0
    first.close()  # type: ignore[attr-defined]
    reading = [one for one in threading.enumerate() if one.name == "kaggle-output"]
    for one in reading:
        one.join(10)
    assert not any(one.is_alive() for one in reading)


def test_files_are_found_by_their_names_and_nothing_can_be_put(quiet: Kaggle) -> None:
    folder = pushed(quiet, "finds-files", 10)
    assert folder.find("out", ["*"]) == []
    with pytest.raises(Refused):
        folder.put(records.STOP, b"{}")
    followed(folder)
    folder.place = Place("alice/finds-files", 1, "run")
    again = KaggleFolder(folder._api, folder.place)
    assert again.find("0", ["*.jsonl"]) == [
        ("log.jsonl", len(whole(10)), 0.0),
        ("manifest.jsonl", 3, 0.0),
        ("out/metrics.jsonl", 0, 0.0),
    ]
    assert again.find("0/out", ["m*"]) == [("metrics.jsonl", 0, 0.0)]


def test_a_notebook_that_is_deleted_meanwhile_ends_the_log(quiet: Kaggle) -> None:
    folder = pushed(quiet, "is-deleted", 10, after=60)
    seen = b""
    for path, data in folder.follow({records.LOG: 0}):
        seen += data if path == records.LOG else b""
        if seen == whole(10):
            Plain(quiet).ask("DeleteKernel", userName="alice", kernelSlug="is-deleted")
    assert seen == whole(10)
    assert folder.status() is None

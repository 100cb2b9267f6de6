"""The client's side of the steward: whoever answers, it neither hangs nor swells."""

import collections
import contextlib
import itertools
import json
import os
import resource
import socket
import threading
import time

import pytest

from launcher.agent.frames import FRAME_COST, MAX_PAYLOAD, WINDOW, BadFrame, Reader, encode
from launcher.errors import RemoteError, Unreachable
from launcher.hosts import steward as stewards
from launcher.hosts.steward import Steward

HELLO = b'{"id":0,"hello":{"v":1}}\n'


class SocketChannel:
    """A channel whose other end is a test's; `tick_s` of silence is a TimeoutError."""

    def __init__(self, tick_s=5.0):
        self._mine, self.theirs = socket.socketpair()
        self._mine.settimeout(tick_s)

    def read(self, size, least=1):
        try:
            return self._mine.recv(size)
        except TimeoutError:
            raise
        except OSError:
            return b""

    def write(self, data):
        try:
            self._mine.sendall(data)
        except OSError as error:
            raise Unreachable("gone") from error

    def close(self):
        with contextlib.suppress(OSError):
            self._mine.shutdown(socket.SHUT_RDWR)
        self._mine.close()

    def last_words(self):
        return "last words"


def answering(act, hello=HELLO, tick_s=5.0):
    """A Steward whose other side is `act(socket)`, in a thread, after `hello`."""
    channel = SocketChannel(tick_s)
    theirs = channel.theirs

    def run():
        with theirs:
            try:
                theirs.sendall(hello)
                act(theirs)
            except OSError:
                pass

    threading.Thread(target=run, daemon=True).start()
    return Steward(channel, "gpu")


def read_slowly(stream):
    for _ in stream:
        time.sleep(0.05)


def replying(reply):
    """Send `reply` at the first request."""

    def act(theirs):
        theirs.recv(65536)
        theirs.sendall(reply)
        theirs.recv(65536)

    return act


@pytest.mark.parametrize(
    "reply",
    [
        b"not json\n",
        b"[]\n",
        b"{}\n",
        b'{"id":"x"}\n',
        b'{"id":true,"end":true}\n',
        b'{"id":1,"n":-1}\n',
        b'{"id":1,"n":1.5}\n',
        b'{"id":1,"n":%d}\n' % (MAX_PAYLOAD + 1),
        b'{"id":1,"n":"%s"}\n' % (b"9" * 500_000),
        b'{"id":1,"window":-5}\n',
        b'{"id":1,"window":"all"}\n',
        b'{"id":1,"joined":true}\n',
        b"[" * 500_000 + b"\n",
        b"x" * (MAX_PAYLOAD + 2),
        bytes(range(256)) * 5000,
    ],
)
def test_what_is_no_frame_ends_the_connection_with_a_clear_word(reply):
    steward = answering(replying(reply))
    with pytest.raises(RemoteError, match="does not answer as a steward does"):
        steward.call("stat", path="x")
    with pytest.raises(RemoteError):
        steward.call("stat", path="x")
    assert not steward.alive


@pytest.mark.parametrize("hello", [b'{"id":0,"hello":{"v":2}}\n', b'{"id":0,"hello":{}}\n'])
def test_a_steward_of_another_version_is_refused(hello):
    with pytest.raises(RemoteError, match="version"):
        answering(lambda theirs: theirs.recv(1), hello)


def test_an_end_before_the_hello_is_told_with_the_last_words():
    with pytest.raises(Unreachable, match="last words"):
        answering(lambda theirs: None, b"")


def test_an_end_in_the_middle_of_a_frame_is_unreachable():
    def act(theirs):
        theirs.recv(65536)
        theirs.sendall(b'{"id":1,"n":100}\nabc')

    with pytest.raises(Unreachable, match="ended the connection"):
        answering(act).call("stat", path="x")


def test_silence_is_noticed():
    steward = answering(lambda theirs: time.sleep(20), tick_s=0.2)
    start = time.monotonic()
    with pytest.raises(Unreachable, match="silent"):
        steward.call("stat", path="x")
    assert time.monotonic() - start < 3


def test_beats_alone_are_no_answer(monkeypatch):
    monkeypatch.setattr(stewards, "QUICK_S", 1.0)

    def act(theirs):
        while True:
            theirs.sendall(b'{"id":0,"beat":true}\n')
            time.sleep(0.05)

    start = time.monotonic()
    with pytest.raises(Unreachable, match="no answer"):
        answering(act).call("stat", path="x")
    assert time.monotonic() - start < 10


def test_endless_data_that_nobody_reads_is_stopped_before_memory_is_full():
    frame = b'{"id":1,"n":1048576}\n' + bytes(1 << 20)

    def act(theirs):
        theirs.recv(65536)
        for _ in range(4000):
            theirs.sendall(frame)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stream = answering(act).stream("read", ranges=[])
    next(stream)
    time.sleep(1)
    with pytest.raises(RemoteError, match="more bytes than were asked for"):
        read_slowly(stream)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4 * (WINDOW >> 10)


def test_parts_without_end_are_stopped_before_memory_is_full():
    part = b'{"id":1,"part":true,"n":1048576}\n' + bytes(1 << 20)

    def act(theirs):
        theirs.recv(65536)
        for _ in range(4000):
            theirs.sendall(part)

    with pytest.raises(RemoteError, match="a value of more than"):
        answering(act).call("stat", path="x")


def test_empty_frames_without_end_are_stopped_too():
    def act(theirs):
        theirs.recv(65536)
        while True:
            theirs.sendall(b'{"id":1}\n' * 1000)

    stream = answering(act).stream("read", ranges=[])
    next(stream)
    time.sleep(3)
    with pytest.raises(RemoteError, match="more bytes than were asked for"):
        collections.deque(itertools.islice(stream, WINDOW // FRAME_COST + 1), maxlen=0)


def test_frames_of_nobody_are_passed_over():
    reply = b'{"id":99,"n":3}\nabc{"id":98,"end":true}\n{"id":1,"end":true,"result":{"a":1}}\n'
    assert answering(replying(reply)).call("stat", path="x") == {"a": 1}


@pytest.mark.parametrize("end", [b"", b',"result":5', b',"error":"text"', b',"error":{}'])
def test_an_end_without_a_result_is_an_error(end):
    with pytest.raises(RemoteError, match="gpu: stat"):
        answering(replying(b'{"id":1,"end":true%s}\n' % end)).call("stat", path="x")


def test_an_error_carries_the_steward_s_code():
    reply = b'{"id":1,"end":true,"error":{"code":"full","message":"disk full"}}\n'
    with pytest.raises(RemoteError, match="disk full") as error:
        answering(replying(reply)).call("stat", path="x")
    assert error.value.code == "full"


def test_values_of_any_size_pass_through_frames():
    value = {"id": 7, "op": "have", "files": [["é\ud800\n" * 50, number] for number in range(20_000)]}
    buffers = [b"".join(encode(value, b"payload"))]
    reader = Reader(lambda size, least: buffers.pop() if buffers else b"")
    header, payload = reader.next()
    assert payload == b"payload"
    assert header["files"] == value["files"]
    assert reader.next() is None


def test_frames_may_arrive_byte_by_byte():
    stream = b"".join(encode({"id": 1, "a": 2}, b"xyz") + encode({"id": 2}))
    pieces = [stream[at : at + 1] for at in range(len(stream))][::-1]
    reader = Reader(lambda size, least: pieces.pop() if pieces else b"")
    assert reader.next() == ({"id": 1, "a": 2, "n": 3}, b"xyz")
    assert reader.next() == ({"id": 2}, b"")


def test_parts_of_one_request_do_not_become_another_s():
    text = json.dumps({"id": 8}).encode()
    buffers = [b'{"id":7,"part":true,"n":%d}\n%s{"id":7,"joined":true}\n' % (len(text), text)]
    with pytest.raises(BadFrame, match="another request"):
        Reader(lambda size, least: buffers.pop()).next()


@pytest.mark.parametrize(("rtt_s", "mib"), [(0.0, 8), (0.001, 8), (0.05, 30), (0.2, 32), (60.0, 32)])
def test_the_window_is_what_the_line_carries_in_a_round_trip(rtt_s, mib):
    assert stewards.window_bytes(rtt_s) >> 20 == mib


def test_a_slow_reader_of_one_stream_holds_up_nobody(steward, tmp_path):
    big = tmp_path / "big"
    with open(big, "wb") as file:
        file.truncate(3 * WINDOW)
    stream = steward.stream("read", ranges=[[str(big), 0, None]])
    first = next(stream)[1]
    for _ in range(20):
        assert steward.call("have", files=[[str(big), None]]) == {"have": [True]}
    assert sum(len(data) for _, data in stream) == 3 * WINDOW - len(first)


def test_a_script_that_answers_while_it_is_fed_does_not_lock_up(steward):
    data = os.urandom(1 << 20) * 48
    out = b"".join(piece for _, piece in steward.stream("run_script", data, argv=["cat"]))
    assert out == data


def test_many_threads_may_ask_at_once(steward):
    wrong = []

    def ask(number):
        for _ in range(20):
            stream = steward.stream("run_script", b"%d" % number, argv=["cat"])
            if b"".join(data for _, data in stream) != b"%d" % number:
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_closed_stream_is_cancelled_there(steward, tmp_path):
    stream = steward.stream("run_script", argv=["sh", "-c", f"echo $$ > {tmp_path}/pid; echo up; sleep 60"])
    next(stream)
    pid = int((tmp_path / "pid").read_text())
    stream.close()
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_file_that_cannot_be_read_here_ends_the_upload(steward):
    def pieces():
        yield b"abc"
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        steward.call("put", pieces(), path="x", size=9, sha256="0" * 64)
    assert steward.call("have", files=[["x", None]]) == {"have": [False]}


def test_a_closed_steward_says_so(steward):
    steward.close()
    with pytest.raises(Unreachable, match="was closed"):
        steward.call("stat", path="x")

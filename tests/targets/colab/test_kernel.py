"""Cells in a Colab runtime's kernel: nothing they print is lost or doubled while connections and kernels die."""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from launcher.errors import LauncherError, RemoteError, Unreachable
from launcher.targets.colab import channel, conversation
from launcher.targets.colab.channel import Channel
from launcher.targets.colab.kernel import Cell, Ending, Kernel, Output
from launcher.targets.colab.messages import Asked, Reading
from launcher.targets.colab.runtime import Reclaimed, RuntimeLine
from tests.emulators.colab.emulator import Colab
from tests.targets.colab.hostile import Hostile, Reply

COUNTING = "import time\nfor number in range({}):\n    print('line', number, flush=True)\n    time.sleep({})"
WAITING = "import time\nprint('begun', flush=True)\ntime.sleep(600)"


@pytest.fixture
def kernel(line: RuntimeLine) -> Iterator[Kernel]:
    """The one that all tests share which leave it idle."""
    with Kernel(line, "shared") as made:
        yield made


@pytest.fixture
def own(line: RuntimeLine) -> Iterator[Kernel]:
    """For a test that ends it."""
    with Kernel(line, f"own-{time.monotonic_ns()}") as made:
        yield made
    with suppress(Reclaimed):
        made.shut_down()


def finish(cell: Generator[Output | None, None, Ending]) -> tuple[str, Ending]:
    """What a running cell still prints, and how it ends."""
    printed = ""
    while True:
        try:
            output = next(cell)
        except StopIteration as end:
            return printed, end.value
        printed += output.text if output else ""


def begin(kernel: Kernel, code: str = WAITING) -> Generator[Output | None, None, Ending]:
    """A cell that has begun to print."""
    cell = kernel.run(Cell(code))
    while (output := next(cell)) is None:
        pass
    assert output.text.startswith(("begun", "line 0"))
    return cell


def lines(count: int, first: int = 0) -> str:
    return "".join(f"line {number}\n" for number in range(first, count))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def test_output_comes_in_order_and_by_stream(kernel: Kernel) -> None:
    got: list[Output] = []
    ending = kernel.execute("import sys\nprint('out', flush=True)\nprint('err', file=sys.stderr)", got.append)
    assert (got, ending) == ([Output("stdout", "out\n"), Output("stderr", "err\n")], Ending("ok"))


def test_an_exception_is_told_without_colours(kernel: Kernel) -> None:
    ending = kernel.execute("def broken():\n    raise ValueError('too bad')\nbroken()")
    assert (ending.status, ending.name, ending.value) == ("error", "ValueError", "too bad")
    assert "in broken" in ending.traceback
    assert "\x1b" not in ending.traceback


def test_a_kernel_is_found_again_by_its_name(line: RuntimeLine, kernel: Kernel) -> None:
    kernel.execute("kept = 42")
    name = kernel._name
    with Kernel(line, name) as again, Kernel(line, name + "-other") as other:
        got: list[Output] = []
        again.execute("print(kept)", got.append)
        assert (again.id, got) == (kernel.id, [Output("stdout", "42\n")])
        assert other.execute("kept").name == "NameError"
        other.shut_down()


def test_a_silent_cell_counts_in_no_history_and_a_visible_one_does(own: Kernel) -> None:
    counts = []
    for _ in range(2):
        printed, ending = finish(own.run(Cell("print(get_ipython().execution_count)", silent=False)))
        assert ending == Ending("ok")
        counts.append(int(printed))
        own.execute("1")
    assert counts[1] == counts[0] + 1


def test_input_and_passwords_are_answered_over_the_kernels_own_channel(kernel: Kernel) -> None:
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return f"answer {len(asked)}"

    code = "import getpass\nsecrets = [input('first? '), getpass.getpass('second? ')]"
    assert kernel.execute(code, on_input=answer).status == "ok"
    assert asked == ["first? ", "second? "]
    got: list[Output] = []
    kernel.execute("print(secrets)", got.append)
    assert got == [Output("stdout", "['answer 1', 'answer 2']\n")]


def test_a_cell_that_asks_when_nobody_answers_ends_with_an_error(kernel: Kernel) -> None:
    assert kernel.execute("input('anybody? ')").name == "StdinNotImplementedError"


def test_when_the_answer_cannot_be_given_the_cell_does_not_wait_for_ever(kernel: Kernel) -> None:
    def fail(prompt: str) -> str:
        raise KeyError(prompt)

    with pytest.raises(KeyError):
        kernel.execute("input('name? ')", on_input=fail)
    until(lambda: not kernel.busy())


def test_an_answer_that_was_lost_on_its_way_is_given_again(account: Colab, kernel: Kernel) -> None:
    asked: list[str] = []

    def cut_then_answer(prompt: str) -> str:
        asked.append(prompt)
        account.faults.cut_after_bytes = 1  # whatever passes next breaks the connection
        threading.Timer(1.0, lambda: setattr(account.faults, "cut_after_bytes", None)).start()
        return "after all"

    got: list[Output] = []
    ending = kernel.execute("print(input('name? '), input('more? '))", got.append, cut_then_answer)
    assert (asked, got, ending) == (
        ["name? ", "more? "],
        [Output("stdout", "after all after all\n")],
        Ending("ok"),
    )


@pytest.mark.parametrize("expiring", [False, True], ids=["cuts", "cuts and an expired token"])
def test_a_running_cells_output_goes_on_over_cut_connections(
    account: Colab, kernel: Kernel, line: RuntimeLine, expiring: bool
) -> None:
    """What Jupyter had just sent when the connection broke is lost; nothing else, and nothing comes twice."""
    begun = len(account.proxied(line.runtime.endpoint))
    account.faults.cut_after_s = 0.7
    printed, cell = "line 0\n", begin(kernel, COUNTING.format(40, 0.1))
    while "line 25\n" not in printed and "line 26\n" not in printed:
        output = next(cell)
        printed += output.text if output else ""
        if expiring and "line 5\n" in printed:
            account.expire_tokens()
            expiring = False
    account.faults.cut_after_s = None
    rest, ending = finish(cell)
    numbers = [int(row.split()[1]) for row in (printed + rest).splitlines()]
    cuts = [one for one in account.proxied(line.runtime.endpoint)[begun:] if "channels passed" in one]
    assert len(cuts) > 3
    assert (numbers, ending) == (sorted(set(numbers)), Ending("ok"))
    assert numbers[-1] == 39
    assert len(numbers) >= 40 - len(cuts)


def test_a_cell_whose_runtime_is_out_of_reach_for_a_while_ends_all_the_same(
    account: Colab, line: RuntimeLine, kernel: Kernel
) -> None:
    cell = begin(kernel, COUNTING.format(15, 0.1) + "\nopen('/content/done', 'w').close()")
    account.faults.cut_after_bytes = 1
    threading.Timer(2.5, lambda: setattr(account.faults, "cut_after_bytes", None)).start()
    assert finish(cell)[1].status in ("ok", "lost")  # Jupyter hands over what was missed once only
    done = account.disk(line.runtime.endpoint) / "content" / "done"
    assert done.exists()
    done.unlink()


def test_another_visitor_sees_what_runs_and_how_long(line: RuntimeLine, kernel: Kernel) -> None:
    assert not kernel.busy()
    cell = begin(kernel, COUNTING.format(45, 0.1))
    with Kernel(line, kernel._name) as other:
        assert other.busy()
        printed, ending = finish(other.watch())
        assert printed.endswith("line 43\nline 44\n")
        assert ending == Ending("ok")
        assert not other.busy()
    assert finish(cell) == (lines(45, first=1), Ending("ok"))


def test_a_cell_left_alone_goes_on_and_the_next_one_waits_for_it(kernel: Kernel) -> None:
    begin(kernel, COUNTING.format(10, 0.1) + "\nleft = 'behind'").close()
    got: list[Output] = []
    assert kernel.execute("print(left)", got.append).status == "ok"
    assert got == [Output("stdout", "behind\n")]


def test_a_cell_can_be_interrupted(kernel: Kernel) -> None:
    cell = begin(kernel)
    kernel.interrupt()
    assert finish(cell)[1].name == "KeyboardInterrupt"


def test_a_killed_kernel_is_told_and_the_next_cell_finds_a_fresh_one(
    account: Colab, line: RuntimeLine, own: Kernel
) -> None:
    own.execute("kept = 1")
    cell = begin(own)
    account.kill_kernels(line.runtime.endpoint)
    assert finish(cell)[1] == Ending("died")
    assert own.execute("kept").name == "NameError"


def test_a_kernel_that_died_while_nobody_was_connected_is_told(
    account: Colab, line: RuntimeLine, own: Kernel
) -> None:
    cell = begin(own)
    account.faults.cut_after_bytes = 1
    account.kill_kernels(line.runtime.endpoint)
    threading.Timer(3.0, lambda: setattr(account.faults, "cut_after_bytes", None)).start()
    assert finish(cell)[1] == Ending("died")


def test_a_kernel_that_was_shut_down_is_made_again(
    line: RuntimeLine, own: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "LOOK_S", 1.0)
    cell = begin(own)
    with Kernel(line, own._name) as other:
        other.shut_down()
    assert finish(cell)[1] == Ending("died")
    before = own.id
    assert own.execute("1").status == "ok"
    assert own.id != before
    own.restart()
    assert own.execute("1").status == "ok"


def test_a_runtime_taken_back_ends_a_running_cell(account: Colab, own: Kernel) -> None:
    account.faults.gone_status = 502
    cell = begin(own)
    account.reclaim()
    with pytest.raises(Reclaimed):
        finish(cell)
    with pytest.raises(Reclaimed):
        own.execute("1")
    with pytest.raises(Reclaimed):
        own.interrupt()


def test_closing_it_elsewhere_ends_a_running_cell_here(own: Kernel) -> None:
    cell = begin(own)
    threading.Timer(0.3, own.close).start()
    with pytest.raises(Unreachable, match="was closed"):
        finish(cell)


def test_a_loud_cell_comes_to_its_end_though_jupyter_thins_it_out(kernel: Kernel) -> None:
    printed, ending = finish(kernel.run(Cell("for _ in range(200): print('x' * 100_000)")))
    assert (bool(printed), ending) == (True, Ending("ok"))


# what the messages mean, without a kernel


def message(kind: str, parent: str, process: str = "p1", **content: Any) -> dict[str, Any]:
    header = {"msg_type": kind, "msg_id": "m", "session": process}
    return {"header": header, "parent_header": {"msg_id": parent}, "content": content}


def heard(reading: Reading, *messages: dict[str, Any]) -> Ending | None:
    for one in messages:
        reading.take(one)
    return reading.ending


BUSY = message("status", "cell", execution_state="busy")
IDLE = message("status", "cell", execution_state="idle")
REPLY = message("execute_reply", "cell", status="ok")


def fence(process: str = "p1") -> list[dict[str, Any]]:
    """The kernel's answers to a request sent after the cell."""
    return [
        message("kernel_info_reply", "fence", process),
        message("status", "fence", process, execution_state="idle"),
    ]


def reading() -> Reading:
    made = Reading("cell")
    made.fence = "fence"
    return made


def test_a_cell_has_ended_when_it_is_answered_and_its_output_is_through() -> None:
    assert heard(reading(), BUSY, REPLY) is None
    assert heard(reading(), BUSY, IDLE) is None
    assert heard(reading(), BUSY, REPLY, IDLE) == heard(reading(), BUSY, IDLE, REPLY) == Ending("ok")


def test_a_cell_whose_answer_never_came_is_lost_and_not_ok() -> None:
    assert heard(reading(), BUSY, *fence()) == Ending("lost")
    assert heard(reading(), *fence()) == Ending("lost")
    assert heard(reading(), BUSY, REPLY, *fence()) == Ending("ok")


def test_an_exception_counts_even_when_the_answer_was_lost() -> None:
    error = message("error", "cell", ename="ValueError", evalue="bad", traceback=["\x1b[31mred"])
    assert heard(reading(), BUSY, error, *fence()) == Ending("error", "ValueError", "bad", "red")


def test_another_process_behind_the_same_kernel_means_that_it_died() -> None:
    assert heard(reading(), BUSY, *fence("p2")) == Ending("died")
    restarting = message("status", "", "server", execution_state="restarting")
    assert heard(reading(), BUSY, restarting) == Ending("died")


def test_the_messages_of_other_cells_are_none_of_ours() -> None:
    other = message("stream", "other", name="stdout", text="theirs")
    assert reading().take(other) is None
    assert Reading("").take(other) == Output("stdout", "theirs")
    asked = message("input_request", "cell", prompt="? ")
    assert reading().take(asked) == Asked("? ", asked["header"])


@pytest.mark.parametrize(
    "nonsense",
    [{}, {"header": 5}, {"header": {"msg_type": []}, "content": "x", "parent_header": None}],
    ids=["empty", "number", "kinds"],
)
def test_messages_without_sense_mean_nothing(nonsense: dict[str, Any]) -> None:
    assert reading().take(nonsense) is None


# hostile servers


@contextmanager
def speaking(*frames: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that opens a WebSocket, says the frames and then nothing; what it got."""
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            link = server.accept()[0]
            with link, suppress(OSError):
                head = link.recv(65536).decode()
                key = next(row for row in head.splitlines() if row.lower().startswith("sec-websocket-key"))
                accepted = hashlib.sha1(key.split(": ")[1].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
                link.sendall(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: " + base64.b64encode(accepted.digest()) + b"\r\n\r\n"
                )
                for frame in frames:
                    link.sendall(frame)
                while data := link.recv(65536):
                    got.append(data)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", got


def frame(text: bytes, opcode: int = 1, final: bool = True) -> bytes:
    return struct.pack("!BBQ", (0x80 if final else 0) | opcode, 127, len(text)) + text


def connected(hostile: Hostile, url: str) -> Channel:
    hostile.url = url
    return Channel(hostile.line(), "kernel", "session")


def test_a_message_without_end_is_not_waited_for(hostile: Hostile) -> None:
    with speaking(struct.pack("!BBQ", 0x81, 127, 1 << 40)) as (url, _):
        link = connected(hostile, url)
        with pytest.raises(RemoteError, match="more than 64 MB"):
            link.receive(30)
        link.close()


def test_a_message_in_parts_without_end_is_left_too(hostile: Hostile) -> None:
    block = b"x" * (8 << 20)
    parts = [frame(block, 1, final=False), *[frame(block, 0, final=False) for _ in range(9)]]
    with speaking(*parts) as (url, _):
        link = connected(hostile, url)
        with pytest.raises(RemoteError, match="more than 64 MB"):
            link.receive(60)
        link.close()


def test_messages_that_are_not_json_are_passed_over_and_pings_answered(hostile: Hostile) -> None:
    said = [frame(b"not json"), frame(b"[1]"), frame(b"[" * 100_000), frame(b"\xff"), frame(b"hey", 9)]
    with speaking(*said, frame(b'{"a":', 1, final=False), frame(b"1}", 0)) as (url, got):
        link = connected(hostile, url)
        assert link.receive(30) == {"a": 1}
        until(lambda: bool(got))
        link.close()


def test_a_connection_that_says_nothing_at_all_is_found_out(
    hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "PING_S", 0.1)
    monkeypatch.setattr(channel, "DEAD_S", 0.5)
    with speaking() as (url, got):
        link = connected(hostile, url)
        with pytest.raises(Unreachable, match="fallen silent"):
            for _ in iter(lambda: link.receive(0.1), ...):
                pass
        assert got  # it was asked first
        link.close()


@pytest.mark.parametrize(
    "reply",
    [Reply(200, b"<html>"), Reply(302, b"", {"Location": "http://127.0.0.1:1/"}), Reply(500), Reply(403)],
    ids=["page", "redirect", "error", "refusal"],
)
def test_a_server_that_opens_no_channel_is_one_clear_line(
    hostile: Hostile, monkeypatch: pytest.MonkeyPatch, reply: Reply
) -> None:
    monkeypatch.setattr(conversation, "RECONNECT_S", 0.5)
    opened = Reply(201, b'{"kernel": {"id": "k"}}')
    hostile.answers = lambda seen: opened if seen.path == "/api/sessions" else reply
    with Kernel(hostile.line(), "name") as kernel, pytest.raises(LauncherError) as caught:
        kernel.execute("1")
    assert "\n" not in caught.value.message
    assert "proxy-token" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("body", [b"{}", b'{"kernel": {"id": 5}}', b'{"kernel": []}', b"<html>"])
def test_a_server_that_gives_no_kernel_is_one_clear_line(hostile: Hostile, body: bytes) -> None:
    hostile.answers = [Reply(201, body)]
    with pytest.raises(RemoteError):
        Kernel(hostile.line(), "name")

"""Job lines go to the stream they came from: byte for byte with --raw, harmless otherwise, and fast."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

from launcher.render.loglines import show
from launcher.render.sink import Sink


def line(text: str, stream: str = "stdout", **more: object) -> bytes:
    record = {"v": 1, "seq": 1, "time": "2026-01-01T00:00:00.000Z", "segment": 0, "rank": 0, "stream": stream}
    return json.dumps({**record, "text": text, **more}, separators=(",", ":")).encode() + b"\n"


def shown(
    block: bytes, terminal: bool = False, colour: bool = False, raw: bool = False
) -> tuple[bytes, bytes]:
    out, err = io.BytesIO(), io.BytesIO()
    show(block, Sink(out, terminal, colour), Sink(err, terminal, colour), raw)
    return out.getvalue(), err.getvalue()


def test_each_line_goes_to_its_stream() -> None:
    block = line("a\n") + line("b\n", "stderr") + line("c\n") + line("fingerprint\n", "launcher")
    assert shown(block) == (b"a\nc\n", b"b\nfingerprint\n")


def test_escape_sequences_do_not_reach_a_file() -> None:
    assert shown(line("\x1b]0;x\x07\x1b[31mred\x1b[0m\n")) == (b"red\n", b"")


def test_colours_reach_a_terminal_that_may_have_them() -> None:
    red = "\x1b[31mred\x1b[0m\n"
    assert shown(line(red), terminal=True, colour=True)[0] == red.encode()
    assert shown(line(red), terminal=True, colour=False)[0] == b"red\n"


def test_lines_keep_their_order_where_both_streams_go_to_one_place() -> None:
    both = io.BytesIO()
    block = line("a\n") + line("b\n", "stderr") + line("c\n") + line("d\n", "launcher")
    show(block, Sink(both, place="here"), Sink(both, place="here"))
    assert both.getvalue() == b"a\nb\nc\nd\n"


def test_raw_passes_the_very_bytes() -> None:
    exact = b"\xff\x1b[2J\x00\r\n"
    block = line("?", b64=base64.b64encode(exact).decode()) + line("\x1b[2J\n")
    assert shown(block, raw=True) == (exact + b"\x1b[2J\n", b"")


def test_a_bar_that_comes_in_pieces_takes_a_line_a_piece_in_a_file() -> None:
    assert shown(line("\r 10%") + line("\r 50%") + line("\r100%\n"))[0] == b"100%\n"
    out, err = io.BytesIO(), io.BytesIO()
    sinks = Sink(out), Sink(err)
    for text in ("\r 10%", "\r 50%", "\r100%\n"):
        show(line(text), *sinks)
    assert out.getvalue() == b" 10%\n 50%\n100%\n"


def test_a_bar_keeps_its_carriage_returns_on_a_terminal() -> None:
    assert shown(line("\r 10%"), terminal=True)[0] == b"\r 10%"


def test_an_unfinished_line_of_one_stream_is_ended_before_the_other_speaks_on_a_terminal() -> None:
    block = line("\r 10%", "stderr") + line("epoch 1\n")
    assert shown(block, terminal=True) == (b"epoch 1\n", b"\r 10%\n")
    assert shown(block) == (b"epoch 1\n", b" 10%")


def test_a_torn_line_in_a_block_does_not_hide_the_others() -> None:
    assert shown(line("a\n") + b'{"v":1,"seq\n' + line("b\n"))[0] == b"a\nb\n"
    assert shown(line("a\n") + line("c\n").replace(b"c", b"\\x\x01") + line("b\n"))[0] == b"a\nb\n"


def test_text_that_is_no_valid_unicode_is_still_shown() -> None:
    assert shown(line("a\ud800b\n"))[0] == b"a?b\n"


def test_no_line_is_lost_where_many_blocks_come(tmp_path: Path) -> None:
    texts = (
        f"epoch {i} step {i * 100} loss 0.4123 acc 0.91 lr 0.001 and more to make 80 bytes\n"
        for i in range(100_000)
    )
    block = b"".join(map(line, texts))
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        for start in range(0, len(block), 1 << 20):  # as big as blocks get
            show(_whole(block, start, start + (1 << 20)), Sink(out), Sink(err))
    assert (tmp_path / "out").read_bytes().count(b"\n") == 100_000


def _whole(block: bytes, start: int, end: int) -> bytes:
    return block[block.rfind(b"\n", 0, start) + 1 : block.rfind(b"\n", 0, end) + 1]

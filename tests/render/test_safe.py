"""No text of a job moves the cursor, sets the title, fills the clipboard or hides anything."""

from __future__ import annotations

import time
from collections.abc import Callable

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.render.safe import one_line, settled, tamed

ATTACKS = {
    "title": "\x1b]0;owned\x07",
    "title, ended by ST": "\x1b]2;owned\x1b\\",
    "title, eight bits": "\x9d0;owned\x9c",
    "clipboard": "\x1b]52;c;b3duZWQ=\x07",
    "link": "\x1b]8;;http://evil\x07text\x1b]8;;\x07",
    "cursor": "\x1b[2;5H",
    "cursor, eight bits": "\x9b2;5H",
    "cursor up": "\x1b[1A",
    "erase": "\x1b[2J",
    "erase the line": "\x1b[2K",
    "scroll region": "\x1b[1;1r",
    "other screen": "\x1b[?1049h",
    "mouse": "\x1b[?1000h",
    "reset": "\x1bc",
    "charset": "\x1b(0",
    "answer back": "\x1b[6n",
    "device control": "\x1bPq#0;2;0;0;0\x1b\\",
    "conceal": "\x1b[8m",
    "conceal among others": "\x1b[1;8;31m",
    "bell": "\x07",
    "backspace": "\b",
    "shift out": "\x0e",
    "bidi override": "\u202e",
    "bidi isolate": "\u2066",
    "unfinished title": "\x1b]0;own",
    "unfinished sequence": "\x1b[2;",
    "a lone escape": "\x1b",
}


DANGEROUS = (
    *("set_title", "set_icon_name", "cursor_position", "cursor_up", "erase_in_display", "erase_in_line"),
    *("set_margins", "set_mode", "reset_mode", "define_charset", "report_device_status", "bell", "backspace"),
    *("shift_out", "shift_in", "insert_lines", "delete_characters", "reverse_index", "save_cursor"),
)


class Watched(pyte.Screen):
    """A terminal that notes what it obeys besides drawing, new lines and colours."""

    def __init__(self) -> None:
        self.obeyed: list[str] = []
        super().__init__(60, 10)
        for name in DANGEROUS:
            setattr(self, name, self._noting(name, getattr(self, name)))

    def _noting(self, name: str, method: Callable[..., None]) -> Callable[..., None]:
        def noted(*args: object, **kwargs: object) -> None:
            self.obeyed.append(name)
            method(*args, **kwargs)

        return noted


def drawn(text: str) -> Watched:
    screen = Watched()
    stream = pyte.Stream(screen)
    screen.obeyed.clear()
    stream.feed(text.replace("\n", "\r\n"))
    return screen


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_terminal_obeys_nothing_in_it(attack: str) -> None:
    screen = drawn(tamed(f"first line\nbefore {attack}after\n", colour=True))
    assert screen.obeyed == []
    assert screen.title == ""
    assert screen.display[0].rstrip() == "first line"
    assert screen.display[1].startswith("before ")
    assert (screen.cursor.x, screen.cursor.y) == (0, 2)
    assert not any(cell.fg != "default" for row in screen.buffer.values() for cell in row.values())


def test_the_terminal_of_these_tests_does_obey() -> None:
    screen = drawn("first line\nbefore \x1b]0;owned\x07\x1b[2;5H\x1b[2J")
    assert screen.title == "owned"
    assert {"set_title", "cursor_position", "erase_in_display"} <= set(screen.obeyed)


@given(
    st.text(alphabet=st.sampled_from("\x1b\x9b\x9d[]();?0123489mHJKABcPq\\\x07\x9c\r\n\t aé\u202e\x00\x7f"))
)
def test_whatever_is_left_is_printable_or_a_colour(text: str) -> None:
    assert not set(tamed(text)) & {"\x1b", "\x9b", "\x9d", "\x07", "\x00", "\r", "\u202e"}
    coloured = tamed(text, colour=True)
    assert drawn(coloured).obeyed == []


@pytest.mark.parametrize(
    "colour",
    [
        "\x1b[31m",
        "\x1b[0m",
        "\x1b[m",
        "\x1b[01;32m",
        "\x1b[38;5;208m",
        "\x1b[48;2;1;2;3m",
        "\x1b[38:2::1:2:3m",
    ],
)
def test_colours_pass_where_they_may(colour: str) -> None:
    assert tamed(f"{colour}text\n", colour=True) == f"{colour}text\n"
    assert tamed(f"{colour}text\n") == "text\n"


@pytest.mark.parametrize("text", ["plain\n", "", "a\tb\n", "naïve 中文 🎉\n", "👩‍🔬\n", "\n\n", "עברית\n"])
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert tamed(text) == text


def test_lone_control_characters_are_shown() -> None:
    assert tamed("a\x07b\x1b]c\x7f\u202e\x85") == "a^Gb^[]c^?\\u202e\\x85"


def test_chatter_stays_on_one_line() -> None:
    assert one_line("a\nerror: b\r\x1b[1Ac") == "a error: b c"


def test_a_progress_bar_comes_to_its_last_state_in_a_file() -> None:
    assert settled("\r 10%\r 20%\r100%\n", False) == "100%\n"
    assert settled(" 10%", False) == " 10%"
    assert settled("\r 20%", True) == "\n 20%"
    assert settled("one\r\ntwo\r\n", False) == "one\ntwo\n"
    assert settled("half\r", False) == "half"


def test_long_lines_of_escapes_do_not_take_long() -> None:
    began = time.perf_counter()
    for evil in ("\x1b[" * 30_000, "\x1b]0;" * 16_000, "\x1b[" + "1;" * 32_000 + "m", "\x1b]" + "a" * 65_000):
        assert "\x1b" not in tamed(evil)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("hidden", ["\x1b[8m", "\x1b[0;8m", "\x1b[08m", "\x1b[1;8;31m", "\x1b[38;5;8;8m"])
def test_no_colour_hides_text(hidden: str) -> None:
    assert tamed(f"{hidden}text\n", colour=True) == "text\n"

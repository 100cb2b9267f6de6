"""Makes text of a job or a server safe to show: of control characters and escape sequences only colours pass.

A terminal obeys what is printed on it: a log line can set its title, fill the clipboard, move the cursor over
other lines or hide text. Complete sequences are dropped; what is left of control characters is shown as `^[`.
"""

from __future__ import annotations

import re

# SGR without "conceal" (8), which would hide text: attributes, the 16 colours, 38/48 with an index or RGB.
_ATTRIBUTE = (
    r"(?:0?[0-79]|2[1-79]|[34][0-79]|9[0-7]|10[0-7]|[34]8[;:]5[;:]\d{1,3}|[34]8[;:]2(?:[;:]\d{0,3}){3,4})?"
)
_COLOUR = rf"\x1b\[{_ATTRIBUTE}(?:;{_ATTRIBUTE}){{0,15}}m"
_CSI = r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"
_STRING = r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x00-\x08\x0a-\x1f\x7f-\x9f]{0,4096}(?:\x07|\x1b\\|\x9c)"
_SHORT = r"\x1b[ -/]{0,4}[0-OQ-WYZ\\`-~]"
_BIDI = "\u202a-\u202e\u2066-\u2069"
_CONTROL = rf"[\x00-\x08\x0b-\x1f\x7f-\x9f{_BIDI}]"
_SEQUENCE = rf"(?P<colour>{_COLOUR})|{_CSI}|{_STRING}|{_SHORT}|(?P<control>{_CONTROL})"
RESET = "\x1b[0m"


def tamed(text: str, colour: bool = False, carriage_return: bool = False) -> str:
    """`text` without anything that a terminal would obey; colours and `\\r` pass where asked for."""
    if text.replace("\n", "").isprintable():
        return text
    # Looking for one character is ten times as fast as trying all the sequences everywhere.
    suspect, sequence = re.compile(_CONTROL), re.compile(_SEQUENCE)
    parts, end = [], 0
    while found := suspect.search(text, end):
        match = sequence.match(text, found.start())
        assert match  # any suspect is at least a control character
        parts.append(text[end : found.start()])
        parts.append(_instead(match, colour, carriage_return))
        end = match.end()
    return "".join([*parts, text[end:]])


def _instead(match: re.Match[str], colour: bool, carriage_return: bool) -> str:
    if match["colour"]:
        return match["colour"] if colour else ""
    control = match["control"]
    if control is None or (carriage_return and control == "\r"):
        return control or ""
    return shown(control)


def one_line(text: object) -> str:
    """For chatter and tables: tamed and without line ends, whatever a server put into it."""
    return " ".join(tamed(str(text), carriage_return=True).split())


def shown(control: str) -> str:
    """A control character as people write it: `^G`, `\\x9b`, `\\u202e`."""
    code = ord(control)
    if code < 0x20 or code == 0x7F:
        return "^" + chr(code ^ 0x40)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def settled(text: str, mid_line: bool) -> str:
    """What a progress bar drawn with `\\r` comes to in a file: the last state of each line, on its own line.

    `mid_line`: the text before this one did not end its line.
    """
    text = text.replace("\r\n", "\n")
    if "\r" not in text:
        return text
    lines = text.split("\n")
    fresh = "\n" if mid_line and "\r" in lines[0] else ""
    return fresh + "\n".join(_last_state(line) for line in lines)


def _last_state(line: str) -> str:
    return next((state for state in reversed(line.split("\r")) if state), "")

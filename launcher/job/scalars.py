"""What an unquoted word of YAML means, as YAML 1.2 has it."""

from __future__ import annotations

import re
from typing import Any

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_ODD = re.compile(
    r"[-+]?(0[0-9_]+|0o[0-7_]+|0b[01_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?)"
)
_MAX_INT_DIGITS = 20


def resolve(text: str) -> tuple[Any, bool]:
    """(value, odd): odd is a number that YAML versions read differently; its value is then its text."""
    if text in _NULL:
        return None, False
    if text in _BOOL:
        return _BOOL[text], False
    if _INT.fullmatch(text) and len(text) <= _MAX_INT_DIGITS:
        return int(text, 16 if text.startswith("0x") else 10), False
    if _FLOAT.fullmatch(text) and not re.fullmatch(r"[-+]?[0-9]+", text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan")), False
    return text, _ODD.fullmatch(text) is not None

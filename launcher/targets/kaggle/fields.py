"""Fields of Kaggle's replies: absent is the default, as its protocol has it; a wrong type is one clear line."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from launcher.errors import RemoteError

SECONDS = re.compile(r"\d{1,12}(\.\d{1,9})?s")


def text(reply: Mapping[str, Any], name: str) -> str:
    value = reply.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise wrong(name, "text")
    return value


def number(reply: Mapping[str, Any], name: str) -> int:
    """A whole number; as text too, which is how large ones may come."""
    value = reply.get(name)
    if value is None:
        return 0
    if isinstance(value, str) and re.fullmatch(r"\d{1,18}", value):
        return int(value)
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise wrong(name, "number")
    return value


def rows(reply: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = reply.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise wrong(name, "list")
    return value


def texts(reply: Mapping[str, Any], name: str) -> list[str]:
    value = reply.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise wrong(name, "list of texts")
    return value


def part(reply: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = reply.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise wrong(name, "object")
    return value


def seconds(reply: Mapping[str, Any], name: str) -> float | None:
    """A duration such as `108000s`; None when it is absent."""
    value = text(reply, name)
    if not value:
        return None
    if not SECONDS.fullmatch(value):
        raise wrong(name, "duration")
    found = float(value[:-1])
    return found if math.isfinite(found) else None


def wrong(name: str, kind: str) -> RemoteError:
    return RemoteError(
        f"Kaggle's answer has a {name} that is no {kind}", "a newer launcher may understand it"
    )

"""Jupyter's messages: what is sent to run a cell, and what the answers mean (pure)."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

OnInput = Callable[[str], str]  # the prompt of input() or getpass -> the answer
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
BY_KERNEL = ("status", "execute_reply")  # Jupyter's server itself may print in a cell's name
ENDED = ("restarting", "dead")  # states that Jupyter's server tells of a kernel that died


@dataclass(frozen=True)
class Output:
    """What a cell printed: `stream` is stdout or stderr."""

    stream: str
    text: str


@dataclass(frozen=True)
class Ending:
    """How a cell ended.

    ok; error (`name`, `value`: the exception; `traceback` as text without colours); died: the kernel died or was
    restarted under it; lost: the connection was broken at its beginning or its end, so that it may have run or not.
    """

    status: str
    name: str = ""
    value: str = ""
    traceback: str = ""


@dataclass(frozen=True)
class Cell:
    """Code to run. A silent one counts in no history; `on_input` answers input(), over the kernel's own channel."""

    code: str
    silent: bool = True
    on_input: OnInput | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Asked:
    """The kernel wants a line from the user."""

    prompt: str
    header: Mapping[str, Any]


def execute_request(cell: Cell, session: str) -> dict[str, Any]:
    content = {
        "code": cell.code,
        "silent": cell.silent,
        "store_history": not cell.silent,
        "user_expressions": {},
        "allow_stdin": cell.on_input is not None,
        "stop_on_error": True,
    }
    return _message("shell", "execute_request", content, session)


def info_request(session: str) -> dict[str, Any]:
    """Answered when the kernel has done all that it was asked before."""
    return _message("shell", "kernel_info_request", {}, session)


def input_reply(asked: Asked, value: str, session: str) -> dict[str, Any]:
    message = _message("stdin", "input_reply", {"value": value}, session)
    return {**message, "parent_header": dict(asked.header)}


def id_of(message: Mapping[str, Any]) -> str:
    return str(message["header"]["msg_id"])


class Reading:
    """What the messages so far say about one cell: `take` each, until there is an `ending`.

    `parent` is the id of the request that began the cell; "" takes the output of any. `fence` is the id of an
    info_request that was sent later: when the kernel is done with that, the cell has ended.
    """

    def __init__(self, parent: str) -> None:
        self.parent = parent
        self.fence = ""
        self.ending: Ending | None = None
        self.over = False  # the cell has ended, but output of it may still come
        self._kernel = ""  # which process of the kernel speaks
        self._outcome = Ending("lost") if parent else Ending("ok")
        self._idle = False  # all output has come; the reply comes by another way, before it or after
        self._fence_passed: set[str] = set()

    def take(self, message: Mapping[str, Any]) -> Output | Asked | None:
        kind, content = _kind(message), _part(message, "content")
        if kind == "status" and content.get("execution_state") in ENDED:
            self.ending = Ending("died")
            return None
        if self.fence and _about(message) == self.fence:
            self._at_fence(kind, message)
            return None
        if not self.mine(message):
            return None
        if kind in BY_KERNEL:
            self._kernel = self._kernel or _speaker(message)
        return self._of_cell(kind, content, message)

    def mine(self, message: Mapping[str, Any]) -> bool:
        return not self.parent or _about(message) == self.parent

    def give_up(self) -> None:
        """No more will come: the ending is what is known."""
        self.ending = self.ending or self._outcome

    def _of_cell(
        self, kind: str, content: Mapping[str, Any], message: Mapping[str, Any]
    ) -> Output | Asked | None:
        if kind == "stream":
            stream = "stderr" if content.get("name") == "stderr" else "stdout"
            return Output(stream, str(content.get("text", "")))
        if kind == "input_request":
            return Asked(str(content.get("prompt", "")), _part(message, "header"))
        if kind == "error" and self.parent:
            self._outcome = _error(content)
        if kind == "execute_reply" and self.parent:
            self._outcome = Ending("ok") if content.get("status") == "ok" else _error(content)
            self.over = True
        self._idle = self._idle or (kind == "status" and content.get("execution_state") == "idle")
        if self._idle and self.over and self.parent:
            self.give_up()
        return None

    def _at_fence(self, kind: str, message: Mapping[str, Any]) -> None:
        """Replies and output come by different ways: only when both have passed it nothing more can come."""
        self._fence_passed |= {"reply"} if kind == "kernel_info_reply" else set()
        idle = kind == "status" and _part(message, "content").get("execution_state") == "idle"
        self._fence_passed |= {"output"} if idle else set()
        if kind == "kernel_info_reply":
            self.over = True
            if self._kernel and _speaker(message) != self._kernel:
                self.ending = Ending("died")
        if len(self._fence_passed) == 2:
            self.give_up()


def _message(channel: str, kind: str, content: Mapping[str, Any], session: str) -> dict[str, Any]:
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": kind,
        "session": session,
        "username": "launcher",
        "version": "5.3",
        "date": datetime.now(UTC).isoformat(),
    }
    parts = {"parent_header": {}, "metadata": {}, "content": dict(content), "buffers": []}
    return {"channel": channel, "header": header, **parts}


def _kind(message: Mapping[str, Any]) -> str:
    return str(_part(message, "header").get("msg_type", message.get("msg_type", "")))


def _part(message: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = message.get(name)
    return part if isinstance(part, dict) else {}


def _about(message: Mapping[str, Any]) -> str:
    return str(_part(message, "parent_header").get("msg_id", ""))


def _speaker(message: Mapping[str, Any]) -> str:
    """One process of a kernel: another one after a restart."""
    return str(_part(message, "header").get("session", ""))


def _error(content: Mapping[str, Any]) -> Ending:
    lines = content.get("traceback")
    text = "\n".join(str(line) for line in lines) if isinstance(lines, list) else ""
    name, value = str(content.get("ename", content.get("status", "error"))), str(content.get("evalue", ""))
    return Ending("error", name, value, COLOURS.sub("", text))

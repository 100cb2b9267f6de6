"""YAML text -> nodes that know their line, in the small and strict part of YAML that job.yaml uses.

Scalars are read as YAML 1.2 does, so that what looks like text stays text: `NO`, `on`, `yes`, `1:30` and
dates are strings, `1e-3` is a number (PyYAML alone has all of these the other way round). Numbers on which
the versions of YAML disagree (`010`, `0o17`, `0b1`, `1_000`) are kept as text and marked, so that a reader
who wants a number can refuse them. Anchors, aliases, tags, duplicate keys and several documents are errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from launcher.errors import SpecError
from launcher.job.scalars import resolve
from launcher.job.units import shown

MAX_BYTES = 1 << 20
MAX_DEPTH = 12


@dataclass(frozen=True)
class Node:
    """A value with its place. Mappings hold nodes by key and the line of each key; lists hold nodes."""

    value: Any
    line: int
    source: str
    path: str = ""
    text: str = ""  # a scalar as it was written, without its quotes
    odd: bool = False  # a number that YAML versions read differently; `value` is its text
    key_lines: Mapping[str, int] = field(default_factory=dict)

    def error(self, what: str, hint: str = "") -> SpecError:
        path = self.path if self.path.isprintable() and len(self.path) <= 60 else shown(self.path)
        place = f"{path}: " if self.path else ""
        return SpecError(f"{self.source}:{self.line}: {place}{what}", hint)

    def at(self, key: str) -> Node:
        """This node, but on the line of one of its keys: where to point when the key is wrong."""
        return replace(self, line=self.key_lines[key])

    def plain(self) -> Any:
        """The value without its places, as other YAML 1.2 readers would give it."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value


def read(data: bytes, source: str) -> Node:
    """The one document in `data`; SpecError `source:line: …` for anything else."""
    if len(data) > MAX_BYTES:
        raise SpecError(
            f"{source}:1: larger than 1 MiB", "a job.yaml describes a job; data belongs under data:"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise SpecError(f"{source}:{line}: not UTF-8", "save the file as UTF-8") from e
    return _Reader(text, source).document()


class _Reader:
    """Builds nodes from the events of the pure Python parser, whose messages are the same everywhere."""

    def __init__(self, text: str, source: str) -> None:
        self.text, self.source = text, source
        self.line = 1
        self.loader: Any = None

    def document(self) -> Node:
        try:
            self.loader = yaml.SafeLoader(self.text)
            self._next(yaml.StreamStartEvent)
            if self.loader.check_event(yaml.StreamEndEvent):
                raise self._error(
                    "the file is empty", "it needs at least name: and run:; see `launcher init`"
                )
            self._next(yaml.DocumentStartEvent)
            node = self._node("", 0)
            self._next(yaml.DocumentEndEvent)
            if not self.loader.check_event(yaml.StreamEndEvent):
                self.line = self.loader.peek_event().start_mark.line + 1
                raise self._error(
                    "a second document begins here", "one file describes one job: remove the `---`"
                )
            return node
        except yaml.reader.ReaderError as e:
            self.line = self.text.count("\n", 0, e.position) + 1
            raise self._error(
                f"the character {e.character:#x} is not allowed", "save the file as plain UTF-8"
            ) from e
        except yaml.MarkedYAMLError as e:
            raise self._syntax(e) from e
        except (yaml.YAMLError, ValueError, OverflowError) as e:  # chr() of an escape like \UFFFFFFFF
            raise self._error("not valid YAML: a bad escape in a quoted text", "see https://yaml.org") from e

    def _node(self, path: str, depth: int) -> Node:
        event = self.loader.get_event()
        self.line = line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise self._error(f"the alias *{event.anchor} is not allowed here", "write the value out")
        if event.anchor is not None:
            raise self._error(
                f"the anchor &{event.anchor} is not allowed here", "write the value out where it is used"
            )
        if event.tag is not None:
            raise self._error(f"the tag {shown(event.tag)} is not allowed here", 'quote text ("…") instead')
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path, line)
        if depth >= MAX_DEPTH:
            raise self._error("nested too deeply", "no key of a job needs more than three levels")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path, line, depth)
        return self._mapping(path, line, depth)

    def _scalar(self, event: Any, path: str, line: int) -> Node:
        text: str = event.value
        if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
            raise self._error(
                "a character that no program can be given (NUL or half a pair)", "remove the escape"
            )
        value, odd = resolve(text) if event.implicit[0] else (text, False)
        return Node(value, line, self.source, path, text, odd)

    def _sequence(self, path: str, line: int, depth: int) -> Node:
        items: list[Node] = []
        while not self.loader.check_event(yaml.SequenceEndEvent):
            items.append(self._node(f"{path}[{len(items)}]", depth + 1))
        self.loader.get_event()
        return Node(items, line, self.source, path)

    def _mapping(self, path: str, line: int, depth: int) -> Node:
        items: dict[str, Node] = {}
        lines: dict[str, int] = {}
        while not self.loader.check_event(yaml.MappingEndEvent):
            key = self._node(path, depth + 1)
            if not isinstance(key.value, str) and not key.text:
                raise key.error("a key must be a word", "write `key: value`")
            if key.text in items:
                again = f"duplicate key {shown(key.text)} (first on line {lines[key.text]})"
                raise key.error(again, "keep one of the two")
            lines[key.text] = key.line
            items[key.text] = self._node(f"{path}.{key.text}" if path else key.text, depth + 1)
        self.loader.get_event()
        return Node(items, line, self.source, path, key_lines=lines)

    def _next(self, kind: type) -> None:
        event = self.loader.get_event()
        assert isinstance(event, kind), event

    def _error(self, what: str, hint: str) -> SpecError:
        return SpecError(f"{self.source}:{self.line}: {what}", hint)

    def _syntax(self, e: yaml.MarkedYAMLError) -> SpecError:
        if e.problem_mark is not None:
            self.line = e.problem_mark.line + 1
        problem = " ".join((e.problem or "unreadable").split())
        hint = "look at this line and the one before it: an indent, a colon, a bracket or a quote is off"
        if "'\\t'" in problem:
            hint = "indent with spaces: YAML does not allow tabs"
        elif "mapping values are not allowed" in problem:
            hint = "a text with `: ` in it must be quoted"
        return self._error(f"not valid YAML: {problem}", hint)

"""Tags: the same pair has the same id wherever it is put."""

from __future__ import annotations

import secrets
from typing import Any

from tests.emulators.verda.objects import Body, Instance, Tag, Volume
from tests.emulators.verda.problem import Problem
from tests.emulators.verda.world import World

MOST = 10


def tags_of(world: World, wanted: Any) -> list[Tag]:
    """Those that a new instance or volume is to have."""
    tags = [_tag(world, body) for body in wanted or []]
    if len(tags) > MOST:
        raise Problem(400, "tags must contain no more than 10 elements")
    return tags


def add(world: World, one: Instance | Volume, body: Body) -> Body:
    """POST …/tags."""
    tag = _tag(world, body)
    if tag in one.tags:
        raise Problem(409, "The matching tag is already linked")
    if len(one.tags) >= MOST:
        raise Problem(400, "tags must contain no more than 10 elements")
    one.tags.append(tag)
    return tag.shown()


def remove(one: Instance | Volume, name: str) -> None:
    """DELETE …/tags/{id}."""
    tag = next((tag for tag in one.tags if tag.id == name), None)
    if tag is None:
        raise Problem(404, "Tag not found")
    one.tags.remove(tag)


def match(one: Instance, wanted: list[str]) -> bool:
    """Whether it carries all of these, each `key` or `key=value`."""
    pairs = {(tag.key, tag.value) for tag in one.tags}
    keys = {tag.key for tag in one.tags}
    return all(
        (key.lower(), value) in pairs if given else key.lower() in keys
        for key, given, value in (text.partition("=") for text in wanted)
    )


def _tag(world: World, body: Any) -> Tag:
    if not isinstance(body, dict) or not body.get("key"):
        raise Problem(400, "a tag needs a key")
    key, value = str(body["key"]).lower(), str(body.get("value") or "")
    if len(key) > 63 or len(value) > 127:
        raise Problem(400, "a tag's key has at most 63 characters, its value 127")
    return world.tags.setdefault((key, value), Tag("tag_" + secrets.token_hex(11), key, value))

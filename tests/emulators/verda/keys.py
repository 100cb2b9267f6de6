"""SSH keys and start-up scripts, which are alike but for pages and the quota of scripts."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

from tests.emulators.verda.clock import iso
from tests.emulators.verda.objects import Body, new_id
from tests.emulators.verda.problem import Problem
from tests.emulators.verda.world import World

Kept = dict[str, dict[str, Any]]


def add_key(world: World, body: Body, actor: str) -> str:
    """POST /ssh-keys."""
    name, key = _texts(body, "name", "key")
    made = new_id()
    shown = {"id": made, "name": name, "key": key.strip(), "fingerprint": _md5(key)}
    world.keys[made] = {**shown, "created_by_user_id": actor}
    return made


def add_script(world: World, body: Body) -> str:
    """POST /scripts."""
    name, script = _texts(body, "name", "script")
    if len(world.scripts) >= world.settings.max_scripts:
        raise Problem(403, "The quota of startup scripts is exceeded")
    made = new_id()
    world.scripts[made] = {"id": made, "name": name, "script": script, "created_at": iso(world.time)}
    return made


def scripts(world: World, query: dict[str, str]) -> list[Body]:
    """GET /scripts, all pages: newest first unless asked otherwise."""
    wanted = query.get("name", "")
    shown: list[Body] = [dict(one) for one in world.scripts.values() if wanted in str(one["name"])]
    return shown if query.get("orderDirection") == "asc" else shown[::-1]


def one_of(kept: Kept, name: str) -> list[Body]:
    """GET /…/{id}: an array, although the API's document says an object; the official client takes [0]."""
    if name not in kept:
        raise Problem(404, "Not found")
    return [kept[name]]


def remove(kept: Kept, names: Any) -> None:
    """A missing one is no error."""
    for name in [names] if isinstance(names, str) else names or []:
        kept.pop(name, None)


def _texts(body: Body, *names: str) -> list[str]:
    for name in names:
        if not isinstance(body.get(name), str) or not body[name]:
            raise Problem(400, f"{name} is required")
    return [body[name] for name in names]


def _md5(key: str) -> str | None:
    """As `ssh-keygen -E md5` prints it; None for what is no key."""
    try:
        blob = base64.b64decode(key.split()[1], validate=True)
    except (IndexError, binascii.Error):
        return None
    digest = hashlib.md5(blob, usedforsecurity=False).hexdigest()
    return ":".join(digest[at : at + 2] for at in range(0, 32, 2))

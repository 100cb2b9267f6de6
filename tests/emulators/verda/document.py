"""Compares the emulator's answers with Verda's public API document, for who has a copy of it.

`curl -O https://api.verda.com/v1/openapi.json; python -m tests.emulators.verda.document openapi.json`
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

from tests.emulators.verda.emulator import Verda
from tests.emulators.verda.plain import Plain
from tests.emulators.verda.settings import Settings

Body = dict[str, Any]
# null where the document has a text: what the official client declares as optional
MAY_BE_NULL = (
    *(
        "startup_script_id",
        "os_volume_id",
        "jupyter_token",
        "instance_id",
        "target",
        "pseudo_path",
        "long_term",
    ),
    *("create_directory_command", "mount_command", "filesystem_to_fstab_command"),
)
READ = (
    *("/balance", "/images", "/locations", "/instance-types", "/volume-types", "/instance-availability"),
    *("/instance-availability/1V100.6V", "/ssh-keys", "/sshkeys", "/scripts", "/instances", "/volumes"),
)
OBJECTS = ("instances",)  # declared as lists of texts; the document's own examples are objects


@dataclass(frozen=True)
class Answer:
    method: str
    path: str
    status: int
    value: Any


def complaints(document: Body, answer: Answer) -> list[str]:
    """What is wrong with an answer; one to a path that the document does not know is wrong."""
    where = f"{answer.method} {answer.path}"
    schema = _schema(document, answer)
    if schema is None:
        return [f"{where} {answer.status}: not in the document"]
    whole = {**schema, "components": _nullable(document.get("components", {}))}
    errors = jsonschema.Draft202012Validator(whole).iter_errors(answer.value)
    return [f"{where}: {'.'.join(map(str, one.absolute_path))}: {one.message[:200]}" for one in errors]


def walk(document: Body) -> list[str]:
    """What is wrong with any answer to what creates, reads and deletes."""
    with Verda(Settings(time_scale=0.0, limits_rate=False)) as verda:
        wrong = [text for answer in _answers(verda) for text in complaints(document, answer)]
    return sorted(set(wrong))


def _answers(verda: Verda) -> Iterator[Answer]:
    client = Plain(verda)

    def look(method: str, path: str, body: Any = None) -> Answer:
        reply = client.ask(method, path, body)
        plain = "json" not in reply.headers.get("Content-Type", "")
        return Answer(method, path, reply.status_code, reply.text if plain else reply.json())

    yield (script := look("POST", "/scripts", {"name": "x", "script": "#!/bin/sh"}))
    share = {"type": "NVMe_Shared", "name": "s", "size": 100, "location_code": "FIN-01"}
    yield (volume := look("POST", "/volumes", share))
    order = client.order(startup_script_id=script.value, tags=[{"key": "a"}])
    yield (one := look("POST", "/instances", order))
    instance = f"/instances/{one.value}"
    for moment in (0.0, 100.0):
        verda.clock.advance(moment)
        for path in (*READ, instance, f"/volumes/{volume.value}", f"/journal/compute/{one.value}"):
            yield look("GET", path)
    yield look("POST", f"{instance}/tags", {"key": "b", "value": "c"})
    yield look("PUT", "/instances", {"action": "delete", "id": [one.value, one.value]})
    client.ask("DELETE", f"/volumes/{volume.value}", {})
    for path in ("/volumes/trash", f"/volumes/{volume.value}", f"/journal/volume/{volume.value}"):
        yield look("GET", path)


def _schema(document: Body, asked: Answer) -> Body | None:
    for template, methods in sorted(document["paths"].items(), key=lambda pair: "{" in pair[0]):
        if re.fullmatch(re.sub(r"\{\w+}", "[^/]+", template), "/v1" + asked.path):
            answer = methods.get(asked.method.lower(), {}).get("responses", {}).get(str(asked.status))
            if answer is not None:
                found = answer.get("content", {}).get("application/json", {}).get("schema", {})
                return dict(found) | {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return None


def _nullable(value: Any, name: str = "") -> Any:
    """The document says `nullable`, as versions before 3.1 did; a validator wants it as a type."""
    if isinstance(value, list):
        return [_nullable(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {key: _nullable(one, key) for key, one in value.items()}
    if name in OBJECTS and found.get("type") == "array":
        found["items"] = {"type": "object"}
    if isinstance(found.get("type"), str) and (found.get("nullable") is True or name in MAY_BE_NULL):
        found["type"] = [found["type"], "null"]
    return found


if __name__ == "__main__":
    said = walk(json.loads(Path(sys.argv[1]).read_text()))
    print("\n".join(said) or "all answers are as the document says")
    sys.exit(1 if said else 0)

"""The activity journal: what happened to instances and volumes, and by whom."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from tests.emulators.verda.clock import iso

Body = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """`actor` is None where the system itself acted, as when it evicts."""

    object_id: str
    object_type: str
    action: str
    moment: float
    location: str
    actor: str | None = None
    error: str = ""
    reason: str = ""  # why the system deleted it


class Journal:
    """Newest first, as the API answers."""

    def __init__(self, project_id: str) -> None:
        self._project_id = project_id
        self._events: dict[str, list[Body]] = {}
        self._numbers = itertools.count(1)

    def add(self, event: Event) -> None:
        body: Body = {
            "id": f"{event.object_type}-log-{next(self._numbers)}",
            "object_id": event.object_id,
            "object_type": event.object_type,
            "action_code": event.action,
            "actor_id": event.actor,
            "actor_email": "someone@example.com" if event.actor else None,
            "project_id": self._project_id,
            "timestamp": iso(event.moment),
            "location_code": event.location,
        }
        if event.actor:
            body["request_origin"] = "public-api-v1"
        if event.error:
            body["error_message"] = event.error
        if event.reason:
            body["properties"] = {"delete_reason": event.reason}
        self._events.setdefault(event.object_id, []).insert(0, body)

    def of(self, object_id: str, query: dict[str, str]) -> list[Body]:
        found = self._events.get(object_id, [])
        wanted = query.get("action_code")
        return [one for one in found if wanted in (None, one["action_code"])]

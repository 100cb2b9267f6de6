"""GET and PUT /instances: listings as the API shows them, and actions with their four kinds of answer."""

from __future__ import annotations

import json
from typing import Any

from tests.emulators.verda import lifecycle, tags
from tests.emulators.verda.objects import PENDING, Body, Instance
from tests.emulators.verda.problem import Problem
from tests.emulators.verda.world import World

DELETE = ("delete", "discontinue", "hibernate", "delete_stuck")
OFF = ("shutdown", "force_shutdown")
ON = ("boot", "start")
BILLED_BUT_OVER = ("error", "no_capacity", "installation_failed")
DONE = object()  # it is in that state already


def listing(world: World, query: dict[str, str], wanted: list[str]) -> bytes:
    """GET /instances as JSON: all that are not deleted; late about new and old ones if Faults say so."""
    if world.faults.blind_listings > 0:
        world.faults.blind_listings -= 1
        return b"[]"
    status, compute = query.get("status"), query.get("computeId")
    there = [one for one in world.live.values() if _known(world, one, world.faults.listing_lag_s)]
    there += world.ended if status == "discontinued" else []
    texts = [
        one.text(world) for one in there if status in (None, one.status) and _meets(one, compute, wanted)
    ]
    if status in (None, "deleting"):
        late = [one.shown(world) for one in _lingering(world) if _meets(one, compute, wanted)]
        texts += [json.dumps({**body, "status": "deleting"}) for body in late]
    return f"[{', '.join(texts)}]".encode()


def get(world: World, name: str) -> Body:
    """GET /instances/{id}."""
    one = world.instances.get(name)
    if one is None or not _known(world, one, world.faults.by_id_lag_s):
        raise Problem(404, "Invalid instance id")
    if one.over and not world.settings.gone_readable:
        raise Problem(404, "Invalid instance id")
    return one.shown(world)


def perform(world: World, body: Body, actor: str) -> tuple[int, Any]:
    """PUT /instances: one id fails with its own status, of several each has its own result (207)."""
    ids = [body["id"]] if isinstance(body.get("id"), str) else body.get("id") or []
    action = str(body.get("action"))
    if action not in (*DELETE, *OFF, *ON):
        raise Problem(400, f"Invalid action {action}")
    if not ids:
        raise Problem(400, "id is required")
    if len(ids) == 1:
        done = _act(world, ids[0], body, actor)
        return (204, None) if done is DONE else (202, [_result(ids[0], action)])
    results = [_tried(world, name, body, actor) for name in ids]
    failed = any(one["status"] == "error" for one in results)
    return 207 if failed else 202, results


def refused(body: Body) -> list[Body]:
    """A 207 in which nothing could be done."""
    ids = [body["id"]] if isinstance(body.get("id"), str) else body.get("id") or []
    problem = Problem(403, "Can't discontinue a provisioning instance")
    return [_result(name, str(body.get("action")), problem) for name in ids]


def _tried(world: World, name: str, body: Body, actor: str) -> Body:
    action = str(body["action"])
    try:
        _act(world, name, body, actor)
    except Problem as problem:
        return _result(name, action, problem)
    return _result(name, action)


def _result(name: str, action: str, problem: Problem | None = None) -> Body:
    if problem is None:
        return {"instanceId": name, "action": action, "status": "success"}
    error = {"status": "error", "error": str(problem), "statusCode": problem.status}
    return {"instanceId": name, "action": action, **error}


def _act(world: World, name: str, body: Body, actor: str) -> object:
    one = world.instances.get(name)
    if one is None:
        raise Problem(404, "Invalid instance id")
    if body["action"] in DELETE:
        return _delete(world, one, body, actor)
    if one.over or one.status in PENDING or one.status in BILLED_BUT_OVER:
        raise Problem(403, f"Can't {body['action']} a {one.status} instance")
    if body["action"] in OFF:
        return _off(world, one, actor)
    return _on(world, one, actor)


def _delete(world: World, one: Instance, body: Body, actor: str) -> object:
    if one.status == "deleting":
        return DONE
    if one.over:
        raise Problem(403, "Can't discontinue a discontinued instance")
    if one.status in PENDING:
        raise Problem(403, "Can't discontinue a provisioning instance")
    if body["action"] == "hibernate" and one.status != "offline":
        raise Problem(400, "Instance must be shut down")
    chosen = [] if body["action"] == "hibernate" else body.get("volume_ids")
    if any(name not in one.volume_ids for name in chosen or []):
        raise Problem(400, "Invalid volume id")
    asked = lifecycle.Deletion(chosen, bool(body.get("delete_permanently")), actor)
    lifecycle.delete(world, one, asked)
    return None


def _off(world: World, one: Instance, actor: str) -> object:
    if one.status == "offline":
        return DONE
    lifecycle.power_off(world, one, actor)
    return None


def _on(world: World, one: Instance, actor: str) -> object:
    if one.status == "running":
        return DONE
    lifecycle.power_on(world, one, actor)
    return None


def _meets(one: Instance, compute: str | None, wanted: list[str]) -> bool:
    return compute in (None, one.id) and tags.match(one, wanted)


def _known(world: World, one: Instance, lag_s: float) -> bool:
    return world.time - one.created >= lag_s


def _lingering(world: World) -> list[Instance]:
    """Deleted ones that a late listing still has."""
    lag_s = world.faults.gone_lag_s
    return [one for one in world.ended if lag_s and world.time - (one.ended or 0.0) < lag_s]

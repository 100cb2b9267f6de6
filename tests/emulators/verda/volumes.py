"""Volumes: made, attached, detached, put into the trash, restored, lost."""

from __future__ import annotations

from typing import Any

from tests.emulators.verda.catalogue import LOCATIONS
from tests.emulators.verda.objects import Body, Instance, Volume
from tests.emulators.verda.problem import Problem
from tests.emulators.verda.tags import tags_of
from tests.emulators.verda.world import World

POLICIES = ("keep_detached", "move_to_trash", "delete_permanently")
CREATABLE = ("NVMe", "NVMe_Shared")


def add(world: World, volume: Volume) -> Volume:
    """A new one; it is paid for from now on."""
    world.volumes[volume.id] = volume
    if not volume.is_os:
        volume.disk = world.new_disk(volume)
    world.books.start(volume.id, volume.usd_per_s * world.factor)
    return volume


def create(world: World, body: Body, actor: str) -> str:
    """POST /volumes."""
    missing = [name for name in ("type", "location_code", "size", "name") if not body.get(name)]
    if missing:
        raise Problem(400, f"{missing[0]} is required")
    checked(world, body)
    if body["location_code"] not in LOCATIONS:
        raise Problem(400, "Invalid location code")
    volume = Volume(
        str(body["name"]),
        int(body["size"]),
        body["type"],
        body["location_code"],
        world.time,
        status="detached",
    )
    volume.tags = tags_of(world, body.get("tags"))
    if body.get("instance_id"):
        _attach(world, volume, body)
    world.note(add(world, volume), "create", actor)
    return volume.id


def checked(world: World, body: Body) -> None:
    """The kind and size that a new volume is to have; 400 otherwise."""
    if body.get("type", "NVMe") not in CREATABLE:
        raise Problem(400, f"Volume type {body['type']} is not supported")
    if not isinstance(body.get("size"), int) or body["size"] < 1:
        raise Problem(400, "size must be a positive number")
    if body.get("on_spot_discontinue") not in (None, *POLICIES):
        raise Problem(400, f"on_spot_discontinue must be one of {', '.join(POLICIES)}")


def perform(world: World, body: Body, actor: str) -> tuple[int, Any]:
    """PUT /volumes."""
    ids = [body.get("id")] if isinstance(body.get("id"), str) else body.get("id") or []
    made = []
    for name in ids:
        volume = found(world, name)
        act = ACTIONS.get(str(body.get("action")))
        if act is None:
            raise Problem(400, f"Invalid action {body.get('action')}")
        made.append(act(world, volume, body))
        world.note(volume, str(body["action"]), actor)
    return 202, made if body.get("action") == "clone" else None


def delete_one(world: World, name: str, body: Body, actor: str) -> tuple[int, Any]:
    """DELETE /volumes/{id}: 204 if it is gone already."""
    volume = world.volumes.get(name)
    if volume is None:
        raise Problem(404, "Invalid volume id")
    if volume.permanently or (volume.in_trash and not body.get("is_permanent")):
        return 204, None
    _delete(world, volume, body)
    world.note(volume, "delete", actor)
    return 202, None


def listing(world: World, status: str | None) -> list[Body]:
    """GET /volumes."""
    there = [one for one in world.volumes.values() if one.deleted is None]
    return [one.shown(world) for one in there if status in (None, one.status)]


def trash(world: World) -> list[Body]:
    """GET /volumes/trash."""
    return [one.shown(world) for one in world.volumes.values() if one.in_trash]


def found(world: World, name: Any) -> Volume:
    volume = world.volumes.get(name)
    if volume is None:
        raise Problem(404, "Invalid volume id")
    return volume


def policy(world: World, name: str | None) -> str:
    """What is to become of a volume when its spot instance is evicted."""
    volume = world.volumes.get(name or "")
    return volume.on_spot if volume else "delete_permanently"


def released(world: World, volume: Volume, fate: str) -> None:
    """Its instance is gone."""
    if volume.deleted is not None:
        return
    if fate == "delete_permanently":
        _destroy(world, volume)
    elif fate == "move_to_trash":
        to_trash(world, volume)
    else:
        world.after(world.settings.detach_s, lambda: _detached(world, volume))


def to_trash(world: World, volume: Volume) -> None:
    """It can be restored from there for a while."""
    volume.status, volume.deleted = "deleted", world.time
    volume.instance_id = volume.target = None
    if not world.settings.bills_trash:
        world.books.stop(volume.id)
    world.note(volume, "trash:complete")
    moment = world.time
    world.after(world.settings.trash_s, lambda: _destroy(world, volume) if volume.deleted == moment else None)


def _destroy(world: World, volume: Volume) -> None:
    if volume.permanently:
        return
    volume.status, volume.permanently = "deleted", True
    volume.deleted = volume.deleted or world.time
    volume.instance_id = volume.target = None
    world.books.stop(volume.id)
    world.note(volume, "delete:complete")
    disk, volume.disk = volume.disk, None
    if disk is not None and hasattr(disk, "destroy"):
        disk.destroy()


def _detached(world: World, volume: Volume) -> None:
    if volume.deleted is None:
        volume.status, volume.instance_id, volume.target = "detached", None, None
        world.note(volume, "detach:complete")


def _attach(world: World, volume: Volume, body: Body) -> None:
    one = world.live.get(str(body.get("instance_id")))
    if one is None:
        raise Problem(404, "Invalid instance id")
    if one.location != volume.location:
        raise Problem(400, "The volume is in another location")
    if volume.status != "detached":
        raise Problem(400, "The volume is attached")
    shared = volume.type == "NVMe_Shared"
    if one.status != "offline" and not shared:
        raise Problem(403, "One or more of the specified instances is not shut down")
    tie(volume, one)
    volume.status = "exported" if shared else "attached"


def tie(volume: Volume, one: Instance) -> None:
    """Bind a volume to an instance."""
    volume.instance_id = one.id
    volume.target = "vd" + "abcdefghijklmnop"[len(one.volume_ids)]
    one.volume_ids.append(volume.id)


def _detach(world: World, volume: Volume, body: Body) -> None:
    one = world.live.get(volume.instance_id or "")
    if one is not None:
        if one.status != "offline" and volume.type != "NVMe_Shared":
            raise Problem(403, "One or more of the specified instances is not shut down")
        one.volume_ids.remove(volume.id)
    _detached(world, volume)


def _delete(world: World, volume: Volume, body: Body) -> None:
    if volume.instance_id in world.live:
        _detach(world, volume, body)
    if body.get("is_permanent"):
        _destroy(world, volume)
    elif volume.deleted is None:
        to_trash(world, volume)


def _rename(world: World, volume: Volume, body: Body) -> None:
    volume.name = str(body.get("name") or volume.name)


def _resize(world: World, volume: Volume, body: Body) -> None:
    if int(body.get("size") or 0) < volume.size:
        raise Problem(400, "The size can only be increased")
    volume.size = int(body["size"])
    world.books.start(volume.id, volume.usd_per_s * world.factor)


def _clone(world: World, volume: Volume, body: Body) -> str:
    made = Volume(
        str(body.get("name") or f"clone-{volume.name}"), volume.size, volume.type, volume.location, world.time
    )
    made.status, made.is_os, made.image = "detached", volume.is_os, volume.image
    return add(world, made).id


def _restore(world: World, volume: Volume, body: Body) -> None:
    if not volume.in_trash:
        raise Problem(400, "The volume is not in the trash")
    volume.status, volume.deleted = "detached", None
    world.books.start(volume.id, volume.usd_per_s * world.factor)


ACTIONS: dict[str, Any] = {
    "attach": _attach,
    "detach": _detach,
    "delete": _delete,
    "rename": _rename,
    "resize": _resize,
    "clone": _clone,
    "restore": _restore,
}

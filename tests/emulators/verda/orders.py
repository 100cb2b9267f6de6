"""POST /instances: what is asked for, checked, and the instance and volumes that come of it."""

from __future__ import annotations

import re
from typing import Any

from tests.emulators.verda import catalogue, lifecycle, volumes
from tests.emulators.verda.catalogue import LOCATIONS, Type
from tests.emulators.verda.objects import Body, Instance, Volume
from tests.emulators.verda.problem import Problem
from tests.emulators.verda.tags import tags_of
from tests.emulators.verda.world import World

REQUIRED = ("instance_type", "image", "hostname", "location_code")
KNOWN = (
    *REQUIRED,
    *(
        "ssh_key_ids",
        "startup_script_id",
        "description",
        "os_volume",
        "volumes",
        "existing_volumes",
        "is_spot",
    ),
    *("contract", "pricing", "coupon", "tags"),
)
HOSTNAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?")
OS_GB = 50
FIRST_S = 600.0  # paid for in advance


def create(world: World, body: Body, actor: str) -> str:
    """The id of the new instance."""
    kind = _checked(world, body)
    system = _system_volume(world, body)
    image = system.image if system else _image(kind, body)
    one = _instance(world, body, actor, image)
    one.from_volume = system is not None
    if system is not None and system.disk is not None:
        one.machine = system.disk  # type: ignore[assignment]
    _add_volumes(world, one, system, body)
    lifecycle.begin(world, one)
    return one.id


def _checked(world: World, body: Body) -> Type:
    unknown = sorted(set(body) - set(KNOWN))
    missing = [name for name in REQUIRED if not body.get(name)]
    if unknown or missing:
        raise Problem(
            400, f"property {unknown[0]} should not exist" if unknown else f"{missing[0]} is required"
        )
    if body["instance_type"] not in catalogue.TYPES:
        raise Problem(400, "Invalid instance type")
    kind = catalogue.TYPES[body["instance_type"]]
    _check_words(world, body)
    is_spot = _is_spot(body)
    if world.books.balance < kind.price_per_hour(is_spot) * world.factor * FIRST_S / 3600:
        raise Problem(402, "Insufficient funds")
    if not world.capacity.free(kind.name, body["location_code"], is_spot):
        raise Problem(503, "No capacity available")
    return kind


def _check_words(world: World, body: Body) -> None:
    if body["location_code"] not in LOCATIONS:
        raise Problem(400, "Invalid location code")
    if not HOSTNAME.fullmatch(str(body["hostname"])):
        raise Problem(400, "Invalid hostname")
    if body.get("pricing") not in (None, "FIXED_PRICE"):
        raise Problem(400, "Only FIXED_PRICE is supported")
    if body.get("contract") not in (None, "PAY_AS_YOU_GO", "SPOT"):
        raise Problem(400, "Invalid contract")
    if any(name not in world.keys for name in _key_ids(body)):
        raise Problem(400, "Invalid SSH key id")
    if body.get("startup_script_id") and body["startup_script_id"] not in world.scripts:
        raise Problem(400, "Invalid startup script id")
    for wanted in [body.get("os_volume") or {"size": OS_GB}, *(body.get("volumes") or [])]:
        volumes.checked(world, wanted)
    for name in body.get("existing_volumes") or []:
        volume = volumes.found(world, name)
        if volume.status != "detached" or volume.location != body["location_code"]:
            raise Problem(400, "The volume is not detached, or in another location")


def _image(kind: Type, body: Body) -> str:
    image = catalogue.image_named(str(body["image"]))
    if not image:
        raise Problem(400, "Invalid image")
    if image not in kind.images:
        raise Problem(400, "Operating system is not valid for this instance type")
    if not _key_ids(body):
        raise Problem(400, "ssh_key_ids is required")
    return image


def _system_volume(world: World, body: Body) -> Volume | None:
    """The detached OS volume that is named as the image."""
    volume = world.volumes.get(str(body["image"]))
    if volume is None:
        return None
    if volume.status != "detached" or not volume.is_os or volume.location != body["location_code"]:
        raise Problem(400, "The OS volume is not detached, or in another location")
    return volume


def _instance(world: World, body: Body, actor: str, image: str) -> Instance:
    is_spot = _is_spot(body)
    return Instance(
        catalogue.TYPES[body["instance_type"]],
        image,
        str(body["hostname"]),
        body["location_code"],
        is_spot,
        world.time,
        actor,
        world.machine(),
        world.faults.next_fate(),
        description=str(body.get("description") or ""),
        contract="SPOT" if is_spot else "PAY_AS_YOU_GO",
        key_ids=_key_ids(body),
        script_id=body.get("startup_script_id"),
        tags=tags_of(world, body.get("tags")),
    )


def _add_volumes(world: World, one: Instance, system: Volume | None, body: Body) -> None:
    if system is None:
        wanted = body.get("os_volume") or {"name": f"OS-NVMe-{one.id[:8]}", "size": OS_GB}
        system = _new_volume(world, one, {**wanted, "type": "NVMe"}, is_os=True)
        system.image, system.key_ids = one.image, list(one.key_ids)
    one.os_volume_id = system.id
    more = [_new_volume(world, one, wanted) for wanted in body.get("volumes") or []]
    for volume in [system, *more, *_existing(world, one, body)]:
        volumes.tie(volume, one)
        volume.status = "attaching"


def _new_volume(world: World, one: Instance, wanted: Body, is_os: bool = False) -> Volume:
    name, size, kind = str(wanted.get("name") or "volume"), int(wanted["size"]), wanted.get("type", "NVMe")
    volume = Volume(name, size, kind, one.location, world.time, is_os)
    volume.on_spot = wanted.get("on_spot_discontinue") or "keep_detached"
    volume.tags = tags_of(world, wanted.get("tags"))
    return volumes.add(world, volume)


def _existing(world: World, one: Instance, body: Body) -> list[Volume]:
    return [world.volumes[name] for name in body.get("existing_volumes") or []]


def _key_ids(body: Body) -> list[str]:
    given: Any = body.get("ssh_key_ids") or []
    return [given] if isinstance(given, str) else list(given)


def _is_spot(body: Body) -> bool:
    return bool(body.get("is_spot")) or body.get("contract") == "SPOT"

"""Instances, volumes and tags as the cloud keeps them, and as the API shows them."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from tests.emulators.verda.catalogue import GB_MONTH, MONTH_S, Type, hardware, os_name
from tests.emulators.verda.clock import iso
from tests.emulators.verda.machines import Machine
from tests.emulators.verda.settings import Fate

Body = dict[str, Any]
PENDING = ("new", "ordered", "validating", "provisioning")


def new_id() -> str:
    return str(uuid.uuid4())


@dataclass
class Tag:
    id: str
    key: str
    value: str

    def shown(self) -> Body:
        return {"id": self.id, "key": self.key, "value": self.value}


@dataclass
class Volume:
    name: str
    size: int
    type: str
    location: str
    created: float
    is_os: bool = False
    id: str = field(default_factory=new_id)
    status: str = "ordered"
    instance_id: str | None = None
    target: str | None = None
    on_spot: str = "keep_detached"
    key_ids: list[str] = field(default_factory=list)
    tags: list[Tag] = field(default_factory=list)
    image: str = ""  # of an OS volume
    deleted: float | None = None
    permanently: bool = False
    disk: object = None  # what a real machine has on it

    @property
    def usd_per_s(self) -> float:
        return self.size * GB_MONTH / MONTH_S

    @property
    def in_trash(self) -> bool:
        return self.deleted is not None and not self.permanently

    def shown(self, world: Any) -> Body:
        """As GET /volumes/{id} answers, also of one that is deleted."""
        instance = world.instances.get(self.instance_id)
        monthly = self.size * GB_MONTH * world.factor
        body: Body = {
            "id": self.id,
            "instance_id": self.instance_id,
            "instances": [_brief(instance)] if instance else [],
            "name": self.name,
            "created_at": iso(self.created),
            "status": self.status,
            "size": self.size,
            "is_os_volume": self.is_os,
            "target": self.target,
            "type": self.type,
            "location": self.location,
            "ssh_key_ids": self.key_ids,
            "contract": "PAY_AS_YOU_GO",
            "base_hourly_cost": monthly / 730,
            "monthly_price": monthly,
            "currency": world.settings.currency,
            "tags": [tag.shown() for tag in self.tags],
        }
        if self.deleted is not None:
            return {**body, "deleted_at": iso(self.deleted), "is_permanently_deleted": self.permanently}
        return {**body, **self._share(), "long_term": None}

    def _share(self) -> Body:
        """How to mount it, if it is a shared filesystem."""
        names = ("create_directory_command", "mount_command", "filesystem_to_fstab_command")
        if self.type != "NVMe_Shared":
            return {"pseudo_path": None, **dict.fromkeys(names)}
        path = f"volume-{self.id[:8]}"
        server = f"nfs.{self.location.lower()}.datacrunch.io:{path}"
        commands = ("mkdir -p /mnt/volume", f"mount -t nfs -o nconnect=16 {server} /mnt/volume", server)
        return {"pseudo_path": path, **dict(zip(names, commands, strict=True))}


@dataclass
class Instance:
    type: Type
    image: str
    hostname: str
    location: str
    is_spot: bool
    created: float
    actor_id: str
    machine: Machine
    fate: Fate
    description: str = ""
    contract: str = "PAY_AS_YOU_GO"
    id: str = field(default_factory=new_id)
    status: str = "new"
    key_ids: list[str] = field(default_factory=list)
    script_id: str | None = None
    volume_ids: list[str] = field(default_factory=list)
    os_volume_id: str | None = None
    tags: list[Tag] = field(default_factory=list)
    from_volume: bool = False  # booted from an OS volume: no start-up script
    running_since: float | None = None
    ended: float | None = None  # billed until then
    evicted: bool = False
    generation: int = 0  # goes up when what was planned for it is void

    _text: tuple[object, str] = (None, "")

    @property
    def over(self) -> bool:
        return self.ended is not None

    @property
    def ip(self) -> str | None:
        return self.machine.ip if self.running_since is not None else None

    def shown(self, world: Any) -> Body:
        """As GET /instances/{id} answers."""
        return {
            "id": self.id,
            "ip": self.ip,
            "status": self.status,
            "created_at": iso(self.created),
            "created_by_user_id": self.actor_id,
            **hardware(self.type),
            "hostname": self.hostname,
            "description": self.description,
            "tags": [tag.shown() for tag in self.tags],
            "location": self.location,
            "price_per_hour": self.type.price_per_hour(self.is_spot) * world.factor,
            "is_spot": self.is_spot,
            "instance_type": self.type.name,
            "image": self.image,
            "os_name": os_name(self.image),
            "startup_script_id": self.script_id,
            "ssh_key_ids": self.key_ids,
            "os_volume_id": self.os_volume_id,
            "jupyter_token": None,
            "contract": self.contract,
            "pricing": "FIXED_PRICE",
            "volume_ids": self.volume_ids,
        }

    def text(self, world: Any) -> str:
        """The same as JSON, made anew only when something has changed: listings may hold thousands."""
        key = (
            self.status,
            self.ip,
            len(self.volume_ids),
            [tag.id for tag in self.tags],
            world.settings.currency,
        )
        if self._text[0] != key:
            self._text = (key, json.dumps(self.shown(world)))
        return self._text[1]


def _brief(one: Instance) -> Body:
    return {
        "id": one.id,
        "ip": one.ip,
        "instance_type": one.type.name,
        "status": one.status,
        "os_volume_id": one.os_volume_id,
        "hostname": one.hostname,
    }

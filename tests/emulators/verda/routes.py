"""Which method and path does what."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.emulators.verda import actions, catalogue, keys, orders, tags, volumes
from tests.emulators.verda.accounts import Accounts, Credential
from tests.emulators.verda.catalogue import LOCATIONS, TYPES
from tests.emulators.verda.objects import Body, Instance, Volume
from tests.emulators.verda.problem import Problem
from tests.emulators.verda.world import World

PAGE, MOST = 10, 100
PUBLIC = re.compile(r"/oauth2/token|/(instance|volume|cluster|container)-types|/long-term/periods(/\w+)?")


@dataclass(frozen=True)
class Call:
    """One request, understood; `names` are the parts of its path that name something."""

    world: World
    names: tuple[str, ...]
    query: dict[str, str]
    tags: list[str]
    body: Body
    actor: str

    @property
    def name(self) -> str:
        return self.names[0]


@dataclass(frozen=True)
class Reply:
    """`body`: a str is sent as plain text, as the API sends ids; bytes are JSON already; None is nothing."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


Route = Callable[[Call], Reply]


def is_public(path: str) -> bool:
    """Whether this may be asked without a token."""
    return bool(PUBLIC.fullmatch(path))


def token(accounts: Accounts, body: Body) -> Reply:
    return Reply(200, accounts.token(body))


def route_of(method: str, path: str) -> tuple[Route, tuple[str, ...]]:
    """What answers, and the names in the path; 404 without one."""
    for (wanted, pattern), route in ROUTES:
        match = pattern.fullmatch(path)
        if match and wanted == method:
            return route, match.groups()
    raise Problem(404, f"Cannot {method} /v1{path}")


def answer(world: World, method: str, path: str, request: Call) -> Reply:
    """Do it, at the present."""
    route, names = route_of(method, path)
    call = Call(world, names, request.query, request.tags, request.body, request.actor)
    with world.now():
        return route(call)


def call_of(world: World, query: list[tuple[str, str]], body: Body, credential: Credential | None) -> Call:
    """The request but for the names in its path."""
    wanted = [value for name, value in query if name == "tag"]
    return Call(world, (), dict(query), wanted, body, credential.actor_id if credential else "")


def _ok(body: Any) -> Reply:
    return Reply(200, body)


def _paged(call: Call, items: list[Body]) -> Reply:
    page = max(1, int(call.query.get("page") or 1))
    size = min(MOST, max(1, int(call.query.get("pageSize") or PAGE)))
    headers = {"X-Page": str(page), "X-Page-Size": str(size), "X-Total-Count": str(len(items))}
    return Reply(200, items[(page - 1) * size : page * size], headers)


def _balance(call: Call) -> Reply:
    world = call.world
    return _ok({"amount": round(world.books.balance, 4), "currency": world.settings.currency})


def _instance_types(call: Call) -> Reply:
    return _ok(catalogue.instance_types(call.query.get("currency", "usd")))


def _volume_types(call: Call) -> Reply:
    return _ok(catalogue.volume_types(call.query.get("currency", "usd")))


def _is_spot(call: Call) -> bool:
    return call.query.get("is_spot", call.query.get("isSpot", "false")) == "true"


def _places(call: Call) -> list[str]:
    wanted = call.query.get("location_code") or call.query.get("locationCode")
    return [code for code in LOCATIONS if wanted in (None, "", code)]


def _availabilities(call: Call) -> Reply:
    free, spot = call.world.capacity.free, _is_spot(call)
    return _ok(
        [
            {"location_code": code, "availabilities": [name for name in TYPES if free(name, code, spot)]}
            for code in _places(call)
        ]
    )


def _available(call: Call) -> Reply:
    catalogue.type_of(call.name)
    return _ok(any(call.world.capacity.free(call.name, code, _is_spot(call)) for code in _places(call)))


def _create_instance(call: Call) -> Reply:
    return Reply(202, orders.create(call.world, call.body, call.actor))


def _perform(call: Call) -> Reply:
    return Reply(*actions.perform(call.world, call.body, call.actor))


def _create_volume(call: Call) -> Reply:
    return Reply(202, volumes.create(call.world, call.body, call.actor))


def _perform_on_volumes(call: Call) -> Reply:
    return Reply(*volumes.perform(call.world, call.body, call.actor))


def _delete_volume(call: Call) -> Reply:
    return Reply(*volumes.delete_one(call.world, call.name, call.body, call.actor))


def _tagged(call: Call) -> Instance | Volume:
    kind, name = call.names[:2]
    kept: Any = call.world.instances if kind == "instances" else call.world.volumes
    if name not in kept:
        raise Problem(404, "Not found")
    found: Instance | Volume = kept[name]
    return found


def _add_tag(call: Call) -> Reply:
    return Reply(201, tags.add(call.world, _tagged(call), call.body))


def _remove_tag(call: Call) -> Reply:
    tags.remove(_tagged(call), call.names[2])
    return Reply(204)


def _journal(call: Call) -> Reply:
    name = call.query.get("compute_id") or call.query.get("volume_id") or call.name
    return _paged(call, call.world.journal.of(name or "", call.query))


def _remove_keys(call: Call) -> Reply:
    keys.remove(call.world.keys, call.names[0] if call.names else call.body.get("keys"))
    return Reply(200)


def _remove_scripts(call: Call) -> Reply:
    keys.remove(call.world.scripts, call.names[0] if call.names else call.body.get("scripts"))
    return Reply(200)


KEYS = r"/ssh-?keys"
TABLE: dict[tuple[str, str], Route] = {
    ("GET", "/balance"): _balance,
    ("GET", "/locations"): lambda call: _ok(catalogue.locations()),
    ("GET", "/images"): lambda call: _ok(catalogue.images(call.query.get("instance_type", ""))),
    ("GET", "/instance-types"): _instance_types,
    ("GET", "/volume-types"): _volume_types,
    ("GET", "/instance-availability"): _availabilities,
    ("GET", "/instance-availability/([^/]+)"): _available,
    ("GET", "/instances"): lambda call: _ok(actions.listing(call.world, call.query, call.tags)),
    ("POST", "/instances"): _create_instance,
    ("PUT", "/instances"): _perform,
    ("POST", "/instances/action"): _perform,
    ("GET", "/instances/([^/]+)"): lambda call: _ok(actions.get(call.world, call.name)),
    ("POST", "/(instances|volumes)/([^/]+)/tags"): _add_tag,
    ("DELETE", "/(instances|volumes)/([^/]+)/tags/([^/]+)"): _remove_tag,
    ("GET", "/volumes"): lambda call: _ok(volumes.listing(call.world, call.query.get("status"))),
    ("POST", "/volumes"): _create_volume,
    ("PUT", "/volumes"): _perform_on_volumes,
    ("GET", "/volumes/trash"): lambda call: _ok(volumes.trash(call.world)),
    ("GET", "/volumes/([^/]+)"): lambda call: _ok(volumes.found(call.world, call.name).shown(call.world)),
    ("DELETE", "/volumes/([^/]+)"): _delete_volume,
    ("GET", "/journal(?:/(?:compute|volume)/([^/]+))?"): _journal,
    ("GET", KEYS): lambda call: _ok(list(call.world.keys.values())),
    ("POST", KEYS): lambda call: Reply(201, keys.add_key(call.world, call.body, call.actor)),
    ("DELETE", KEYS): _remove_keys,
    ("GET", KEYS + "/([^/]+)"): lambda call: _ok(keys.one_of(call.world.keys, call.name)),
    ("DELETE", KEYS + "/([^/]+)"): _remove_keys,
    ("GET", "/scripts"): lambda call: _paged(call, keys.scripts(call.world, call.query)),
    ("POST", "/scripts"): lambda call: Reply(201, keys.add_script(call.world, call.body)),
    ("DELETE", "/scripts"): _remove_scripts,
    ("GET", "/scripts/([^/]+)"): lambda call: _ok(keys.one_of(call.world.scripts, call.name)),
    ("DELETE", "/scripts/([^/]+)"): _remove_scripts,
    (
        "GET",
        "/clusters|/cluster-types|/container-types|/long-term/periods(?:/instances|/clusters)?",
    ): lambda call: _ok([]),
}
ROUTES = [((method, re.compile(path)), route) for (method, path), route in TABLE.items()]

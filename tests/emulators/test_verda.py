"""The emulated Verda's rentals, deletions and money, by a clock that the tests move."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.emulators.verda.emulator import Verda
from tests.emulators.verda.objects import Volume
from tests.emulators.verda.plain import Plain
from tests.emulators.verda.settings import Settings
from tests.emulators.verda.shapes import complaints

BOOT_S = 67.0
HOUR_S = 3600.0


@pytest.fixture
def verda() -> Iterator[Verda]:
    with Verda(Settings(time_scale=0.0, limits_rate=False, start=1.8e9)) as running:
        yield running


@pytest.fixture
def client(verda: Verda) -> Plain:
    return Plain(verda)


def running(verda: Verda, client: Plain, **more: Any) -> str:
    """The id of an instance that has booted."""
    name = client.rent(**more)
    verda.clock.advance(BOOT_S)
    assert client.get(f"/instances/{name}")["status"] == "running"
    return name


def volumes_by_name(verda: Verda) -> dict[str, Volume]:
    return {one.name: one for one in verda.volumes}


def fate_of(volume: Volume) -> str:
    if volume.permanently:
        return "lost"
    return "trash" if volume.in_trash else volume.status


def test_an_instance_boots_in_phases_and_can_be_deleted_only_afterwards(verda: Verda, client: Plain) -> None:
    name = client.rent()
    seen = []
    for seconds in (0, 5, 2, 60):
        verda.clock.advance(seconds)
        one = client.get(f"/instances/{name}")
        seen.append((one["status"], bool(one["ip"])))
        if one["status"] != "running":
            refused = client.act("delete", name)
            assert (refused.status_code, refused.json()["code"]) == (403, "forbidden_action")
    waiting = [("ordered", False), ("validating", False), ("provisioning", False)]
    assert seen == [*waiting, ("running", True)]
    assert client.act("delete", name).status_code == 202
    assert [one["status"] for one in client.get("/instances")] == ["deleting"]
    verda.clock.advance(10)
    assert client.get("/instances") == []
    assert client.get(f"/instances/{name}")["status"] == "discontinued"
    actions = [one["action_code"] for one in client.get(f"/journal/compute/{name}")]
    assert actions == [
        "delete:complete",
        "delete",
        "running",
        "provisioning",
        "validating",
        "create",
    ]


@pytest.mark.parametrize(
    ("asked", "fates"),
    [
        ({}, ("trash", "detached")),
        ({"volume_ids": None}, ("trash", "detached")),
        ({"delete_permanently": True}, ("trash", "detached")),
        ({"volume_ids": []}, ("detached", "detached")),
        ({"volume_ids": ["system"]}, ("trash", "detached")),
        ({"volume_ids": ["system", "data"]}, ("trash", "trash")),
        ({"volume_ids": ["system", "data"], "delete_permanently": True}, ("lost", "lost")),
        ({"volume_ids": ["data"], "delete_permanently": True}, ("detached", "lost")),
    ],
)
def test_a_deletion_takes_the_volumes_that_it_names(
    verda: Verda, client: Plain, asked: dict[str, Any], fates: tuple[str, str]
) -> None:
    more = {
        "os_volume": {"name": "system", "size": 60},
        "volumes": [{"name": "data", "size": 10, "type": "NVMe"}],
    }
    name = running(verda, client, **more)
    ids = {one.name: one.id for one in verda.volumes}
    if asked.get("volume_ids"):
        asked = {**asked, "volume_ids": [ids[each] for each in asked["volume_ids"]]}
    assert client.act("delete", name, **asked).status_code == 202
    verda.clock.advance(10)
    assert {one["status"] for one in client.get("/volumes")} <= {"attached"}  # late, as the real one
    verda.clock.advance(5)
    found = volumes_by_name(verda)
    assert (fate_of(found["system"]), fate_of(found["data"])) == fates
    kept = {ids[each] for each, fate in zip(("system", "data"), fates, strict=True) if fate == "detached"}
    assert set(verda.left().paid) == kept


def test_actions_on_several_instances_succeed_or_fail_one_by_one(verda: Verda, client: Plain) -> None:
    first, second = running(verda, client), running(verda, client)
    young = client.rent()
    nobody = "00000000-1111-4222-8333-444444444444"
    assert client.act("shutdown", nobody).status_code == 404
    assert client.act("start", first).status_code == 204
    assert client.act("start", first, second).status_code == 202
    mixed = client.act("delete", first, young, nobody)
    assert mixed.status_code == 207
    assert complaints("action", mixed.json()) == []
    assert [(one["status"], one.get("statusCode")) for one in mixed.json()] == [
        ("success", None),
        ("error", 403),
        ("error", 404),
    ]
    assert client.act("delete", first).status_code == 204
    verda.clock.advance(10)
    again = client.act("delete", first)
    assert (again.status_code, again.json()["message"]) == (403, "Can't discontinue a discontinued instance")
    assert client.act("transfer", second).status_code == 400


def test_it_bills_by_the_second_also_what_is_shut_down(verda: Verda, client: Plain) -> None:
    name = running(verda, client)
    client.act("shutdown", name)
    verda.clock.advance(HOUR_S)
    assert client.get(f"/instances/{name}")["status"] == "offline"
    machine = verda.instances[0]
    assert verda.cost(machine) == pytest.approx(2.19 * (HOUR_S + BOOT_S) / HOUR_S)
    client.act("delete", name)
    verda.clock.advance(10 * HOUR_S)
    assert verda.cost(machine) == pytest.approx(2.19 * (HOUR_S + BOOT_S + 10) / HOUR_S)
    volume = verda.volumes[0]
    assert client.get("/balance")["amount"] == pytest.approx(
        100 - verda.cost(machine) - verda.cost(volume), abs=1e-3
    )


def test_at_zero_balance_all_ends_at_that_second(verda: Verda, client: Plain) -> None:
    verda.world.books.balance = 2.19
    name = client.rent(instance_type="1H100.80S.30V")
    refused = client.ask("POST", "/instances", client.order(instance_type="8H100.80S.176V"))
    assert (refused.status_code, refused.json()["code"]) == (402, "insufficient_funds")
    verda.clock.advance(100 * HOUR_S)
    assert client.get("/instances") == []
    assert client.get("/balance")["amount"] == pytest.approx(0.0, abs=1e-3)
    one = verda.instances[0]
    assert (one.ended or 0) - one.created == pytest.approx(HOUR_S, rel=0.01)
    assert client.get("/volumes/trash") == []  # lost after 96 hours there
    assert verda.volumes[0].permanently
    assert client.get(f"/journal/compute/{name}")[1]["properties"]["delete_reason"] == "insufficient_balance"


@pytest.mark.parametrize(
    ("policy", "system"), [(None, "detached"), ("move_to_trash", "trash"), ("delete_permanently", "lost")]
)
def test_an_eviction_comes_without_a_word_and_keeps_volumes_unless_told(
    verda: Verda, client: Plain, policy: str | None, system: str
) -> None:
    volume = {"name": "system", "size": 60, "on_spot_discontinue": policy}
    name = running(verda, client, is_spot=True, os_volume=volume)
    assert client.get("/instances")[0]["price_per_hour"] == 0.77
    verda.evict(verda.instances[0], api_lag_s=30)
    assert client.get(f"/instances/{name}")["status"] == "running"
    verda.clock.advance(30)
    assert client.get("/instances") == []
    verda.clock.advance(5)
    assert fate_of(verda.volumes[0]) == system
    assert (verda.left().paid == ()) == (system != "detached")
    told = next(one for one in client.get(f"/journal/compute/{name}") if one["action_code"] == "delete")
    assert (told["actor_id"], told["properties"]) == (None, {"delete_reason": "evicted_by_on_demand"})


def test_an_instance_ends_once_though_it_is_deleted_while_it_is_evicted(verda: Verda, client: Plain) -> None:
    verda.capacity.set("1H100.80S.30V", 1, "FIN-03", spot=True)
    name = running(verda, client, is_spot=True)
    verda.evict(verda.instances[0], api_lag_s=30)
    assert client.act("delete", name).status_code == 202
    verda.evict(verda.instances[0])
    verda.clock.advance(100)
    assert client.get(f"/instances/{name}")["status"] == "discontinued"
    assert [one["action_code"] for one in client.get(f"/journal/compute/{name}")].count(
        "delete:complete"
    ) == 1
    statuses = [client.ask("POST", "/instances", client.order(is_spot=True)).status_code for _ in range(2)]
    assert statuses == [202, 503]


def test_spot_instances_can_be_evicted_again_and_again(verda: Verda, client: Plain) -> None:
    verda.settings.spot_lives_s = 120.0
    names = [client.rent(is_spot=True), client.rent()]
    verda.clock.advance(BOOT_S + 120)
    assert [client.get(f"/instances/{name}")["status"] for name in names] == ["discontinued", "running"]


def test_a_kept_os_volume_boots_again_in_its_own_location(verda: Verda, client: Plain) -> None:
    name = running(verda, client)
    volume = verda.volumes[0].id
    client.act("delete", name, volume_ids=[])
    assert client.ask("POST", "/instances", client.order(image=volume)).status_code == 400
    verda.clock.advance(20)
    elsewhere = client.ask("POST", "/instances", client.order(image=volume, location_code="ICE-01"))
    assert elsewhere.status_code == 400
    again = running(verda, client, image=volume)
    assert client.get(f"/instances/{again}")["os_volume_id"] == volume


def test_the_trash_is_emptied_after_four_days_and_gives_back_what_is_restored_before(
    verda: Verda, client: Plain
) -> None:
    kept, lost = (
        client.post("/volumes", type="NVMe", name=name, size=10, location_code="FIN-01")
        for name in ("a", "b")
    )
    for name in (kept, lost):
        assert client.ask("DELETE", f"/volumes/{name}", {}).status_code == 202
        assert client.ask("DELETE", f"/volumes/{name}", {}).status_code == 204
    assert verda.left().paid == ()
    assert client.ask("PUT", "/volumes", {"action": "restore", "id": kept}).status_code == 202
    verda.clock.advance(96 * HOUR_S)
    assert [one["id"] for one in client.get("/volumes")] == [kept]
    assert client.get(f"/volumes/{lost}")["is_permanently_deleted"] is True
    assert client.get("/volumes/trash") == []


def test_instances_are_found_by_their_tags(verda: Verda, client: Plain) -> None:
    tags = [{"key": "Launcher", "value": "k3x7"}, {"key": "loose"}]
    name = client.rent(tags=tags, hostname="ours")
    client.rent(tags=[{"key": "launcher", "value": "k3x7-2"}], hostname="theirs")

    def found(*wanted: str) -> list[str]:
        return [one["hostname"] for one in client.ask("GET", "/instances", tag=list(wanted)).json()]

    assert found("launcher=k3x7") == found("Launcher=k3x7") == ["ours"]
    assert found("launcher") == ["ours", "theirs"]
    assert found("launcher", "LOOSE") == ["ours"]
    assert found("k3x7") == []
    later = client.post(f"/instances/{name}/tags", key="until", value="noon")
    assert client.ask("POST", f"/instances/{name}/tags", {"key": "until", "value": "noon"}).status_code == 409
    assert found("until=noon") == ["ours"]
    assert client.ask("DELETE", f"/instances/{name}/tags/{later['id']}").status_code == 204
    assert found("until") == []

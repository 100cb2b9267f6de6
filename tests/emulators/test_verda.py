"""The emulated Verda's rentals, deletions and money, by a clock that the tests move."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.emulators.verda import document
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
        "create",
    ]


@pytest.mark.parametrize(
    ("asked", "system", "data"),
    [
        ({}, "trash", "detached"),
        ({"volume_ids": None}, "trash", "detached"),
        ({"delete_permanently": True}, "trash", "detached"),
        ({"volume_ids": []}, "detached", "detached"),
        ({"volume_ids": ["system"]}, "trash", "detached"),
        ({"volume_ids": ["system", "data"]}, "trash", "trash"),
        ({"volume_ids": ["system", "data"], "delete_permanently": True}, "lost", "lost"),
        ({"volume_ids": ["data"], "delete_permanently": True}, "detached", "lost"),
    ],
)
def test_a_deletion_takes_the_volumes_that_it_names(
    verda: Verda, client: Plain, asked: dict[str, Any], system: str, data: str
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
    assert (fate_of(found["system"]), fate_of(found["data"])) == (system, data)
    kept = {ids[each] for each, fate in (("system", system), ("data", data)) if fate == "detached"}
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

    assert found("launcher=k3x7") == ["ours"]
    assert found("launcher") == ["ours", "theirs"]
    assert found("launcher", "LOOSE") == ["ours"]
    assert found("k3x7") == []
    later = client.post(f"/instances/{name}/tags", key="until", value="noon")
    assert client.ask("POST", f"/instances/{name}/tags", {"key": "until", "value": "noon"}).status_code == 409
    assert found("until=noon") == ["ours"]
    assert client.ask("DELETE", f"/instances/{name}/tags/{later['id']}").status_code == 204
    assert found("until") == []


def test_what_cannot_be_had_is_refused(verda: Verda, client: Plain) -> None:
    verda.capacity.set("1L40S.20V", 1, "FIN-03", spot=False)
    client.rent(instance_type="1L40S.20V")
    order = client.order()
    for status, message, wrong in (
        (503, "No capacity available", {"instance_type": "1L40S.20V"}),
        (503, "No capacity available", {"instance_type": "1H200.141S.44V"}),
        (400, "Invalid instance type", {"instance_type": "9Z900"}),
        (400, "Operating system is not valid for this instance type", {"instance_type": "1V100.6V"}),
        (400, "Invalid image", {"image": "windows-95"}),
        (400, "location_code is required", {"location_code": None}),
        (400, "Invalid hostname", {"hostname": "a_b"}),
        (400, "Invalid SSH key id", {"ssh_key_ids": ["none"]}),
        (400, "Invalid startup script id", {"startup_script_id": "none"}),
        (400, "Only FIXED_PRICE is supported", {"pricing": "DYNAMIC_PRICE"}),
        (400, "property tag should not exist", {"tag": []}),
        (400, "Volume type HDD is not supported", {"volumes": [{"name": "a", "size": 1, "type": "HDD"}]}),
        (404, "Invalid volume id", {"existing_volumes": ["none"]}),
        (400, "tags must contain no more than 10 elements", {"tags": [{"key": str(n)} for n in range(11)]}),
    ):
        reply = client.ask("POST", "/instances", {**order, **wrong})
        assert (reply.status_code, reply.json().get("message")) == (status, message)
        assert complaints("error", reply.json()) == []
    assert len(verda.instances) == 1
    assert client.get("/instance-availability/1L40S.20V", location_code="FIN-03") is False
    assert client.get("/instance-availability/1L40S.20V", location_code="FIN-03", is_spot="true") is True


def test_scripts_come_in_pages_and_are_not_more_than_a_hundred(verda: Verda, client: Plain) -> None:
    ids = [client.post("/scripts", name=f"script-{n}", script="#!/bin/sh") for n in range(100)]
    assert client.ask("POST", "/scripts", {"name": "more", "script": "#!/bin/sh"}).status_code == 403
    page = client.ask("GET", "/scripts", page=2, pageSize=30)
    assert [one["id"] for one in page.json()] == ids[::-1][30:60]
    assert (page.headers["X-Page"], page.headers["X-Total-Count"]) == ("2", "100")
    assert len(client.get("/scripts")) == 10
    assert client.get("/scripts", pageSize=1, orderDirection="asc")[0]["id"] == ids[0]


def test_all_answers_have_the_fields_of_the_public_document(verda: Verda, client: Plain) -> None:
    script = client.post("/scripts", name="x", script="#!/bin/sh")
    share = client.post("/volumes", type="NVMe_Shared", name="s", size=100, location_code="FIN-01")
    name = client.rent(startup_script_id=script, tags=[{"key": "a"}], is_spot=True)
    wrong: list[str] = []

    def look(kind: str, path: str, **query: Any) -> None:
        found = client.get(path, **query)
        assert found, path
        wrong.extend(f"{path}: {text}" for text in complaints(kind, found))

    for moment in (0.0, BOOT_S):
        verda.clock.advance(moment)
        look("instance", "/instances")
        look("instance", f"/instances/{name}")
        look("volume", "/volumes")
    for kind, path in {
        "balance": "/balance",
        "image": "/images",
        "instance type": "/instance-types",
        "availability": "/instance-availability",
        "location": "/locations",
        "volume type": "/volume-types",
        "key": "/ssh-keys",
        "script": "/scripts",
        "volume": f"/volumes/{share}",
    }.items():
        look(kind, path)
    wrong += complaints("tag", client.get("/instances")[0]["tags"])
    verda.evict(verda.instances[0])
    client.ask("DELETE", f"/volumes/{share}", {})
    look("deleted volume", "/volumes/trash")
    look("deleted volume", f"/volumes/{share}")
    look("event", f"/journal/compute/{name}")
    look("event", f"/journal/volume/{share}")
    look("instance", f"/instances/{name}")
    assert wrong == []


def test_a_wrong_answer_would_be_seen(client: Plain) -> None:
    right = client.get("/instance-types")[0]
    wrong = {**right, "price_per_hour": 2.19, "gpus": 1}
    del wrong["spot_price"]
    assert complaints("instance type", right) == []
    assert complaints("instance type", wrong) == [
        "instance type: gpus is not in the document",
        "instance type: price_per_hour is no price: 2.19",
        "instance type: spot_price is missing",
    ]


def test_a_copy_of_the_public_document_is_believed_more_than_the_emulator() -> None:
    number = {"type": "object", "properties": {"amount": {"type": "number"}}, "required": ["amount"]}
    for wanted, wrong in ((number, False), ({**number, "required": ["amount", "credit"]}, True)):
        answer = {
            "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Money"}}}}
        }
        paths = {"/v1/balance": {"get": {"responses": answer}}}
        found = document.walk({"paths": paths, "components": {"schemas": {"Money": wanted}}})
        assert any(text.endswith("'credit' is a required property") for text in found) == wrong
        assert "GET /locations 200: not in the document" in found


def test_thousands_of_machines_of_others_are_in_the_same_listing(verda: Verda, client: Plain) -> None:
    verda.world.books.balance = 1e6
    for n in range(3_000):
        verda.rent(hostname=f"launcher-{n}")
    ours = client.rent(hostname="launcher-2000-k3x7")
    names = {one["hostname"]: one["id"] for one in client.get("/instances")}
    assert len(names) == 3_001
    assert names["launcher-2000-k3x7"] == ours

"""What the emulated Verda answers: the fields of the public document, refusals, pages, long listings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.emulators.verda import document
from tests.emulators.verda.emulator import Verda
from tests.emulators.verda.plain import Plain
from tests.emulators.verda.settings import Settings
from tests.emulators.verda.shapes import complaints

BOOT_S = 67.0


@pytest.fixture
def verda() -> Iterator[Verda]:
    with Verda(Settings(time_scale=0.0, limits_rate=False)) as running:
        yield running


@pytest.fixture
def client(verda: Verda) -> Plain:
    return Plain(verda)


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

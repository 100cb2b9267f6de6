"""The unmodified official SDK takes the emulator for Verda, and fails at it as it fails at Verda."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.emulators.verda.emulator import Verda
from tests.emulators.verda.environments import official_python, sdk
from tests.emulators.verda.plain import KEY
from tests.emulators.verda.settings import Answer, Settings

RENT = f"""
key = client.ssh_keys.create("mine", "{KEY}").id
script = client.startup_scripts.create("mine", "#!/bin/sh").id
def rent(**more):
    named = {{"instance_type": "1H100.80S.30V", "image": "ubuntu-24.04-cuda-12.8-open-docker", "hostname": "mine"}}
    return client.instances.create(**{{**named, "description": "a test", "ssh_key_ids": [key], **more}})
def until(one, status):
    import time
    while one.status != status:
        time.sleep(0.02)
        one = client.instances.get_by_id(one.id)
    return one
"""
TRIED = """
def tried(call, *words, **more):
    try:
        return [None, call(*words, **more)]
    except Exception as e:
        return [type(e).__name__, str(e)]
"""


@pytest.fixture
def verda() -> Iterator[Verda]:
    official_python()  # may take its time, once
    with Verda(Settings(time_scale=120)) as running:
        yield running


def test_it_reads_the_catalogue_prices_capacity_and_balance(verda: Verda) -> None:
    verda.capacity.set("1H100.80S.30V", 0, spot=False)
    code = """
types = {one.instance_type: one for one in client.instance_types.get()}
one = types["2H100.80S.60V"]
free = client.instances.get_availabilities(is_spot=True, location_code="FIN-02")
result = {
    "price": [one.price_per_hour, one.spot_price_per_hour, one.gpu_memory["size_in_gigabytes"]],
    "euros": client.instance_types.get("eur")[0].currency,
    "old": [image.image_type for image in client.images.get("1V100.6V")],
    "all": len(client.images.get()),
    "places": [one["code"] for one in client.locations.get()],
    "free": [client.instances.is_available("1H100.80S.30V", spot, "FIN-01") for spot in (True, False)],
    "list": free,
    "balance": [client.balance.get().amount, client.balance.get().currency],
    "volumes": {one.type: one.price_per_month_per_gb for one in client.volume_types.get()},
    "clusters": client.clusters.get(),
}
"""
    read = sdk(verda, code)
    assert read["price"] == [4.38, 1.54, 160]
    assert read["euros"] == "eur"
    assert read["old"] == ["ubuntu-22.04-cuda-12.0-docker", "ubuntu-22.04-cuda-12.0"]
    assert read["all"] > len(read["old"])
    assert read["places"] == ["FIN-01", "FIN-02", "FIN-03", "ICE-01"]
    assert read["free"] == [True, False]
    assert [place["location_code"] for place in read["list"]] == ["FIN-02"]
    assert "1H200.141S.44V" in read["list"][0]["availabilities"]
    assert read["balance"] == [100.0, "usd"]
    assert read["volumes"] == {"NVMe": 0.2, "NVMe_Shared": 0.2}
    assert read["clusters"] == []


def test_it_rents_shuts_down_starts_and_deletes(verda: Verda) -> None:
    code = (
        RENT
        + """
more = {"volumes": [{"name": "data", "size": 20, "type": "NVMe"}], "os_volume": {"name": "system", "size": 60}}
new = rent(startup_script_id=script, **more)
running = until(new, "running")
client.instances.action(running.id, "shutdown")
off = until(running, "offline")
client.instances.action([off.id], "start")
until(off, "running")
volumes = [one for one in client.volumes.get() if one.instance_id == running.id]
client.instances.action(running.id, "delete", [one.id for one in volumes], delete_permanently=True)
gone = until(off, "discontinued")
result = {"new": new, "running": running, "volumes": volumes, "left": client.instances.get(),
          "trash": client.volumes.get_in_trash(), "kept": client.volumes.get(), "gone": gone.status}
"""
    )
    seen = sdk(verda, code)
    assert seen["new"]["status"] != "ordered"  # it waits that long by itself
    assert seen["running"]["ip"]
    assert seen["running"]["price_per_hour"] == 2.19
    sizes = {one["name"]: (one["size"], one["is_os_volume"], one["target"]) for one in seen["volumes"]}
    assert sizes == {"system": (60, True, "vda"), "data": (20, False, "vdb")}
    assert (seen["left"], seen["kept"], seen["trash"], seen["gone"]) == ([], [], [], "discontinued")
    assert verda.left().paid == ()


def test_it_keeps_keys_and_scripts_and_sees_only_the_first_page_of_scripts(verda: Verda) -> None:
    code = f"""
key = client.ssh_keys.create("mine", "{KEY}")
made = [client.startup_scripts.create(f"script-{{n}}", "#!/bin/sh") for n in range(12)]
result = [client.ssh_keys.get_by_id(key.id).public_key, len(client.ssh_keys.get()),
          [one.name for one in client.startup_scripts.get()][:2], len(client.startup_scripts.get()),
          client.startup_scripts.get_by_id(made[0].id).name]
client.startup_scripts.delete([one.id for one in made])
client.ssh_keys.delete([key.id])
client.ssh_keys.delete_by_id(key.id)
"""
    assert sdk(verda, code) == [KEY, 1, ["script-11", "script-10"], 10, "script-0"]
    assert not verda.left()


def test_it_makes_attaches_grows_clones_and_deletes_volumes(verda: Verda) -> None:
    code = (
        RENT
        + TRIED
        + """
data = client.volumes.create("NVMe", "data", 10)
box = until(rent(), "running")
early = tried(client.volumes.attach, data.id, box.id)
client.instances.action(box.id, "shutdown")
until(box, "offline")
client.volumes.attach(data.id, box.id)
attached = client.volumes.get_by_id(data.id)
client.volumes.detach(data.id)
client.volumes.increase_size(data.id, 15)
client.volumes.rename(data.id, "more")
copy = client.volumes.clone(data.id, "copy")
client.volumes.delete(data.id)
client.volumes.delete_by_id(copy.id, is_permanent=True)
result = [early, attached.status, copy.size, [one.name for one in client.volumes.get_in_trash()],
          tried(client.volumes.create, "HDD", "old", 10)]
"""
    )
    early, attached, size, trash, disk = sdk(verda, code)
    assert early == [
        "APIException",
        "error code: forbidden_action\nmessage: One or more of the specified instances is not shut down",
    ]
    assert (attached, size, trash) == ("attached", 15, ["more"])
    assert "invalid_request" in disk[1]


def test_it_loses_machines_that_are_paid_for(verda: Verda) -> None:
    verda.faults.answers += [
        Answer("POST", "/instances", lost=True),
        Answer("POST", "/instances", status=502, html=True, done=True, message="Bad Gateway"),
        Answer("GET", "/instances/.*", status=503),
    ]
    code = RENT + TRIED + "result = [tried(rent)[0], tried(rent)[0], tried(rent, wait_for_status=None)[0]]"
    assert sdk(verda, code) == ["ConnectionError", "JSONDecodeError", "APIException"]
    assert len(verda.left().instances) == 3


def test_it_takes_a_deletion_that_failed_for_one_that_was_done(verda: Verda) -> None:
    verda.faults.answers.append(Answer("PUT", "/instances", status=207))
    code = RENT + TRIED + 'result = tried(client.instances.action, until(rent(), "running").id, "delete")'
    assert sdk(verda, code) == [None, None]
    assert len(verda.left().instances) == 1


def test_it_renews_a_token_that_ran_out_by_its_own_clock_and_no_other(verda: Verda) -> None:
    verda.accounts.token_wall_s = 0.0
    code = "result = client.balance.get().amount"
    assert sdk(verda, code) == 100.0
    grants = [one.body["grant_type"] for one in verda.asked if one.path == "/oauth2/token"]
    assert grants == ["client_credentials", "refresh_token"]
    verda.accounts.token_wall_s = 3600
    verda.faults.answers.append(Answer("GET", "/balance", status=401))
    assert sdk(verda, TRIED + "result = tried(client.balance.get)")[0] == "APIException"


def test_wrong_credentials_are_refused(verda: Verda) -> None:
    code = TRIED + 'result = tried(VerdaClient, client_id, "wrong", url)'
    assert sdk(verda, code) == [
        "APIException",
        "error code: unauthorized_request\nmessage: Invalid client id or client secret",
    ]


def test_its_older_name_works_too(verda: Verda) -> None:
    code = "import datacrunch\nresult = datacrunch.DataCrunchClient(client_id, client_secret, url).balance.get().amount"
    assert sdk(verda, code) == 100.0

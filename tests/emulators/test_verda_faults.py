"""What goes wrong on the emulated Verda, and what its wire says then."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest
import requests

from tests.emulators.verda.emulator import Verda
from tests.emulators.verda.plain import Plain
from tests.emulators.verda.settings import Answer, Fate, Settings
from tests.emulators.verda.shapes import complaints

BOOT_S = 67.0


@pytest.fixture
def verda() -> Iterator[Verda]:
    with Verda(Settings(time_scale=0.0)) as running:
        yield running


@pytest.fixture
def client(verda: Verda) -> Plain:
    return Plain(verda)


def hostnames(client: Plain) -> list[str]:
    return [one["hostname"] for one in client.get("/instances")]


def test_an_answer_is_lost_after_the_work_or_the_request_before_it(verda: Verda, client: Plain) -> None:
    order = client.order(hostname="lost")
    verda.faults.answers += [Answer("POST", "/instances", lost=True)]
    with pytest.raises(requests.ConnectionError):
        client.ask("POST", "/instances", order)
    assert hostnames(client) == ["lost"]
    verda.faults.answers += [Answer("POST", "/instances", lost=True, done=False)]
    with pytest.raises(requests.ConnectionError):
        client.ask("POST", "/instances", order)
    assert hostnames(client) == ["lost"]


def test_an_answer_comes_late_and_a_request_is_worked_on_twice(verda: Verda, client: Plain) -> None:
    order = client.order(hostname="double")
    verda.faults.answers += [Answer("POST", "/instances", late_wall_s=0.3, twice=True)]
    with pytest.raises(requests.ReadTimeout):
        requests.post(
            verda.url + "/instances",
            json=order,
            headers={"Authorization": f"Bearer {client.token}"},
            timeout=0.1,
        )
    assert hostnames(client) == ["double", "double"]


def test_a_proxy_answers_with_a_page(verda: Verda, client: Plain) -> None:
    page = Answer("*", ".*", status=502, html=True, message="Bad Gateway")
    verda.faults.answers += [page]
    reply = client.ask("GET", "/balance")
    assert (reply.status_code, reply.headers["Content-Type"]) == (502, "text/html; charset=utf-8")
    assert "<title>502 Bad Gateway</title>" in reply.text
    verda.faults.answers += [Answer("POST", "/instances", status=502, html=True, done=True)]
    assert client.ask("POST", "/instances", client.order()).status_code == 502
    assert len(verda.left().instances) == 1


def test_an_outage_lasts_until_it_is_over(verda: Verda, client: Plain) -> None:
    verda.faults.outage = Answer("*", ".*", status=503, retry_after_s=30)
    for path in ("/balance", "/instances", "/instance-types", "/balance"):
        reply = client.ask("GET", path)
        assert (reply.status_code, reply.headers["Retry-After"]) == (503, "30")
    verda.faults.outage = Answer("*", ".*", lost=True, done=False)
    with pytest.raises(requests.ConnectionError):
        client.ask("GET", "/balance")
    verda.faults.outage = None
    assert client.get("/balance")["amount"] == 100


def test_too_many_requests_to_one_path_are_refused_until_a_minute_has_passed(
    verda: Verda, client: Plain
) -> None:
    for _ in range(60):
        last = client.ask("GET", "/balance")
    assert last.headers["RateLimit-Policy"] == '"project";q=500;w=60, "endpoint";q=60;w=60'
    assert '"endpoint";r=0' in last.headers["RateLimit"]
    verda.clock.advance(20)
    refused = client.ask("GET", "/balance")
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limit_exceeded")
    assert refused.headers["Retry-After"] == "40"
    assert client.ask("GET", "/images").status_code == 200
    verda.clock.advance(40)
    assert client.ask("GET", "/balance").status_code == 200
    assert verda.limits.peak("GET", "/balance") == 61
    for _ in range(120):
        assert client.ask("GET", "/instances").status_code == 200
    assert client.ask("GET", "/instances").status_code == 429


def test_the_project_as_a_whole_has_a_limit_too(verda: Verda, client: Plain) -> None:
    statuses = [client.ask("GET", f"/instances/{n}").status_code for n in range(501)]
    assert statuses == [404] * 500 + [429]
    assert client.ask("GET", "/instance-types").status_code == 200  # asked without a token, not limited
    assert verda.limits.peak() == 501
    assert len(verda.asked) == 503


def test_throttling_can_be_told(verda: Verda, client: Plain) -> None:
    verda.faults.answers += [Answer("GET", "/instances", status=429, retry_after_s=7, times=2)]
    statuses = [client.ask("GET", "/instances").status_code for _ in range(3)]
    assert statuses == [429, 429, 200]


def test_a_deletion_that_failed_is_answered_with_207(verda: Verda, client: Plain) -> None:
    name = client.rent()
    verda.clock.advance(BOOT_S)
    verda.faults.answers += [Answer("PUT", "/instances", status=207)]
    reply = client.act("delete", name)
    assert reply.status_code == 207
    assert complaints("action", reply.json()) == []
    assert [one["status"] for one in reply.json()] == ["error"]
    assert client.get(f"/instances/{name}")["status"] == "running"


def test_listings_are_late_about_new_and_about_deleted_instances(verda: Verda, client: Plain) -> None:
    verda.faults.listing_lag_s, verda.faults.by_id_lag_s, verda.faults.gone_lag_s = 30, 10, 60
    name = client.rent(hostname="young")
    assert client.ask("GET", f"/instances/{name}").status_code == 404
    verda.clock.advance(10)
    assert client.ask("GET", f"/instances/{name}").status_code == 200
    assert hostnames(client) == []
    verda.clock.advance(20)
    assert hostnames(client) == ["young"]
    verda.clock.advance(BOOT_S)
    client.act("delete", name)
    verda.clock.advance(11)
    assert [one["status"] for one in client.get("/instances")] == ["deleting"]
    assert verda.left().instances == ()
    verda.clock.advance(60)
    assert hostnames(client) == []


def test_a_listing_can_miss_everything_for_once(verda: Verda, client: Plain) -> None:
    client.rent(hostname="there")
    verda.faults.blind_listings = 2
    assert [hostnames(client) for _ in range(3)] == [[], [], ["there"]]


def test_a_deleted_instance_may_be_unknown_by_its_id(verda: Verda, client: Plain) -> None:
    verda.settings.gone_readable = False
    name = client.rent()
    verda.clock.advance(BOOT_S)
    client.act("delete", name)
    verda.clock.advance(10)
    assert client.ask("GET", f"/instances/{name}").status_code == 404


@pytest.mark.parametrize("status", ["error", "no_capacity", "installation_failed", "polishing"])
def test_an_instance_may_come_to_a_bad_end_or_to_one_nobody_knows(
    verda: Verda, client: Plain, status: str
) -> None:
    verda.faults.fates += [Fate(status=status)]
    name = client.rent()
    verda.clock.advance(BOOT_S)
    assert client.get(f"/instances/{name}")["status"] == status
    assert (name in verda.left().paid) == (status != "no_capacity")
    assert client.get(f"/journal/compute/{name}")[0]["error_message"] == status.upper()
    assert client.act("delete", name).status_code == 202
    verda.clock.advance(10)
    assert client.get("/instances") == []
    later = client.rent()
    verda.clock.advance(BOOT_S)
    assert client.get(f"/instances/{later}")["status"] == "running"


def test_an_instance_may_never_boot_and_not_be_deleted_meanwhile(verda: Verda, client: Plain) -> None:
    verda.faults.fates += [Fate(stuck_s=1800)]
    name = client.rent()
    verda.clock.advance(1800)
    assert client.act("delete", name).status_code == 403
    verda.clock.advance(BOOT_S)
    assert client.get(f"/instances/{name}")["status"] == "error"
    assert client.act("delete", name).status_code == 202


def test_more_gpus_than_the_quota_end_in_an_error(verda: Verda, client: Plain) -> None:
    verda.settings.max_gpus = 1
    first, second = client.rent(), client.rent()
    verda.clock.advance(BOOT_S)
    statuses = [client.get(f"/instances/{name}")["status"] for name in (first, second)]
    assert statuses == ["error", "error"]  # both were there when each arrived
    assert client.get(f"/journal/compute/{second}")[0]["error_message"] == "GPU_QUOTA_EXCEEDED"


def test_tokens_expire_and_credentials_are_revoked(verda: Verda, client: Plain) -> None:
    assert client.ask("GET", "/instance-types").status_code == 200
    verda.accounts.expire()
    refused = client.ask("GET", "/balance")
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized_request")
    fresh = Plain(verda)
    other = verda.another_credential()
    verda.credential.revoked = True
    assert fresh.ask("GET", "/balance").status_code == 401
    given = {"grant_type": "client_credentials", "client_id": verda.credential.client_id}
    body = {**given, "client_secret": verda.credential.client_secret}
    assert fresh.ask("POST", "/oauth2/token", body).status_code == 401
    body = {**given, "client_id": other.client_id, "client_secret": other.client_secret}
    assert fresh.ask("POST", "/oauth2/token", body).status_code == 200


def test_creates_with_faults_by_chance_are_the_same_each_time() -> None:
    def rented(seed: int) -> tuple[int, int]:
        with Verda(Settings(time_scale=0.0, limits_rate=False, balance=1e6)) as verda:
            verda.faults.seed = seed
            verda.faults.answers += [
                Answer("POST", "/instances", lost=True, times=10**9, chance=0.1),
                Answer("POST", "/instances", status=503, times=10**9, chance=0.1),
                Answer("POST", "/instances", twice=True, times=10**9, chance=0.1),
            ]
            client = Plain(verda)
            order = client.order()
            good = 0
            for _ in range(500):
                with contextlib.suppress(requests.ConnectionError):
                    good += client.ask("POST", "/instances", order).status_code == 202
            return good, len(verda.left().instances)

    first = rented(7)
    assert 350 < first[0] < 450 < first[1] < 550
    assert rented(7) == first


def test_clients_at_the_same_time_get_what_there_is_and_no_more(verda: Verda, client: Plain) -> None:
    verda.settings.limits_rate = False
    verda.capacity.set("1H100.80S.30V", 5)
    order = client.order()
    statuses: list[int] = []

    def rent() -> None:
        mine = Plain(verda, client.token)
        statuses.extend(mine.ask("POST", "/instances", order).status_code for _ in range(5))

    threads = [threading.Thread(target=rent) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [202] * 5 + [503] * 35

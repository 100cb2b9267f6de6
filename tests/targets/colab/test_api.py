"""Colab's account: runtimes are given once, found again and handed back; each refusal says what to do."""

from __future__ import annotations

import itertools
import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import AuthError, CapacityError, LauncherError, Refused, RemoteError, Unreachable
from launcher.targets.colab import api as colab_api
from launcher.targets.colab.api import ColabAPI, Wanted
from launcher.targets.colab.told import Account, quotas
from tests.emulators.colab.emulator import Colab
from tests.emulators.colab.settings import DENIED, DENYLISTED, EXCEEDED, Settings
from tests.targets.colab.hostile import Hostile, Reply, Seen

TOKEN = "token-of-nobody"
ENDPOINT = {"endpoint": "m-s-1", "accelerator": "NONE"}


def wanted(**wishes: Any) -> Wanted:
    return Wanted(str(uuid.uuid4()), **wishes)


def asked(account: Colab, since: int, line: str) -> int:
    """How often Colab was asked this and answered so."""
    return account.asked[since:].count(line)


def assert_clear(error: LauncherError, *words: str) -> None:
    """One line with what to do, without the token."""
    text = error.message + " | " + error.hint
    assert error.message.isprintable()
    assert len(error.message) < 300
    assert TOKEN not in text
    for word in words:
        assert word in text


def test_a_runtime_is_given_as_it_was_asked_for(account: Colab, api: ColabAPI) -> None:
    wish = wanted(accelerator="T4", version="2026.07", high_memory=True)
    assert api.find(wish) is None
    runtime = api.assign(wish)
    assert (runtime.accelerator, runtime.high_memory) == ("T4", True)
    assert runtime.endpoint in account.endpoints
    assert time.time() < runtime.renew_at < runtime.expires_at < time.time() + 3601
    assert runtime.token not in repr(runtime)


def test_a_notebook_gets_the_same_runtime_however_often_it_asks(account: Colab, api: ColabAPI) -> None:
    wish = wanted()
    first = api.assign(wish)
    before, since = account.endpoints, len(account.asked)
    found = api.find(wish)
    assert found is not None
    assert api.assign(wish).endpoint == found.endpoint == first.endpoint
    assert account.endpoints == before
    assert asked(account, since, "POST /tun/m/assign 200") == 0


def test_a_lost_answer_is_looked_for_and_its_runtime_taken(account: Colab, api: ColabAPI) -> None:
    before, since, account.faults.lost_assign_answers = len(account.endpoints), len(account.asked), 1
    runtime = api.assign(wanted())
    assert asked(account, since, "POST /tun/m/assign lost") == 1
    assert asked(account, since, "POST /tun/m/assign 200") == 0
    assert account.endpoints[before:] == [runtime.endpoint]


def test_a_busy_colab_is_asked_again(account: Colab, api: ColabAPI) -> None:
    account.faults.assign_statuses = [502, 503]
    assert api.assign(wanted()).endpoint in account.endpoints
    assert account.faults.assign_statuses == []


def test_the_accelerator_that_was_really_given_is_told(account: Colab, api: ColabAPI) -> None:
    account.faults.given = {"T4": "NONE"}
    assert api.assign(wanted(accelerator="T4")).accelerator == ""


@pytest.mark.parametrize(
    ("outcome", "kind", "words"),
    [
        (DENIED, CapacityError, ("T4", "launcher quota colab")),
        (EXCEEDED, CapacityError, ("spent", "launcher quota colab")),
        (DENYLISTED, AuthError, ("blocked this account",)),
        (77, RemoteError, ("77",)),
    ],
)
def test_an_outcome_without_a_runtime_says_what_to_do(
    account: Colab, api: ColabAPI, outcome: int, kind: type[LauncherError], words: tuple[str, ...]
) -> None:
    before, account.faults.outcome = account.endpoints, outcome
    with pytest.raises(kind) as caught:
        api.assign(wanted(accelerator="T4"))
    assert type(caught.value) is kind
    assert_clear(caught.value, *words)
    assert account.endpoints == before


def test_too_many_runtimes_is_a_matter_of_capacity(account: Colab, api: ColabAPI) -> None:
    account.faults.assign_statuses = [412]
    with pytest.raises(CapacityError) as caught:
        api.assign(wanted())
    assert_clear(caught.value, "launcher release", "Manage sessions")


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"accelerator": "H100"}, ("H100", "may ask for T4")),
        ({"version": "2019.01"}, ("version 2019.01", "targets.yaml")),
    ],
)
def test_what_the_account_cannot_have_is_refused_with_what_it_can(
    api: ColabAPI, wish: dict[str, str], words: tuple[str, ...]
) -> None:
    with pytest.raises(Refused) as caught:
        api.assign(wanted(**wish))
    assert_clear(caught.value, *words)


def test_a_runtime_that_was_taken_back_is_no_more(account: Colab, api: ColabAPI) -> None:
    wish = wanted()
    runtime = api.assign(wish)
    fresh = api.refresh(runtime.endpoint)
    assert fresh is not None
    assert (fresh.url, fresh.token == runtime.token) == (runtime.url, False)
    assert api.keep_alive(runtime.endpoint)
    account.reclaim(runtime.endpoint)
    assert api.refresh(runtime.endpoint) is None
    assert api.find(wish) is None
    assert not api.keep_alive(runtime.endpoint)


def test_a_runtime_is_handed_back_any_number_of_times(account: Colab, api: ColabAPI) -> None:
    endpoint = api.assign(wanted()).endpoint
    for _ in range(2):
        api.unassign(endpoint)
    assert account.ended[endpoint] == "unassigned"
    assert endpoint not in [one.endpoint for one in api.assignments()]
    api.unassign("../assign")


def test_a_keep_alive_without_an_answer_counts(
    account: Colab, api: ColabAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colab_api, "KEEP_ALIVE_S", 0.5)
    endpoint = api.assign(wanted()).endpoint
    account.faults.silent_keep_alive = True
    assert api.keep_alive(endpoint)


def test_usage_tells_paid_and_free_units(account: Colab, api: ColabAPI) -> None:
    paid, free = api.usage("mine")
    assert (paid.target, paid.what, paid.left) == ("mine", "compute units", account.balance)
    assert (free.what, free.unit) == ("free compute units", "compute units")
    assert free.left == pytest.approx(account.free_milli_units / 1000, abs=1)
    assert free.refreshes_at.endswith("+00:00")
    assert "may ask for T4" in paid.notes


def test_usage_without_the_service_for_it_comes_from_the_plainer_one(hostile: Hostile) -> None:
    told = {
        "currentBalance": 12.5,
        "consumptionRateHourly": 1.76,
        "assignmentsCount": 1,
        "eligibleGpus": ["T4"],
    }
    hostile.answers = lambda seen: (
        Reply(403) if seen.path.startswith("/v1/") else Reply(200, b")]}'\n" + json.dumps(told).encode())
    )
    (paid,) = ColabAPI(hostile.url, lambda: TOKEN).usage()
    assert (paid.left, paid.notes) == (12.5, ("may ask for T4", "1 running, 1.76 units an hour"))


def test_an_account_without_gpus_says_so() -> None:
    assert quotas(Account(), "colab")[0].notes == ("no GPU for this account now",)


def test_a_token_that_colab_does_not_know_says_how_to_sign_in(account: Colab) -> None:
    stranger = ColabAPI(account.url, lambda: TOKEN)
    for ask in (stranger.assignments, stranger.usage, lambda: stranger.assign(wanted())):
        with pytest.raises(AuthError) as caught:
            ask()
        assert_clear(caught.value, "launcher check colab")


def test_a_netrc_file_does_not_replace_the_token(
    account: Colab, api: ColabAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert isinstance(api.assignments(), list)


def test_retry_after_is_honoured(hostile: Hostile) -> None:
    hostile.answers = [Reply(429, b"", {"Retry-After": "1"}), Reply(200, b')]}\'\n{"assignments": []}')]
    begun = time.monotonic()
    assert ColabAPI(hostile.url, lambda: TOKEN).assignments() == []
    assert time.monotonic() - begun >= 1


def test_an_account_that_asks_too_often_is_told_after_a_while(
    hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.targets.colab.wire.LONGEST_WAIT_S", 0.01)
    monkeypatch.setattr("launcher.targets.colab.wire.DELAYS_S", (0.01, 0.01))
    hostile.answers = [Reply(429, b"", {"Retry-After": "99999"})]
    with pytest.raises(CapacityError, match="asked too often"):
        ColabAPI(hostile.url, lambda: TOKEN).assignments()
    assert len(hostile.seen) == 3


def runtime_of(**changes: Any) -> dict[str, Any]:
    info = {"token": "t", "tokenExpiresInSeconds": 3600, "url": "https://8080-m-s-1.prod.colab.dev"}
    return {**ENDPOINT, "runtimeProxyInfo": info | changes}


LIES: dict[str, Callable[[], Any]] = {
    "another scheme": lambda: runtime_of(url="javascript:alert(1)"),
    "plain http to elsewhere": lambda: runtime_of(url="http://example.com"),
    "no host": lambda: runtime_of(url="https://"),
    "somebody in the address": lambda: runtime_of(url="https://user@example.com"),
    "an address without sense": lambda: runtime_of(url="https://[::1"),
    "a number as address": lambda: runtime_of(url=5),
    "a token of two lines": lambda: runtime_of(token="a\r\nX-Evil: b"),
    "an endless token": lambda: runtime_of(token="x" * 100_000),
    "no token": lambda: runtime_of(token=None),
    "a way up": lambda: {**runtime_of(), "endpoint": "../../v1"},
    "an escape sequence": lambda: {**runtime_of(), "endpoint": "\x1b[2J"},
    "no way to it": lambda: {**ENDPOINT},
    "a list": lambda: [1],
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_runtime_that_makes_no_sense_is_one_clear_line(hostile: Hostile, lie: Callable[[], Any]) -> None:
    hostile.answers = [Reply(200, json.dumps({"assignments": [lie()]}).encode())]
    with pytest.raises(RemoteError) as caught:
        ColabAPI(hostile.url, lambda: TOKEN).assignments()
    assert_clear(caught.value, "Colab described a runtime with")


PAGES: dict[str, Reply] = {
    "a sign-in page": Reply(200, b"<!doctype html><title>Sign in</title>"),
    "a redirect": Reply(302, b"", {"Location": "https://accounts.google.com/"}),
    "not JSON": Reply(200, b"yes"),
    "nested": Reply(200, b"[" * 300_000),
    "a list": Reply(200, b"[]"),
    "nothing": Reply(200, b""),
    "no list": Reply(200, b'{"assignments": 5}'),
    "an error page": Reply(400, b"<html>" + b"\x1b]0;evil\x07" * 1000),
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_an_answer_that_is_none_of_colabs_is_one_clear_line(hostile: Hostile, page: Reply) -> None:
    hostile.answers = [page]
    colab = ColabAPI(hostile.url, lambda: TOKEN)
    with pytest.raises(RemoteError) as caught:
        colab.assignments()
    assert_clear(caught.value)
    with pytest.raises(LauncherError) as caught_too:
        colab.assign(wanted())
    assert_clear(caught_too.value)


def test_an_answer_without_end_is_left_before_it_fills_the_memory(hostile: Hostile) -> None:
    hostile.answers = [Reply(200, itertools.repeat(b" " * (1 << 20)))]
    with pytest.raises(RemoteError, match="more than 32 MB"):
        ColabAPI(hostile.url, lambda: TOKEN).assignments()
    assert hostile.sent_bytes < 64 << 20


def test_a_balance_that_is_no_number_is_none(hostile: Hostile) -> None:
    told = {"paidComputeUnitsBalance": "NaN", "consumptionRateHourly": [], "assignmentsCount": 1e999}
    hostile.answers = [Reply(200, json.dumps({**told, "eligibleAccelerators": 5}).encode())]
    account = ColabAPI(hostile.url, lambda: TOKEN).account()
    assert (account.paid_units, account.units_per_hour, account.runtimes) == (0, 0, 0)


def test_a_request_for_a_runtime_carries_the_word_that_was_handed_out(hostile: Hostile) -> None:
    words = iter(["first", "second"])

    def answers(seen: Seen) -> Reply:
        if seen.method == "GET":
            return Reply(200, json.dumps({"token": next(words)}).encode())
        if seen.headers["x-goog-colab-token"] == "first":
            return Reply(403)  # it is good for one question only
        return Reply(200, json.dumps(runtime_of() | {"outcome": 4}).encode())

    hostile.answers = answers
    assert ColabAPI(hostile.url, lambda: TOKEN).assign(wanted()).endpoint == "m-s-1"
    assert [seen.headers["authorization"] for seen in hostile.seen] == [f"Bearer {TOKEN}"] * 4
    assert TOKEN not in "".join(seen.path for seen in hostile.seen)


def test_a_colab_that_nobody_can_reach_is_unreachable(
    hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.targets.colab.wire.DELAYS_S", (0.01,))
    hostile.stop()
    with pytest.raises(Unreachable) as caught:
        ColabAPI(hostile.url, lambda: TOKEN).assignments()
    assert_clear(caught.value, "check the network")


def test_an_account_with_nothing_left_is_told_so() -> None:
    with Colab(Settings(free_milli_units=0)) as empty:
        with pytest.raises(CapacityError, match="spent for now"):
            ColabAPI(empty.url, lambda: empty.token).assign(wanted())

"""The way to a Colab runtime: tokens are renewed in time and once, and a slow start is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from launcher.errors import AuthError, RemoteError, Unreachable
from launcher.targets.colab.api import ColabAPI, Runtime, Wanted
from launcher.targets.colab.runtime import Ask, Reclaimed, RuntimeLine
from tests.emulators.colab.emulator import Colab
from tests.targets.colab.hostile import Hostile, Reply, Seen

STATUS = Ask("GET", "/api/status")


class Tokens:
    """Gives a runtime one token after the other."""

    def __init__(self, url: str, lives_s: float = 3600.0) -> None:
        self.url, self.lives_s, self.given = url, lives_s, 0
        self.problem: Exception | None = None

    def __call__(self) -> Runtime | None:
        if self.problem is not None:
            raise self.problem
        self.given += 1
        now = time.time()
        ends = now + self.lives_s
        return Runtime("m-s-1", "", self.url, f"token-{self.given}", ends, renew_at=ends - self.lives_s / 10)

    def line(self, **changes: float) -> RuntimeLine:
        first = self()
        assert first is not None
        return RuntimeLine(replace(first, **changes), self)


def token_of(seen: Seen) -> str:
    return seen.headers["x-colab-runtime-proxy-token"]


def only(token: str) -> Callable[[Seen], Reply]:
    return lambda seen: Reply(200 if token_of(seen) == token else 401)


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.targets.colab.runtime.DELAYS_S", (0.01, 0.01))


def test_a_runtime_that_starts_slowly_is_waited_for(account: Colab, api: ColabAPI) -> None:
    account.faults.start_delay_s = 2.0
    runtime = api.assign(Wanted("5e7f0c0f-9c5d-5f5a-9d5e-3a2b1c0d9e8f"))
    line = RuntimeLine(runtime, lambda: api.refresh(runtime.endpoint))
    begun = time.monotonic()
    line.wait()
    assert line.once(STATUS).status == 200
    assert time.monotonic() - begun > 1
    line.close()


def test_a_runtime_that_never_starts_is_not_waited_for_for_ever(hostile: Hostile) -> None:
    hostile.answers = [Reply(503)]
    with pytest.raises(Unreachable, match="has not started to answer"):
        Tokens(hostile.url).line().wait(timeout_s=0.5)


def test_a_runtime_taken_back_while_it_starts_is_said_at_once(hostile: Hostile) -> None:
    hostile.answers = [Reply(503)]
    now = time.time() + 3600
    gone = RuntimeLine(Runtime("m-s-1", "", hostile.url, "t", now, renew_at=now), lambda: None)
    with pytest.raises(Reclaimed) as caught:
        gone.wait()
    assert "launcher resume" in caught.value.hint


def test_a_token_is_renewed_before_it_expires(hostile: Hostile) -> None:
    hostile.answers = only("token-2")
    line = Tokens(hostile.url).line(renew_at=time.time() - 1)
    assert line.once(STATUS).status == 200
    assert [token_of(seen) for seen in hostile.seen] == ["token-2"]


def test_while_a_token_is_good_a_failure_to_renew_it_is_none(hostile: Hostile) -> None:
    hostile.answers = only("token-1")
    tokens = Tokens(hostile.url)
    line = tokens.line(renew_at=time.time() - 1)
    tokens.problem = Unreachable("Colab does not answer")
    assert line.once(STATUS).status == 200
    late = Tokens(hostile.url)
    expired = late.line(renew_at=time.time() - 1, expires_at=time.time() - 1)
    late.problem = tokens.problem
    with pytest.raises(Unreachable, match="Colab does not answer"):
        expired.once(STATUS)


def test_threads_share_one_renewal(hostile: Hostile) -> None:
    hostile.answers = only("token-2")
    tokens = Tokens(hostile.url)
    line = tokens.line()
    with ThreadPoolExecutor(8) as pool:
        assert {answer.status for answer in pool.map(lambda _: line.once(STATUS), range(8))} == {200}
    assert tokens.given == 2


def test_a_forbidden_thing_is_no_expired_token(hostile: Hostile) -> None:
    hostile.answers = [Reply(403)]
    tokens = Tokens(hostile.url)
    assert tokens.line().once(STATUS).status == 403
    assert tokens.given == 2


def test_a_runtime_that_takes_no_token_is_a_matter_of_who_we_are(hostile: Hostile) -> None:
    hostile.answers = [Reply(401)]
    tokens = Tokens(hostile.url)
    with pytest.raises(AuthError) as caught:
        tokens.line().once(STATUS)
    assert "token-" not in caught.value.message
    assert tokens.given < 7


def test_a_gateway_that_stumbles_is_asked_again(hostile: Hostile) -> None:
    hostile.answers = [Reply(502), Reply(429, b"", {"Retry-After": "0"}), Reply(200)]
    assert Tokens(hostile.url).line().ask(STATUS).status == 200


def test_a_404_of_the_gateway_is_not_taken_for_a_missing_file(hostile: Hostile) -> None:
    hostile.answers = lambda seen: Reply(404 if seen.path == "/api/contents/x" else 502)
    with pytest.raises(Unreachable, match="does not answer now"):
        Tokens(hostile.url).line().once(Ask("GET", "/api/contents/x"))


def test_a_redirect_is_not_followed_with_the_token(hostile: Hostile) -> None:
    hostile.answers = [Reply(302, b"", {"Location": f"{hostile.url}/elsewhere"})]
    assert Tokens(hostile.url).line().once(STATUS).status == 302
    assert [seen.path for seen in hostile.seen] == ["/api/status"]


def test_reclaimed_is_an_error_that_means_missing() -> None:
    assert issubclass(Reclaimed, RemoteError)
    assert Reclaimed("gone").code == "missing"

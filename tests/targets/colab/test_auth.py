"""Who we are for Colab: each way in gives tokens that are good, each failure says what to type."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from launcher.config import Config
from launcher.errors import AuthError, LauncherError, RemoteError, Unreachable
from launcher.targets.colab import auth
from launcher.targets.colab.api import ColabAPI
from tests.emulators.colab.emulator import Colab
from tests.targets.colab.google_account import CLIENT, REFRESH, SECRET, GoogleAccount, written
from tests.targets.colab.hostile import Hostile, Reply

ADC = ".config/gcloud/application_default_credentials.json"
Source = Callable[..., Callable[[], str]]


@pytest.fixture
def google(hostile: Hostile) -> GoogleAccount:
    return GoogleAccount(hostile)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """Tokens as for a user whose home is tmp_path."""

    def made(options: dict[str, Any] | None = None, show: auth.Show | None = None, **environment: str) -> Any:
        return auth.token_source(config(tmp_path, **environment), options or {}, show)

    return made


def config(home: Path, **environment: str) -> Config:
    return Config({"HOME": str(home), "LAUNCHER_CONFIG": str(home / "config"), **environment})


def assert_clear(error: LauncherError, *words: str) -> None:
    text = f"{error.message} | {error.hint}"
    assert error.message.isprintable()
    assert len(error.message) < 400
    for secret in (REFRESH, SECRET, "ya29"):
        assert secret not in text
    for word in words:
        assert word in text


# a token, and files of Google's


def test_a_token_in_the_environment_comes_first(
    source: Source, tmp_path: Path, google: GoogleAccount
) -> None:
    written(tmp_path / ADC, google.user_file)
    assert source(LAUNCHER_COLAB_TOKEN=" ya29.mine\n")() == "ya29.mine"
    assert google.asked == []


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "ümlaut"])
def test_a_token_that_no_header_can_carry_is_refused(source: Source, token: str) -> None:
    with pytest.raises(AuthError) as caught:
        source(LAUNCHER_COLAB_TOKEN=token)()
    assert_clear(caught.value, "LAUNCHER_COLAB_TOKEN", "gcloud auth application-default login")
    assert token not in caught.value.message


def test_without_any_credentials_the_user_is_told_what_to_type(source: Source, tmp_path: Path) -> None:
    with pytest.raises(AuthError, match="not signed in to Colab") as caught:
        source()()
    assert_clear(caught.value, "gcloud auth application-default login --scopes=openid,", "/auth/colaboratory")
    assert not auth.has_credentials(config(tmp_path), {})


def test_gclouds_file_gives_tokens_with_the_rights_that_colab_needs(
    source: Source, tmp_path: Path, google: GoogleAccount
) -> None:
    written(tmp_path / ADC, google.user_file)
    assert auth.has_credentials(config(tmp_path), {})
    token = source()
    assert [token(), token()] == ["ya29.token-1"] * 2
    (form,) = google.asked
    assert (form["grant_type"], set(form["scope"].split())) == ("refresh_token", set(auth.SCOPES))


def test_a_token_is_renewed_before_it_expires(source: Source, tmp_path: Path, google: GoogleAccount) -> None:
    google.lives_s = 60  # Google's library takes less than four minutes for too little
    written(tmp_path / ADC, google.user_file)
    token = source()
    assert [token(), token()] == ["ya29.token-1", "ya29.token-2"]


def test_threads_share_one_renewal(source: Source, tmp_path: Path, google: GoogleAccount) -> None:
    written(tmp_path / ADC, google.user_file)
    token = source()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: token(), range(8))) == {"ya29.token-1"}
    assert len(google.asked) == 1


@pytest.mark.parametrize("named_by", ["GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG"])
def test_a_file_elsewhere_is_found_as_googles_programs_find_it(
    source: Source, tmp_path: Path, google: GoogleAccount, named_by: str
) -> None:
    path = written(tmp_path / "elsewhere" / "application_default_credentials.json", google.user_file)
    named = path.parent if named_by == "CLOUDSDK_CONFIG" else path
    assert source(**{named_by: str(named)})() == "ya29.token-1"


def test_a_service_accounts_key_gives_tokens_too(
    source: Source, tmp_path: Path, google: GoogleAccount
) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kind = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    account = {
        "type": "service_account",
        "client_email": "robot@project.iam.gserviceaccount.com",
        "private_key_id": "1",
        "private_key": key.private_bytes(*kind).decode(),
        "token_uri": f"{google.server.url}/token",
    }
    path = written(tmp_path / "key.json", account)
    assert source(GOOGLE_APPLICATION_CREDENTIALS=str(path))() == "ya29.token-1"
    assert google.asked[0]["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"


def test_colab_is_asked_with_the_token_of_the_file(
    account: Colab, source: Source, tmp_path: Path, google: GoogleAccount
) -> None:
    written(tmp_path / ADC, google.user_file)
    with pytest.raises(AuthError, match="does not accept your sign-in"):
        ColabAPI(
            account.url, source()
        ).assignments()  # it is Google's token, and the emulator has another one
    assert google.given == ["ya29.token-1"]


@pytest.mark.parametrize(
    ("error", "words"),
    [("invalid_grant", ("does not accept", "gcloud auth")), ("invalid_scope", ("gcloud auth", "--scopes="))],
)
def test_a_sign_in_that_google_takes_no_more_says_how_to_renew_it(
    source: Source, tmp_path: Path, google: GoogleAccount, error: str, words: tuple[str, ...]
) -> None:
    written(tmp_path / ADC, google.user_file)
    google.refused = error
    with pytest.raises(AuthError) as caught:
        source()()
    assert_clear(caught.value, *words)


BROKEN: dict[str, Any] = {
    "empty": "",
    "not JSON": "{",
    "a list": [],
    "no type": {},
    "another type": {"type": "something"},
    "half a user": {"type": "authorized_user", "client_id": "x"},
    "a key that is none": {
        "type": "service_account",
        "client_email": "robot@example.com",
        "private_key": "not a key",
        "token_uri": "https://example.com/token",
    },
    "plain http": {
        "type": "authorized_user",
        "client_id": CLIENT,
        "client_secret": SECRET,
        "refresh_token": REFRESH,
        "token_uri": "http://example.com/token",
    },
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_no_credential_is_one_clear_line(source: Source, tmp_path: Path, content: Any) -> None:
    path = written(tmp_path / "adc.json", content)
    with pytest.raises(AuthError) as caught:
        source(GOOGLE_APPLICATION_CREDENTIALS=str(path))()
    assert_clear(caught.value, str(path))


def test_a_named_file_that_is_not_there_is_said(source: Source, tmp_path: Path) -> None:
    with pytest.raises(AuthError, match="which is not there"):
        source(GOOGLE_APPLICATION_CREDENTIALS=str(tmp_path / "none.json"))()


TOKEN_SERVERS: dict[str, Reply] = {
    "a page": Reply(200, b"<!doctype html><title>Sign in</title>" * 100),
    "a list": Reply(200, b"[]"),
    "no token": Reply(200, b'{"expires_in": 5}'),
    "a token that is none": Reply(200, b'{"access_token": 5, "expires_in": "soon"}'),
    "nested": Reply(200, b"[" * 100_000),
    "an error page": Reply(400, b"<html>\x1b[2J" * 1000),
    "a redirect": Reply(302, b"", {"Location": "https://example.com"}),
}


@pytest.mark.parametrize("reply", TOKEN_SERVERS.values(), ids=TOKEN_SERVERS)
def test_a_token_server_that_talks_nonsense_is_one_clear_line(
    source: Source, tmp_path: Path, google: GoogleAccount, reply: Reply
) -> None:
    written(tmp_path / ADC, google.user_file)
    google.server.answers = [reply]
    with pytest.raises((AuthError, Unreachable, RemoteError)) as caught:
        source()()
    assert_clear(caught.value)


def test_a_token_server_that_cannot_be_reached_is_not_a_refusal(
    source: Source, tmp_path: Path, google: GoogleAccount
) -> None:
    written(tmp_path / ADC, google.user_file)
    google.server.stop()
    with pytest.raises(Unreachable) as caught:
        source()()
    assert_clear(caught.value, "Google's sign-in does not answer")


# signing in with the browser


class Browser:
    """What a user does with the address that is shown."""

    def __init__(self, visits: Callable[[str], object] | None = None) -> None:
        self.shown: list[str] = []
        self._visits = visits or (lambda url: requests.get(url, timeout=30))

    def __call__(self, url: str) -> None:
        self.shown.append(url)
        threading.Thread(target=self._visits, args=(url,), daemon=True).start()


@pytest.fixture
def client(tmp_path: Path, google: GoogleAccount, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The target's options; the library for OAuth refuses plain http unless told that this is a test."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    written(tmp_path / "Downloads" / "client.json", google.client_file)
    return {"client": "~/Downloads/client.json"}


def test_signing_in_once_lasts(
    source: Source, client: dict[str, str], tmp_path: Path, google: GoogleAccount
) -> None:
    browser = Browser()
    assert source(client, browser)() == "ya29.token-1"
    (kept,) = (tmp_path / "config").glob("colab-*.json")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert SECRET not in kept.read_text()
    assert source(client, browser)() == "ya29.token-2"
    assert len(browser.shown) == 1
    assert [form["grant_type"] for form in google.asked] == ["authorization_code", "refresh_token"]
    assert google.asked[0]["redirect_uri"].startswith("http://127.0.0.1:")


def test_a_sign_in_that_was_revoked_is_made_again(
    source: Source, client: dict[str, str], tmp_path: Path, google: GoogleAccount
) -> None:
    browser = Browser()
    source(client, browser)()
    (kept,) = (tmp_path / "config").glob("colab-*.json")
    kept.write_text(json.dumps({"v": 1, "refresh_token": "revoked"}))
    assert source(client, browser)() == "ya29.token-2"
    assert REFRESH in kept.read_text()
    kept.write_text("{broken")
    assert source(client, browser)() == "ya29.token-3"
    assert len(browser.shown) == 3


def test_visitors_who_are_not_sent_by_google_are_none_of_ours(
    source: Source, client: dict[str, str], google: GoogleAccount
) -> None:
    statuses: list[int] = []

    def visit(url: str) -> None:
        desk = requests.utils.unquote(url.split("redirect_uri=")[1].split("&")[0])
        for path in ("", "favicon.ico", "?code=stolen&state=guessed", "?state="):
            statuses.append(requests.get(desk + path, timeout=30).status_code)
        requests.get(url, timeout=30)

    assert source(client, Browser(visit))() == "ya29.token-1"
    assert statuses == [404] * 4


def test_a_user_who_declines_is_told_that_nobody_signed_in(
    source: Source, client: dict[str, str], google: GoogleAccount
) -> None:
    google.consents = False
    with pytest.raises(AuthError) as caught:
        source(client, Browser())()
    assert_clear(caught.value, "access_denied")


def test_a_user_who_unticks_a_box_is_told_to_leave_it(
    source: Source, client: dict[str, str], google: GoogleAccount
) -> None:
    google.scopes = "openid"
    with pytest.raises(AuthError) as caught:
        source(client, Browser())()
    assert_clear(caught.value, "leave every box ticked")


@pytest.mark.parametrize("reply", TOKEN_SERVERS.values(), ids=TOKEN_SERVERS)
def test_a_sign_in_that_ends_in_nonsense_is_one_clear_line(
    source: Source, client: dict[str, str], google: GoogleAccount, reply: Reply
) -> None:
    consent = google.server.answers
    assert callable(consent)
    google.server.answers = lambda seen: consent(seen) if seen.path.startswith("/consent") else reply
    with pytest.raises((AuthError, Unreachable)) as caught:
        source(client, Browser())()
    assert_clear(caught.value)


def test_a_sign_in_that_does_not_last_is_refused(
    source: Source, client: dict[str, str], google: GoogleAccount
) -> None:
    google.refreshes = False
    with pytest.raises(AuthError, match="no lasting sign-in"):
        source(client, Browser())()


def test_a_user_who_never_comes_is_not_waited_for_for_ever(
    source: Source, client: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.targets.colab.signin.WAIT_S", 0.1)
    with pytest.raises(AuthError, match="nobody signed in"):
        source(client, lambda url: None)()


def test_without_the_packages_for_colab_the_user_is_told_which_to_install(tmp_path: Path) -> None:
    code = (
        "import sys\nfor name in ('google', 'google_auth_oauthlib', 'websocket'):\n    sys.modules[name] = None\n"
        "from launcher.config import Config\nfrom launcher.errors import Refused\n"
        "from launcher.targets.colab import auth, kernel\n"
        "try:\n    auth.token_source(Config({'LAUNCHER_COLAB_TOKEN': 'x'}), {})\n"
        "except Refused as error:\n    print(error.message, '|', error.hint)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stdout.startswith("Colab needs packages that are not installed")
    assert "pip install 'gpu-launcher[colab]'" in said.stdout


def test_without_a_terminal_nobody_is_asked(client: dict[str, str], tmp_path: Path) -> None:
    code = (
        "from launcher.config import Config\nfrom launcher.errors import AuthError\n"
        "from launcher.targets.colab.auth import token_source\n"
        f"try:\n    token_source(Config(), {client!r})()\n"
        "except AuthError as error:\n    print(error.message, '|', error.hint)"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "LAUNCHER_CONFIG": str(tmp_path / "config")}
    environment.pop("LAUNCHER_COLAB_TOKEN", None)
    said = subprocess.run(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=True,
    )
    assert said.stdout.startswith("not signed in to Colab, and there is no terminal to ask at")
    assert "launcher check colab" in said.stdout


CLIENTS: dict[str, Any] = {
    "of a web app": {"web": {"client_id": "x", "client_secret": "y", "auth_uri": "a", "token_uri": "b"}},
    "without a secret": {"installed": {"client_id": "x"}},
    "not JSON": "client",
    "plain http": {
        "installed": {
            "client_id": "x",
            "client_secret": "y",
            "auth_uri": "http://example.com",
            "token_uri": "https://example.com",
        }
    },
}


@pytest.mark.parametrize("content", CLIENTS.values(), ids=CLIENTS)
def test_a_client_file_that_is_none_is_one_clear_line(source: Source, tmp_path: Path, content: Any) -> None:
    path = written(tmp_path / "config" / "client.json", content)
    with pytest.raises(AuthError) as caught:
        source({"client": "client.json"}, Browser())()
    assert_clear(caught.value, str(path))


def test_a_client_file_that_is_not_there_is_said(source: Source) -> None:
    with pytest.raises(AuthError, match="No such file"):
        source({"client": "/nowhere/client.json"}, Browser())()

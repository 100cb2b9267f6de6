"""Who we are for Kaggle: credentials in the official order, renewed where they can be, never shown."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from launcher.config import Config
from launcher.errors import AuthError, Unreachable
from launcher.targets.kaggle.api import KaggleAPI, credentials
from launcher.targets.kaggle.wire import Patience
from tests.emulators.kaggle.emulator import Kaggle
from tests.emulators.kaggle.settings import Answer


@pytest.fixture(scope="module")
def shared() -> Iterator[Kaggle]:
    with Kaggle() as running:
        for name in ("bob", "carol", "dave"):
            running.account(name)
        yield running


@pytest.fixture
def kaggle(shared: Kaggle) -> Kaggle:
    """The shared one, as new: alice's tokens are good, nothing is broken."""
    shared.faults.answers.clear()
    shared.faults.legacy_refused = False
    shared.asked.clear()
    shared.token = shared.alice.token()
    return shared


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".kaggle").mkdir()
    return tmp_path


def api(kaggle: Kaggle, home: Path, **variables: str) -> KaggleAPI:
    config = Config({"HOME": str(home), **variables})
    return KaggleAPI(kaggle.url, credentials(config), Patience(first_wait_s=0.01))


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def key_file(kaggle: Kaggle, name: str) -> str:
    return json.dumps({"username": name, "key": kaggle.accounts.by_name[name].key})


def sign_in(kaggle: Kaggle, home: Path, access: str = "KGAT_old", hours: float = -1.0) -> Path:
    """What `kaggle auth login` leaves for dave."""
    until = (datetime.now(UTC) + timedelta(hours=hours)).isoformat()
    kept = {"refresh_token": kaggle.accounts.by_name["dave"].refresh_token, "access_token": access}
    path = home / ".kaggle/credentials.json"
    write(path, json.dumps({**kept, "access_token_expiration": until, "username": "dave", "scopes": ["a"]}))
    return path


def calls(kaggle: Kaggle) -> list[str]:
    return [call for call, _ in kaggle.asked]


def test_a_token_wins_over_a_key_and_a_key_over_a_sign_in(kaggle: Kaggle, home: Path) -> None:
    sign_in(kaggle, home)
    assert api(kaggle, home).user() == "dave"
    write(home / ".kaggle/kaggle.json", key_file(kaggle, "carol"))
    assert api(kaggle, home).user() == "carol"
    write(home / ".kaggle/access_token", kaggle.accounts.by_name["bob"].token() + "\n")
    assert api(kaggle, home).user() == "bob"
    assert api(kaggle, home, KAGGLE_API_TOKEN=kaggle.token).user() == "alice"


def test_the_token_may_be_in_a_file_that_the_variable_names(kaggle: Kaggle, home: Path) -> None:
    path = write(home / "token", f" {kaggle.token}\n")
    one = api(kaggle, home, KAGGLE_API_TOKEN=path)
    assert (one.user(), one.source()) == ("alice", path)


def test_the_token_file_of_a_windows_user_is_found(kaggle: Kaggle, home: Path) -> None:
    write(home / ".kaggle/access_token.txt", kaggle.token)
    assert api(kaggle, home).user() == "alice"


def test_in_a_notebook_of_kaggles_its_own_token_comes_first(kaggle: Kaggle, home: Path) -> None:
    inside = {"KAGGLE_KERNEL_RUN_TYPE": "Batch", "KAGGLE_DATA_PROXY_URL": "https://dp.kaggle.net"}
    path = write(home / "own", kaggle.accounts.by_name["bob"].token())
    here = {"KAGGLE_API_TOKEN": kaggle.token, "KAGGLE_API_V1_TOKEN": path}
    assert api(kaggle, home, **here).user() == "alice"
    assert api(kaggle, home, **here, **inside).user() == "bob"


def test_a_key_is_looked_for_where_the_official_client_looks(kaggle: Kaggle, tmp_path: Path) -> None:
    write(tmp_path / ".config/kaggle/kaggle.json", key_file(kaggle, "bob"))
    assert api(kaggle, tmp_path).user() == "bob"
    write(tmp_path / "xdg/kaggle/kaggle.json", key_file(kaggle, "carol"))
    assert api(kaggle, tmp_path, XDG_CONFIG_HOME=str(tmp_path / "xdg")).user() == "carol"
    write(tmp_path / ".kaggle/kaggle.json", key_file(kaggle, "dave"))
    assert api(kaggle, tmp_path, XDG_CONFIG_HOME=str(tmp_path / "xdg")).user() == "dave"
    write(tmp_path / "chosen/kaggle.json", key_file(kaggle, "alice"))
    assert api(kaggle, tmp_path, KAGGLE_CONFIG_DIR=str(tmp_path / "chosen")).user() == "alice"


def test_each_variable_wins_over_the_key_file(kaggle: Kaggle, home: Path) -> None:
    write(home / ".kaggle/kaggle.json", json.dumps({"username": "bob", "key": "wrong"}))
    bob = kaggle.accounts.by_name["bob"]
    assert api(kaggle, home, KAGGLE_KEY=bob.key).quota()
    both = {"KAGGLE_USERNAME": "alice", "KAGGLE_KEY": kaggle.alice.key}
    assert api(kaggle, home, **both).user() == "alice"


def test_a_token_that_has_expired_is_passed_over_and_named(kaggle: Kaggle, home: Path) -> None:
    write(home / ".kaggle/kaggle.json", key_file(kaggle, "bob"))
    one = api(kaggle, home, KAGGLE_API_TOKEN="KGAT_gone")
    assert one.user() == "bob"
    assert one.ignored() == ["the token in KAGGLE_API_TOKEN has expired or was revoked"]


def test_nothing_found_says_what_to_click_and_asks_nobody(home: Path) -> None:
    with pytest.raises(AuthError) as caught:
        credentials(Config({"HOME": str(home)}))
    assert caught.value.message == "no Kaggle credentials on this machine"
    assert "https://www.kaggle.com/settings" in caught.value.hint


def test_when_all_have_expired_each_is_named(kaggle: Kaggle, home: Path) -> None:
    path = sign_in(kaggle, home)
    path.write_text(path.read_text().replace(kaggle.accounts.by_name["dave"].refresh_token, "KGRT_gone"))
    with pytest.raises(AuthError) as caught:
        api(kaggle, home, KAGGLE_API_TOKEN="KGAT_gone").user()
    assert "the token in KAGGLE_API_TOKEN has expired" in caught.value.message
    assert f"the sign-in in {path} has ended" in caught.value.message
    assert "KGRT_gone" not in caught.value.message


def test_a_token_that_expires_in_between_is_said_in_one_line(kaggle: Kaggle, home: Path) -> None:
    one = api(kaggle, home, KAGGLE_API_TOKEN=kaggle.token)
    assert one.quota()
    kaggle.alice.expire()
    with pytest.raises(AuthError, match="no longer accepts the token in KAGGLE_API_TOKEN") as caught:
        one.quota()
    assert kaggle.token not in caught.value.message


def test_an_expired_sign_in_is_renewed_and_kept_as_the_official_client_keeps_it(
    kaggle: Kaggle, home: Path
) -> None:
    path = sign_in(kaggle, home)
    before = json.loads(path.read_text())
    assert api(kaggle, home).quota()
    after = json.loads(path.read_text())
    assert kaggle.accounts.of_token(after["access_token"]) is kaggle.accounts.by_name["dave"]
    assert datetime.fromisoformat(after["access_token_expiration"]) > datetime.now(UTC) + timedelta(hours=11)
    assert {**after, "access_token": 0, "access_token_expiration": 0} == {
        **before,
        "access_token": 0,
        "access_token_expiration": 0,
    }
    assert path.stat().st_mode & 0o777 == 0o600
    assert api(kaggle, home).quota()
    assert calls(kaggle).count("GenerateAccessToken") == 1


def test_a_sign_in_whose_token_was_revoked_early_is_renewed_in_the_middle(kaggle: Kaggle, home: Path) -> None:
    dave = kaggle.accounts.by_name["dave"]
    one = api(kaggle, sign_in(kaggle, home, dave.token(), hours=11).parents[1])
    assert one.quota()
    dave.expire()
    assert one.quota()
    assert calls(kaggle).count("GenerateAccessToken") == 1


def test_a_sign_in_that_has_ended_in_the_middle_is_said_in_one_line(kaggle: Kaggle, home: Path) -> None:
    dave = kaggle.accounts.by_name["dave"]
    path = sign_in(kaggle, home, dave.token(), hours=11)
    one = api(kaggle, home)
    assert one.quota()
    dave.expire()
    dave.refresh_token = "KGRT_other"
    with pytest.raises(AuthError, match="refuses the sign-in") as caught:
        one.quota()
    assert str(path) in caught.value.message
    assert "kaggle auth login" in caught.value.hint


def test_a_home_that_cannot_be_written_does_not_stop_a_renewal(kaggle: Kaggle, home: Path) -> None:
    path = sign_in(kaggle, home)
    taken = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    taken.mkdir()
    before = path.read_text()
    assert api(kaggle, home).quota()
    assert path.read_text() == before


def test_a_refused_legacy_key_says_to_make_a_token(kaggle: Kaggle, home: Path) -> None:
    path = write(home / ".kaggle/kaggle.json", key_file(kaggle, "bob"))
    kaggle.faults.legacy_refused = True
    with pytest.raises(AuthError, match="refuses the legacy key") as caught:
        api(kaggle, home).quota()
    assert path in caught.value.message
    assert "new token" in caught.value.hint


def test_two_that_ask_at_once_find_out_once_who_we_are(kaggle: Kaggle, home: Path) -> None:
    sign_in(kaggle, home)
    one = api(kaggle, home, KAGGLE_API_TOKEN="KGAT_gone")
    with ThreadPoolExecutor(4) as several:
        assert set(several.map(lambda _: one.user(), range(4))) == {"dave"}
    assert calls(kaggle) == ["IntrospectToken", "GenerateAccessToken"]
    assert len(one.ignored()) == 1


def test_a_kaggle_that_is_down_is_not_taken_for_a_refusal(kaggle: Kaggle, home: Path) -> None:
    write(home / ".kaggle/kaggle.json", key_file(kaggle, "bob"))
    kaggle.faults.answers.append(Answer("IntrospectToken", status=503, times=99))
    with pytest.raises(Unreachable):
        api(kaggle, home, KAGGLE_API_TOKEN=kaggle.token).user()


BROKEN = {
    "not JSON": ("kaggle.json", b"{"),
    "another JSON": ("kaggle.json", b"[1]"),
    "deep JSON": ("kaggle.json", b"[" * 60_000),
    "no text": ("access_token", b"\xff\x00\xfe"),
    "two lines": ("access_token", b"KGAT_a\nX-Header: b"),
    "huge": ("access_token", b"a" * 70_000),
    "a bad name": ("kaggle.json", b'{"username": "al/ice", "key": "k"}'),
    "a sign-in of nonsense": ("credentials.json", b'"' + b"x" * 100 + b'"'),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_one_line_and_the_next_one_is_used(kaggle: Kaggle, home: Path, kind: str) -> None:
    name, data = BROKEN[kind]
    path = home / ".kaggle" / name
    path.write_bytes(data)
    with pytest.raises(AuthError) as caught:
        credentials(Config({"HOME": str(home)}))
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
    one = api(kaggle, home, KAGGLE_USERNAME="alice", KAGGLE_KEY=kaggle.alice.key)
    assert one.user() == "alice"


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_file_is_not_waited_for(home: Path, kind: str) -> None:
    path = home / ".kaggle/access_token"
    {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "device": lambda: path.symlink_to("/dev/zero")}[
        kind
    ]()
    with pytest.raises(AuthError, match="is no file"):
        credentials(Config({"HOME": str(home)}))


def test_a_netrc_of_the_users_does_not_replace_who_we_are(
    kaggle: Kaggle, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(home / "netrc", "machine 127.0.0.1 login eve password secret\n")
    os.chmod(path, 0o600)
    monkeypatch.setenv("NETRC", path)
    assert api(kaggle, home, KAGGLE_API_TOKEN=kaggle.token).quota()


def test_no_secret_is_in_what_credentials_show_of_themselves(kaggle: Kaggle, home: Path) -> None:
    sign_in(kaggle, home, "KGAT_access")
    both = {"KAGGLE_USERNAME": "alice", "KAGGLE_KEY": "key-of-alice", "KAGGLE_API_TOKEN": "KGAT_token"}
    shown = repr(credentials(Config({"HOME": str(home), **both})))
    refresh = kaggle.accounts.by_name["dave"].refresh_token
    assert not any(secret in shown for secret in ("KGAT_access", "key-of-alice", "KGAT_token", refresh))

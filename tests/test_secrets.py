"""Where secret values come from, and that they are never shown or stored by us."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backend
import pytest

from launcher import secrets
from launcher.config import Config
from launcher.errors import LauncherError, Refused, SpecError

VALUE = "hunter2hunter2"


class Vault(keyring.backend.KeyringBackend):
    """A keyring that encrypts as well as any: in memory."""

    priority = 5.0  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


class Weak(Vault):
    priority = 0.5  # type: ignore[assignment]


class PlainText(Vault):
    __module__ = "keyrings.alt.file"


class Chain(Vault):
    """What keyring itself gives when there are several: it tries them in turn."""

    priority = 10.0  # type: ignore[assignment]

    def __init__(self, *backends: Vault) -> None:
        super().__init__()
        self.backends = backends


@pytest.fixture
def vault() -> Iterator[Vault]:
    before = keyring.get_keyring()
    vault = Vault()
    keyring.set_keyring(vault)
    yield vault
    keyring.set_keyring(before)


def config_in(folder: Path, **environment: str) -> Config:
    return Config({"LAUNCHER_CONFIG": str(folder), **environment})


def test_the_environment_comes_first(tmp_path: Path, vault: Vault) -> None:
    secrets.set_value(config_in(tmp_path), "HF_TOKEN", "kept")
    assert secrets.gather(config_in(tmp_path, HF_TOKEN=VALUE), ["HF_TOKEN"])["HF_TOKEN"] == VALUE
    assert secrets.gather(config_in(tmp_path), ["HF_TOKEN"])["HF_TOKEN"] == "kept"


def test_the_values_lie_in_the_keyring_alone(tmp_path: Path, vault: Vault) -> None:
    secrets.set_value(config_in(tmp_path), "HF_TOKEN", VALUE)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert all(VALUE not in path.read_text() for path in files)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert secrets.listed(config_in(tmp_path)) == {"HF_TOKEN": "keyring"}


def test_a_removed_secret_is_gone_everywhere(tmp_path: Path, vault: Vault) -> None:
    secrets.set_value(config_in(tmp_path), "HF_TOKEN", VALUE)
    secrets.remove(config_in(tmp_path), "HF_TOKEN")
    assert (vault.kept, secrets.listed(config_in(tmp_path))) == ({}, {})
    with pytest.raises(SpecError, match="no secret"):
        secrets.remove(config_in(tmp_path), "HF_TOKEN")


@pytest.mark.parametrize("backend", [Weak(), PlainText(), Chain(PlainText(), Weak())])
def test_a_keyring_that_does_not_encrypt_counts_as_none(tmp_path: Path, vault: Vault, backend: Vault) -> None:
    keyring.set_keyring(backend)
    with pytest.raises(LauncherError, match="no keyring") as e:
        secrets.set_value(config_in(tmp_path), "HF_TOKEN", VALUE)
    assert e.value.exit_code == 125
    assert "export HF_TOKEN=" in e.value.hint
    assert "--command" in e.value.hint
    assert backend.kept == {}
    assert VALUE not in e.value.message + e.value.hint


def test_in_a_chain_only_the_link_that_encrypts_is_used(tmp_path: Path, vault: Vault) -> None:
    plain = PlainText()
    keyring.set_keyring(Chain(plain, vault))
    secrets.set_value(config_in(tmp_path), "HF_TOKEN", VALUE)
    assert (plain.kept, list(vault.kept.values())) == ({}, [VALUE])
    assert secrets.gather(config_in(tmp_path), ["HF_TOKEN"])["HF_TOKEN"] == VALUE


def test_a_command_is_stored_and_asked_each_time(tmp_path: Path) -> None:
    (tmp_path / "value").write_text("first\n")
    secrets.set_command(config_in(tmp_path), "HF_TOKEN", f"cat {tmp_path}/value")
    assert secrets.gather(config_in(tmp_path), ["HF_TOKEN"])["HF_TOKEN"] == "first"
    (tmp_path / "value").write_text(" second line\nof two \r\n")
    assert secrets.gather(config_in(tmp_path), ["HF_TOKEN"])["HF_TOKEN"] == " second line\nof two "
    assert secrets.listed(config_in(tmp_path)) == {"HF_TOKEN": f"command: cat {tmp_path}/value"}


@pytest.mark.parametrize(
    ("command", "said"),
    [("exit 3", "ended with 3"), ("true", "printed nothing"), (r"printf '\377'", "not print text")],
)
def test_a_command_without_a_value_is_refused(tmp_path: Path, command: str, said: str) -> None:
    secrets.set_command(config_in(tmp_path), "HF_TOKEN", command)
    with pytest.raises(Refused, match=said):
        secrets.gather(config_in(tmp_path), ["HF_TOKEN"])


def test_a_missing_secret_is_refused_with_the_three_ways(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="HF_TOKEN, WANDB_API_KEY") as e:
        secrets.gather(
            config_in(tmp_path, WANDB_API_KEY="", OTHER="x"), ["HF_TOKEN", "OTHER", "WANDB_API_KEY"]
        )
    assert e.value.exit_code == 126
    for way in ("export HF_TOKEN=", "launcher secret set HF_TOKEN", "--command 'pass show"):
        assert way in e.value.hint


@pytest.mark.parametrize("name", ["", "a b", "A=B", "1A", "A\n", "ä", "A" * 129])
def test_a_name_that_no_variable_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError, match="name"):
        secrets.set_command(config_in(tmp_path), name, "true")


def test_secrets_do_not_show_themselves(tmp_path: Path) -> None:
    found = secrets.gather(config_in(tmp_path, HF_TOKEN=VALUE), ["HF_TOKEN"])
    assert (repr(found), str(found), f"{found}") == ("Secrets(HF_TOKEN=***)",) * 3
    assert dict(found) == {"HF_TOKEN": VALUE}


def test_settings_that_make_no_sense_are_named(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("[1]")
    (tmp_path / "secrets.json").chmod(0o600)
    with pytest.raises(LauncherError, match=r"secrets\.json is not readable"):
        secrets.listed(config_in(tmp_path))

"""Settings: the two folders, the targets and how they are named, and what the environment may say."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.config import Config, TargetConfig
from launcher.errors import LauncherError, SpecError

FINGERPRINT = "SHA256:" + "a" * 43


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config({"LAUNCHER_CONFIG": str(tmp_path), "HOME": "/home/ada"})


def write(config: Config, text: str) -> None:
    (config.config_dir / "targets.yaml").write_text(text)


def test_folders_come_from_the_environment() -> None:
    config = Config({"LAUNCHER_HOME": "~/state", "LAUNCHER_CONFIG": "/etc/../tmp/c", "HOME": "/home/ada"})
    assert (config.home, config.config_dir) == (Path("/home/ada/state"), Path("/tmp/c"))


def test_without_a_word_the_platform_decides() -> None:
    assert Config({}).home.name == Config({}).config_dir.name == "launcher"


def test_no_file_is_no_targets(config: Config) -> None:
    assert config.targets() == {}
    write(config, "# nothing yet\n\n")
    assert config.targets() == {}


def test_targets_are_read_in_their_order(config: Config) -> None:
    write(
        config,
        f"box: {{type: ssh, host: gpu.example, port: 2222, host_key: {FINGERPRINT}}}\nhere: {{type: local}}",
    )
    assert list(config.targets()) == ["box", "here"]
    options = {"host": "gpu.example", "port": 2222, "host_key": FINGERPRINT}
    assert config.resolve_target("box") == TargetConfig("box", "ssh", options)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("box: {type: shh, host: h}", "no type 'shh'; did you mean 'ssh'"),
        ("box: {type: ssh, hots: h}", "no 'hots'; did you mean 'host'"),
        ("box: {type: ssh}", "needs a host"),
        ("box: {host: h}", "needs a type"),
        ("box: h", "needs a type"),
        ("Box: {type: local}", "is no name"),
        ("box: {type: ssh, host: h, port: 70000}", "not a port"),
        ("box: {type: ssh, host: h, port: '22'}", "not a port"),
        ("box: {type: ssh, host: h, docker: no}", "none of auto, always, never"),
        ("box: {type: ssh, host: -oProxyCommand=x}", "not a host"),
        ("box: {type: ssh, host: h, host_key: abc}", "not a fingerprint"),
        ("box: {type: local}\nbox: {type: local}", "duplicate key"),
        ("box: &a {type: local}", "anchor"),
        ("- box", "targets are"),
        ("box: {type: ssh, host: [h]}", "not a text"),
    ],
)
def test_a_mistake_is_named_with_its_line(config: Config, text: str, said: str) -> None:
    write(config, text)
    with pytest.raises(SpecError, match=r"targets\.yaml:\d+: ") as e:
        config.targets()
    assert said in e.value.message


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("ssh://ada@gpu.example.org:2222", {"host": "gpu.example.org", "user": "ada", "port": 2222}),
        ("ssh://gpu.example.org", {"host": "gpu.example.org"}),
        ("ssh://ada@[::1]:22", {"host": "::1", "user": "ada", "port": 22}),
    ],
)
def test_an_address_is_a_target(config: Config, text: str, options: dict[str, Any]) -> None:
    assert config.resolve_target(text) == TargetConfig(text, "ssh", options)


@pytest.mark.parametrize(
    "text",
    [
        "ssh://",
        "ssh://h:x",
        "ssh://h:0x16",
        "ssh://h/path",
        "ssh://a:b@h",
        "ssh://-oX=1@h",
        "ssh://a@-h",
        "ssh://a%20b@h",
    ],
)
def test_an_address_that_is_none_is_refused(config: Config, text: str) -> None:
    with pytest.raises(SpecError):
        config.resolve_target(text)


@pytest.mark.parametrize("text", ["local", "verda", "kaggle", "colab"])
def test_short_forms_need_no_file(config: Config, text: str) -> None:
    assert config.resolve_target(text) == TargetConfig(text, text, {})


def test_a_named_target_may_be_called_like_a_short_form(config: Config) -> None:
    write(config, "local: {type: local, docker: never}")
    assert config.resolve_target("local").options == {"docker": "never"}


@pytest.mark.parametrize(
    ("text", "hint"), [("bxo", "did you mean box"), ("ada@h", "ssh://ada@h"), ("zzz", "known: box, local")]
)
def test_an_unknown_target_gets_a_hint(config: Config, text: str, hint: str) -> None:
    write(config, "box: {type: local}")
    with pytest.raises(SpecError) as e:
        config.resolve_target(text)
    assert hint in e.value.hint


def test_adding_keeps_comments_and_closes_the_file(config: Config) -> None:
    write(config, "# mine\nbox: {type: local}  # here\n\n# last")
    entry = {
        "type": "ssh",
        "host": "10.0.0.7",
        "user": "no",
        "port": None,
        "host_key": FINGERPRINT,
        "key": "~/a b",
    }
    added = config.add_target("gpu", entry)
    text = (config.config_dir / "targets.yaml").read_text()
    assert text.startswith("# mine\nbox: {type: local}  # here\n\n# last\ngpu:\n  type: ssh\n")
    assert config.targets()["gpu"] == added
    assert dict(added.options) == {k: v for k, v in entry.items() if v is not None and k != "type"}
    assert stat.S_IMODE((config.config_dir / "targets.yaml").stat().st_mode) == 0o600


def test_removing_keeps_what_is_said_about_the_others(config: Config) -> None:
    write(config, "# a\na: {type: local}\n# b\nb:\n  type: ssh\n  # why\n  host: h\n# c\nc: {type: local}\n")
    config.remove_target("b")
    assert (
        config.config_dir / "targets.yaml"
    ).read_text() == "# a\na: {type: local}\n# b\n# c\nc: {type: local}\n"
    for name in ("a", "c"):
        config.remove_target(name)
    assert config.targets() == {}


def test_a_file_in_braces_is_written_anew(config: Config) -> None:
    write(config, "{a: {type: local}, b: {type: ssh, host: '1'}}")
    config.add_target("c", {"type": "colab"})
    config.remove_target("a")
    assert {name: dict(t.options) for name, t in config.targets().items()} == {"b": {"host": "1"}, "c": {}}


def test_a_name_is_added_once_unless_replaced(config: Config) -> None:
    config.add_target("a", {"type": "local"})
    with pytest.raises(SpecError, match="already"):
        config.add_target("a", {"type": "colab"})
    assert config.add_target("a", {"type": "colab"}, replace=True).type == "colab"


def test_a_wrong_entry_changes_nothing(config: Config) -> None:
    write(config, "a: {type: local}\n")
    for name, entry in {"B": {"type": "local"}, "b": {"type": "x"}, "c": {"host": "h"}}.items():
        with pytest.raises(SpecError):
            config.add_target(name, entry)
    assert (config.config_dir / "targets.yaml").read_text() == "a: {type: local}\n"


def test_removing_an_unknown_target_gets_a_hint(config: Config) -> None:
    config.add_target("box", {"type": "local"})
    with pytest.raises(SpecError) as e:
        config.remove_target("bxo")
    assert "did you mean box" in e.value.hint


def test_a_linked_file_is_edited_where_it_lies(config: Config, tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    (tmp_path / "targets.yaml").symlink_to("dotfiles/t.yaml")
    config.add_target("a", {"type": "local"})
    assert (tmp_path / "targets.yaml").is_symlink()
    assert "a:" in (tmp_path / "dotfiles/t.yaml").read_text()


def test_settings_that_others_can_write_are_refused(config: Config) -> None:
    write(config, "a: {type: local}\n")
    (config.config_dir / "targets.yaml").chmod(0o666)
    with pytest.raises(LauncherError, match="by others"):
        config.targets()


def test_plain_http_only_to_this_machine() -> None:
    for url in ("http://127.0.0.1:8000/", "http://localhost:1", "http://[::1]:1", "https://kaggle.example"):
        assert Config({"LAUNCHER_KAGGLE_URL": url}).base_url("LAUNCHER_KAGGLE_URL", "x") == url.rstrip("/")
    for url in (
        "http://example.org",
        "http://127.0.0.1.example.org",
        "ftp://localhost",
        "localhost:80",
        "https://",
    ):
        with pytest.raises(SpecError):
            Config({"LAUNCHER_KAGGLE_URL": url}).base_url("LAUNCHER_KAGGLE_URL", "x")
    assert Config({}).base_url("VERDA_BASE_URL", "https://api.verda.com/v1") == "https://api.verda.com/v1"


def test_empty_variables_count_as_unset() -> None:
    config = Config({"NO_COLOR": "", "SSH_AUTH_SOCK": "", "UV_INDEX": "https://x", "A": "b"})
    assert (config.no_color, config.ssh_agent, config.uv_environment()) == (
        False,
        None,
        {"UV_INDEX": "https://x"},
    )
    assert config.child_environment(C="d")["C"] == "d"


def test_importing_the_settings_is_cheap() -> None:
    program = "import sys, launcher.config, launcher.ledger; print([m for m in sys.modules if m in %r])"
    heavy = ["yaml", "platformdirs", "difflib", "asyncio", "keyring", "paramiko", "docker"]
    done = subprocess.run([sys.executable, "-c", program % heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

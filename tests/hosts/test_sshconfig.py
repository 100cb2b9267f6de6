"""What ~/.ssh/config changes."""

import getpass
from pathlib import Path

import pytest

from launcher.errors import SpecError
from launcher.hosts.sshconfig import SSHAddress, jump, resolve


@pytest.fixture
def config(client_home):
    path = client_home / ".ssh" / "config"
    path.parent.mkdir()
    return path


def test_without_a_file_openssh_s_defaults_hold(client_home):
    way = resolve(SSHAddress("gpu.example"))
    assert (way.host, way.port, way.user) == ("gpu.example", 22, getpass.getuser())
    assert [key.name for key in way.keys] == ["id_ed25519", "id_ecdsa", "id_rsa"]
    assert not way.explicit
    assert way.known_hosts[0] == client_home / ".ssh/known_hosts"


def test_an_alias_leads_where_the_file_says(config):
    config.write_text(
        "Host gpu\n HostName 10.1.2.3\n User ada\n Port 2222\n IdentityFile ~/.ssh/gpu_key\n"
        " IdentitiesOnly yes\n HostKeyAlias gpu.lab\n UserKnownHostsFile ~/.ssh/lab_hosts\n"
    )
    way = resolve(SSHAddress("gpu"))
    assert (way.host, way.port, way.user) == ("10.1.2.3", 2222, "ada")
    assert way.keys == [Path("~/.ssh/gpu_key").expanduser()]
    assert way.explicit
    assert way.only_keys
    assert way.known_as == "gpu.lab"
    assert way.known_hosts[0] == Path("~/.ssh/lab_hosts").expanduser()


def test_the_address_wins_over_the_file(config):
    config.write_text("Host gpu\n User ada\n Port 2222\n IdentityFile ~/.ssh/gpu_key\n")
    way = resolve(SSHAddress("gpu", "bob", 22022, "/keys/bob"))
    assert (way.user, way.port, way.keys) == ("bob", 22022, [Path("/keys/bob")])


def test_included_files_count(config):
    (config.parent / "config.d").mkdir()
    (config.parent / "config.d" / "lab").write_text("Host gpu\n  HostName 10.9.9.9\n")
    config.write_text("Include config.d/*\nHost *\n  User ada\n")
    way = resolve(SSHAddress("gpu"))
    assert (way.host, way.user) == ("10.9.9.9", "ada")


def test_a_file_that_includes_itself_ends(config):
    config.write_text("Include ~/.ssh/config\nHost gpu\n Port 23\n")
    assert resolve(SSHAddress("gpu")).port == 23


def test_jumps_and_proxy_commands_are_read(config):
    config.write_text(
        "Host a\n ProxyJump bob@door:2222,[fe80::1]:23\n"
        "Host b\n ProxyCommand nc %h %p\nHost c\n ProxyJump none\n"
    )
    assert resolve(SSHAddress("a")).jumps == [
        SSHAddress("door", "bob", 2222),
        SSHAddress("fe80::1", None, 23),
    ]
    assert resolve(SSHAddress("b", port=77)).command == "nc b 77"
    assert resolve(SSHAddress("c")).jumps == []


def test_a_jump_without_a_port_has_none():
    assert jump("door") == SSHAddress("door")
    assert jump("ssh://ada@[::1]") == SSHAddress("::1", "ada")


def test_a_file_that_cannot_be_understood_is_named(config):
    config.write_text("Host gpu\n Port\n")
    with pytest.raises(SpecError, match="config"):
        resolve(SSHAddress("gpu"))

"""Which host keys are trusted."""

import base64
import subprocess

import pytest

from launcher.errors import AuthError
from launcher.hosts import hostkeys

KEY = b"\0\0\0\x0bssh-ed25519" + bytes(36)
OTHER = b"\0\0\0\x0bssh-ed25519" + bytes(35) + b"x"


def line(names, key=KEY, marker=""):
    return f"{marker}{names} ssh-ed25519 {base64.b64encode(key).decode()} a comment"


def keys_for(name, *lines):
    return [known.blob for known in hostkeys.known_keys(lines, name)]


@pytest.fixture
def known_hosts(tmp_path):
    return tmp_path / "ssh" / "known_hosts"


def check(file, key=KEY, pinned=None, ask=None, name="gpu.example"):
    hostkeys.check("ssh-ed25519", key, hostkeys.expected(name, [file], pinned), ask)


def test_a_plain_name_matches_itself_only():
    assert keys_for("gpu.example", line("gpu.example,10.0.0.7")) == [KEY]
    assert keys_for("10.0.0.7", line("gpu.example,10.0.0.7")) == [KEY]
    assert keys_for("gpu.example.com", line("gpu.example")) == []


def test_another_port_is_another_host():
    assert hostkeys.known_name("gpu", 2222) == "[gpu]:2222"
    assert keys_for("[gpu]:2222", line("[gpu]:2222")) == [KEY]
    assert keys_for("gpu", line("[gpu]:2222")) == []
    assert keys_for("[gpu]:2222", line("gpu")) == []


def test_patterns_match_and_negated_ones_exclude():
    assert keys_for("a.lab.example", line("*.lab.example,!b.lab.example")) == [KEY]
    assert keys_for("b.lab.example", line("*.lab.example,!b.lab.example")) == []
    assert keys_for("a1", line("a?")) == [KEY]


def test_hashed_names_match_as_openssh_hashes_them(tmp_path):
    file = tmp_path / "known_hosts"
    file.write_text(line("[gpu.example]:2222") + "\n" + line("other") + "\n")
    subprocess.run(["ssh-keygen", "-H", "-f", str(file)], check=True, capture_output=True)
    lines = file.read_text().splitlines()
    assert "gpu" not in "".join(lines)
    assert keys_for("[gpu.example]:2222", *lines) == [KEY]
    assert keys_for("third", *lines) == []


def test_lines_without_sense_are_passed_over():
    nonsense = [
        "",
        "#",
        "# gpu ssh-ed25519 AAAA",
        "gpu",
        "gpu ssh-ed25519",
        "gpu ssh-ed25519 !!!",
        "|1|x|y z w",
    ]
    assert keys_for("gpu", *nonsense, line("gpu")) == [KEY]


def test_a_known_key_is_good(known_hosts):
    known_hosts.parent.mkdir()
    known_hosts.write_text(line("gpu.example"))
    check(known_hosts)


def test_a_changed_key_is_refused_whatever_the_user_says(known_hosts):
    known_hosts.parent.mkdir()
    known_hosts.write_text(line("gpu.example"))
    with pytest.raises(AuthError, match="has changed"):
        check(known_hosts, OTHER, ask=lambda fingerprint: True)


def test_a_revoked_key_is_refused_even_when_pinned(known_hosts):
    known_hosts.parent.mkdir()
    known_hosts.write_text(line("gpu.example", marker="@revoked "))
    with pytest.raises(AuthError, match="revoked"):
        check(known_hosts, pinned=hostkeys.fingerprint(KEY))


def test_an_unknown_key_without_an_answer_is_refused_and_the_way_out_named(known_hosts):
    with pytest.raises(AuthError) as refusal:
        check(known_hosts)
    shown = hostkeys.fingerprint(KEY)
    assert shown in refusal.value.message
    assert f"--host-key {shown}" in refusal.value.hint
    assert "target add" in refusal.value.hint
    assert not known_hosts.exists()


def test_a_denied_key_is_refused(known_hosts):
    with pytest.raises(AuthError, match="unknown"):
        check(known_hosts, ask=lambda fingerprint: False)


def test_a_confirmed_key_is_remembered_for_us_and_for_ssh(known_hosts):
    asked = []
    check(known_hosts, ask=lambda fingerprint: not asked.append(fingerprint), name="[gpu.example]:2222")
    assert asked == [hostkeys.fingerprint(KEY)]
    check(known_hosts, name="[gpu.example]:2222")
    assert known_hosts.stat().st_mode & 0o777 == 0o600
    found = subprocess.run(
        ["ssh-keygen", "-F", "[gpu.example]:2222", "-f", str(known_hosts)], capture_output=True
    )
    assert found.returncode == 0


def test_a_confirmed_key_does_not_spoil_a_file_without_a_last_newline(known_hosts):
    known_hosts.parent.mkdir()
    known_hosts.write_text(line("other"))
    check(known_hosts, ask=lambda fingerprint: True)
    assert keys_for("other", *known_hosts.read_text().splitlines()) == [KEY]
    check(known_hosts)


def test_a_pinned_key_needs_no_known_hosts(known_hosts):
    check(known_hosts, pinned=hostkeys.fingerprint(KEY))
    with pytest.raises(AuthError, match="not the given"):
        check(known_hosts, OTHER, pinned=hostkeys.fingerprint(KEY), ask=lambda fingerprint: True)


def test_the_fingerprint_is_the_one_that_ssh_keygen_shows(tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "k")], check=True)
    public = (tmp_path / "k.pub").read_text().split()[1]
    shown = subprocess.run(
        ["ssh-keygen", "-lf", str(tmp_path / "k.pub")], capture_output=True, text=True
    ).stdout
    assert hostkeys.fingerprint(base64.b64decode(public)) == shown.split()[1]

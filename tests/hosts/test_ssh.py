"""Hosts over SSH, against a real sshd: who gets in, how the steward starts, what it can do from there."""

import hashlib
import http.client
import os
import socket
import subprocess
import threading
import time
import urllib.request

import pytest

from launcher.errors import AuthError, RemoteError, Unreachable
from launcher.hosts import archive
from launcher.hosts.ssh import SSHAddress, SSHHost
from tests.servers.sshd import SSHD


def says(host, *argv):
    stream = host.steward().stream("run_script", argv=list(argv))
    return b"".join(data for _, data in stream).decode()


# Who is let in, and by whom we let ourselves be led in.


def test_a_pinned_host_needs_no_known_hosts(sshd, reach, client_home):
    assert says(reach(sshd), "echo", "hello") == "hello\n"
    assert not (client_home / ".ssh").exists()


def test_a_pinned_fingerprint_may_be_that_of_any_of_the_server_s_keys(reach):
    with SSHD(host_keys=("ed25519", "ecdsa", "rsa")) as server:
        for kind in ("ed25519", "ecdsa", "rsa"):
            assert says(reach(server, host_key=server.fingerprint(kind)), "echo", kind) == f"{kind}\n"
        with pytest.raises(AuthError, match="not the given"):
            reach(server, host_key="SHA256:" + "A" * 43).steward()


def test_an_unknown_host_is_refused_with_the_way_out(sshd, reach):
    with pytest.raises(AuthError) as refusal:
        reach(sshd, host_key=None).steward()
    assert sshd.fingerprint() in refusal.value.message
    assert f"--host-key {sshd.fingerprint()}" in refusal.value.hint
    assert refusal.value.exit_code == 125


def test_a_confirmed_host_is_known_from_then_on(sshd, reach, client_home):
    asked = []
    host = reach(sshd, lambda fingerprint: not asked.append(fingerprint), host_key=None)
    assert says(host, "echo", "1") == "1\n"
    assert asked == [sshd.fingerprint()]
    assert says(reach(sshd, host_key=None), "echo", "2") == "2\n"
    assert (client_home / ".ssh/known_hosts").read_text() == sshd.known_hosts_line


def test_a_changed_host_key_is_refused(reach, client_home):
    with SSHD() as server:
        reach(server, lambda fingerprint: True, host_key=None).steward()
        server.stop()
        server.new_host_keys()
        server.start()
        with pytest.raises(AuthError, match="has changed"):
            reach(server, lambda fingerprint: True, host_key=None).steward()


def test_the_kind_of_key_that_is_known_is_asked_for(reach, client_home):
    with SSHD(host_keys=("ed25519", "rsa")) as server:
        known = client_home / ".ssh" / "known_hosts"
        known.parent.mkdir()
        known.write_text(f"[{server.host}]:{server.port} {server.public_key('rsa')}\n")
        assert says(reach(server, host_key=None), "echo", "rsa") == "rsa\n"


def test_a_wrong_key_is_refused_and_named(sshd, reach, tmp_path):
    wrong = tmp_path / "wrong"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(wrong)], check=True)
    with pytest.raises(AuthError) as refusal:
        reach(sshd, key=str(wrong)).steward()
    assert str(wrong) in refusal.value.message
    assert "ssh-copy-id" in refusal.value.hint


def test_a_missing_key_and_one_with_a_passphrase_are_named(sshd, reach, tmp_path):
    locked = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)], check=True)
    with pytest.raises(AuthError, match="passphrase"):
        reach(sshd, key=str(locked)).steward()
    with pytest.raises(AuthError, match="not there"):
        reach(sshd, key=str(tmp_path / "nowhere")).steward()
    with pytest.raises(AuthError, match="no SSH key"):
        reach(sshd, key=None).steward()


def test_a_default_key_opens_the_door(sshd, reach, client_home):
    (client_home / ".ssh").mkdir(mode=0o700)
    (client_home / ".ssh" / "id_ed25519").write_bytes(sshd.key_path.read_bytes())
    assert says(reach(sshd, key=None), "echo", "in") == "in\n"


def test_the_agent_s_copy_of_a_locked_key_opens_the_door(sshd, reach, client_home, tmp_path, monkeypatch):
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "sock")], stdout=subprocess.DEVNULL)
    try:
        while not (tmp_path / "sock").exists():
            time.sleep(0.01)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "sock"))
        os.chmod(sshd.key_path, 0o600)
        subprocess.run(["ssh-add", "-q", str(sshd.key_path)], check=True)
        assert says(reach(sshd, key=None), "echo", "agent") == "agent\n"
        locked = tmp_path / "locked"
        locked.write_bytes(sshd.key_path.read_bytes())
        locked.chmod(0o600)
        (tmp_path / "locked.pub").write_bytes(sshd.key_path.with_suffix(".pub").read_bytes())
        subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(locked)], check=True)
        assert says(reach(sshd, key=str(locked), only_key=True), "echo", "locked") == "locked\n"
    finally:
        agent.terminate()
        agent.wait()


def test_an_rsa_key_too_short_to_be_safe_is_not_offered(sshd, reach, tmp_path):
    weak = tmp_path / "weak"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", str(weak)], check=True)
    with pytest.raises(AuthError, match="too weak"):
        reach(sshd, key=str(weak)).steward()


def test_an_alias_of_the_config_file_is_enough(sshd, client_home):
    ssh = client_home / ".ssh"
    ssh.mkdir()
    (ssh / "known_hosts").write_text(sshd.known_hosts_line)
    (ssh / "config").write_text(
        f"Host gpu\n HostName {sshd.host}\n Port {sshd.port}\n User {sshd.user}\n"
        f" IdentityFile {sshd.key_path}\n"
    )
    host = SSHHost(SSHAddress("gpu"))
    assert says(host, "echo", "alias") == "alias\n"
    host.close()


def test_a_jump_host_leads_to_the_server(sshd, client_home):
    ssh = client_home / ".ssh"
    ssh.mkdir()
    with SSHD() as door:
        (ssh / "known_hosts").write_text(sshd.known_hosts_line + door.known_hosts_line)
        (ssh / "config").write_text(
            f"Host door\n HostName {door.host}\n Port {door.port}\n IdentityFile {door.key_path}\n"
            f"Host gpu\n HostName {sshd.host}\n Port {sshd.port}\n ProxyJump door\n"
            f" IdentityFile {sshd.key_path}\n"
        )
        host = SSHHost(SSHAddress("gpu", sshd.user))
        assert says(host, "echo", "far") == "far\n"
        host.close()
        assert "direct-tcpip" in door.log or "Accepted publickey" in door.log


# What can be wrong with the way there.


def test_a_port_where_nobody_listens_is_unreachable(sshd, reach):
    with socket.socket() as free:
        free.bind((sshd.host, 0))
        with pytest.raises(Unreachable, match="refused"):
            reach(sshd, port=free.getsockname()[1]).steward()


def test_a_name_that_does_not_exist_is_unreachable(sshd, reach):
    with pytest.raises(Unreachable, match="resolved"):
        reach(sshd, host="no-such-host.invalid").steward()


def test_a_server_that_is_no_ssh_server_is_unreachable(sshd, reach):
    with socket.create_server((sshd.host, 0)) as web:
        threading.Thread(
            target=lambda: web.accept()[0].sendall(b"HTTP/1.0 400 No\r\n\r\n"), daemon=True
        ).start()
        with pytest.raises(Unreachable, match="handshake"):
            reach(sshd, port=web.getsockname()[1]).steward()


def test_a_server_with_weak_algorithms_only_is_refused(reach):
    with SSHD("Ciphers aes128-cbc") as server:
        with pytest.raises(RemoteError, match="no safe algorithm"):
            reach(server).steward()


def test_the_quick_cipher_is_chosen(sshd, reach):
    assert reach(sshd).transport().remote_cipher == "aes128-gcm@openssh.com"


# How the steward comes to life.


def test_the_agent_is_stored_once_and_mended_when_damaged(reach):
    with SSHD() as server:
        path = server.home / ".launcher" / archive.agent_path()
        host = reach(server)
        host.steward()
        assert path.read_bytes() == archive.agent_archive()[0]
        assert host.steward().hello["home"] == str(server.home)
        path.write_bytes(b"damaged")
        host.close()
        assert says(host, "echo", "mended") == "mended\n"
        assert path.read_bytes() == archive.agent_archive()[0]


def test_a_full_or_read_only_place_for_the_agent_is_named(reach):
    with SSHD() as server:
        (server.home / ".launcher").write_text("in the way")
        with pytest.raises(RemoteError, match="cannot store the agent"):
            reach(server).steward()


def test_whatever_the_login_shell_prints_does_no_harm(reach):
    with SSHD() as server:
        (server.home / ".bashrc").write_text(
            "echo Welcome to the cluster; head -c 300000 /dev/urandom; echo\n"
        )
        assert says(reach(server), "echo", "quiet") == "quiet\n"


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash", "/bin/dash"])
def test_the_start_command_means_the_same_to_every_shell(shell, reach):
    with SSHD(shell=shell) as server:
        assert says(reach(server), "echo", "$HOME 'x'") == "$HOME 'x'\n"


def test_the_start_command_has_nothing_that_csh_or_fish_reads_otherwise():
    from launcher.hosts import bootstrap

    command = bootstrap.plan("/a b/ü").command
    program, quoted, rest = command.split('"')
    assert program == "python3 -I -B -c "
    assert set(quoted) <= set("abcdefghijklmnopqrstuvwxyz0123456789.()'")
    assert set(rest) <= set("abcdefghijklmnopqrstuvwxyz0123456789- ")


def test_a_machine_without_python_is_told_so(reach):
    with SSHD() as server:
        (server.home / ".bashrc").write_text("PATH=/nowhere\n")
        with pytest.raises(RemoteError, match="no python3") as refusal:
            reach(server).steward()
        assert "3.8" in refusal.value.hint


def test_an_old_python_is_told_so(reach):
    with SSHD() as server:
        old = server.home / "bin" / "python3"
        old.parent.mkdir()
        # The stub as Python 3.6 would run it: only its version differs.
        old.write_text(
            "#!/bin/sh\nshift 3\nprogram=$1; shift\n"
            'exec /usr/bin/python3 -I -c "import sys; sys.version_info = (3, 6, 15); $program" "$@"\n'
        )
        old.chmod(0o755)
        (server.home / ".bashrc").write_text(f"PATH={old.parent}:$PATH\n")
        with pytest.raises(RemoteError, match=r"has Python 3\.6\.15"):
            reach(server).steward()


def test_another_root_is_used_where_it_is_given(sshd, tmp_path):
    root = tmp_path / 'it\'s a "root" ü'
    address = SSHAddress(sshd.host, sshd.user, sshd.port, str(sshd.key_path), sshd.fingerprint())
    host = SSHHost(address, root=str(root))
    assert host.steward().hello["root"] == str(root)
    assert (root / archive.agent_path()).exists()
    host.close()


# What it is good for.


def test_a_big_file_comes_home_whole_and_quickly(sshd, reach):
    block = os.urandom(1 << 20)
    with open(sshd.home / "big", "wb") as file:
        for _ in range(64):
            file.write(block)
    digest = hashlib.sha256()
    for _, data in reach(sshd).steward().stream("read", ranges=[[str(sshd.home / "big"), 0, None]]):
        digest.update(data)
    assert digest.hexdigest() == hashlib.sha256(block * 64).hexdigest()


def test_a_server_that_changes_keys_all_the_time_loses_nothing(reach):
    with SSHD("RekeyLimit 16M") as server:
        data = os.urandom(1 << 20) * 64
        (server.home / "big").write_bytes(data)
        host = reach(server)
        stream = host.steward().stream("read", ranges=[[str(server.home / "big"), 0, None]])
        assert b"".join(piece for _, piece in stream) == data
        channel, size = host.channel(["cat", str(server.home / "big")]), 0
        while piece := channel.read(1 << 20):
            size += len(piece)
        assert size == len(data)


def test_five_thousand_small_files_come_in_one_read(sshd, reach):
    folder = sshd.home / "many"
    folder.mkdir()
    for number in range(5000):
        (folder / str(number)).write_bytes(b"%d" % number * 100)
    ranges = [[str(folder / str(number)), 0, None] for number in range(5000)]
    found = {header["i"]: data for header, data in reach(sshd).steward().stream("read", ranges=ranges)}
    assert found == {number: b"%d" % number * 100 for number in range(5000)}


def test_a_big_upload_arrives_whole(sshd, reach, tmp_path):
    data = os.urandom(1 << 20) * 16
    digest = hashlib.sha256(data).hexdigest()
    steward = reach(sshd).steward()
    pieces = (data[at : at + 300_000] for at in range(0, len(data), 300_000))
    steward.call("put", pieces, path="up/big", size=len(data), sha256=digest)
    assert (sshd.home / ".launcher/up/big").read_bytes() == data


def test_a_channel_is_a_process_there(sshd, reach):
    channel = reach(sshd).channel(["sh", "-c", "read line; echo \"got $line\"; echo 'a b' >&2"])
    channel.write(b"ping\n")
    assert channel.read(100) == b"got ping\n"
    assert channel.read(100) == b""
    assert channel.last_words() == "a b"
    channel.close()


def test_a_unix_socket_there_can_be_dialled_like_one_here(sshd, reach, tmp_path):
    path = str(tmp_path / "s.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        threading.Thread(target=answer_http, args=(listener,), daemon=True).start()
        connection = http.client.HTTPConnection("docker")
        connection.sock = reach(sshd).dial(path)
        connection.request("GET", "/_ping")
        assert connection.getresponse().read() == b"OK"
        connection.close()


def test_dialling_where_the_server_forbids_it_goes_through_the_docker_command(reach, tmp_path):
    with SSHD("AllowStreamLocalForwarding no") as server:
        fake = server.home / "docker"
        fake.write_text('#!/bin/sh\necho "$@"\n')
        fake.chmod(0o755)
        (server.home / ".bashrc").write_text(f"PATH={server.home}:$PATH\n")
        connection = reach(server).dial("/run/docker.sock")
        assert connection.makefile("rb").readline() == b"-H unix:///run/docker.sock system dial-stdio\n"
        connection.close()


def test_a_port_there_can_be_reached_here_until_it_is_closed(sshd, reach):
    with socket.create_server((sshd.host, 0)) as far:
        threading.Thread(target=answer_http, args=(far,), daemon=True).start()
        with reach(sshd).forward(0, far.getsockname()[1], sshd.host) as port:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            assert opener.open(f"http://127.0.0.1:{port}/_ping", timeout=10).read() == b"OK"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1)


def test_a_shell_there_has_our_terminal_and_its_exit_code(sshd, reach, client_home, capfd):
    assert reach(sshd).shell(["sh", "-c", "echo in the shell; exit 7"]) == 7
    assert "in the shell" in capfd.readouterr().out


def answer_http(listener):
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK")
        connection.close()

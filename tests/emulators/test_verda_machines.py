"""The emulated Verda's real machines: how they boot, what is on them, how they end."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.emulators.verda.box import Box
from tests.emulators.verda.emulator import Verda
from tests.emulators.verda.objects import Instance
from tests.emulators.verda.plain import Plain
from tests.emulators.verda.settings import Fate, Settings
from tests.emulators.verda.waiting import wait_until
from tests.servers.programs import docker, output

PHASES = (("ordered", 1.0), ("provisioning", 10.0))
NO_DOCKER, DOCKER = "ubuntu-24.04-cuda-12.8-open", "ubuntu-24.04-cuda-12.8-open-docker"
SCRIPT = """#!/bin/bash
umask 077
cat > /etc/ssh/ssh_host_ed25519_key <<'KEY'
{host_key}KEY
rm -f /etc/ssh/ssh_host_ecdsa_key
systemctl restart ssh
echo "$HOME" >> /root/script-ran
"""
KILLS_ITSELF = """
import json, urllib.request
def ask(method, path, body, **headers):
    request = urllib.request.Request("{url}" + path, json.dumps(body).encode(), headers, method=method)
    request.add_header("Content-Type", "application/json")
    return urllib.request.urlopen(request, timeout=30).read()
given = dict(grant_type="client_credentials", client_id="{id}", client_secret="{secret}")
token = json.loads(ask("POST", "/oauth2/token", given))["access_token"]
ask("PUT", "/instances", dict(id="{instance}", action="delete"), Authorization="Bearer " + token)
"""
UNITS = """cd /etc/systemd/system
printf '[Service]\\nExecStart=/bin/sh -c "echo tick >> /root/ticks"\\n' > watch.service
printf '[Timer]\\nOnActiveSec=0.1s\\nOnUnitActiveSec=100ms\\n[Install]\\nWantedBy=timers.target\\n' > watch.timer
systemctl daemon-reload; systemctl enable --now watch.timer; systemctl is-active watch.timer"""


@dataclass
class Laptop:
    """Keys, and an ssh that believes in one host key only."""

    folder: Path
    client: Plain

    def __post_init__(self) -> None:
        for name in ("key", "host"):
            output(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)])
        script = SCRIPT.format(host_key=(self.folder / "host").read_text())
        self.key_id = self.client.key((self.folder / "key.pub").read_text())
        self.script_id = self.client.post("/scripts", name="first boot", script=script)

    def rent(self, **more: object) -> Instance:
        """A running one."""
        return self.client.verda.wait("running", self.order(**more))

    def order(self, **more: object) -> Instance:
        """One that is going to boot, without Docker unless asked for."""
        keys = {"ssh_key_ids": [self.key_id], "startup_script_id": self.script_id}
        self.client.rent(**{"image": NO_DOCKER, **keys, **more})
        return self.client.verda.instances[-1]

    def ssh(self, one: Instance, command: str) -> subprocess.CompletedProcess[str]:
        argv = self._ssh_command(one, command)
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)

    @contextlib.contextmanager
    def session(self, one: Instance, command: str) -> Iterator[subprocess.Popen[bytes]]:
        """A connection that stands: the command has begun."""
        argv = self._ssh_command(one, f"echo begun; {command}")
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == b"begun\n"
                yield process
            finally:
                process.kill()

    def _ssh_command(self, one: Instance, command: str) -> list[str]:
        known = self.folder / "known_hosts"
        known.write_text(f"{one.ip} {(self.folder / 'host.pub').read_text()}")
        options = [
            "BatchMode=yes",
            "ConnectTimeout=5",
            f"UserKnownHostsFile={known}",
            "StrictHostKeyChecking=yes",
        ]
        words = [word for option in options for word in ("-o", option)]
        return ["ssh", "-F", "none", *words, "-i", str(self.folder / "key"), f"root@{one.ip}", command]

    def reach(self, one: Instance) -> None:
        """Wait until it answers with the script's host key, and the script is done."""
        wait_until(lambda: self.ssh(one, "cat /root/script-ran").returncode == 0)


@pytest.fixture(scope="module")
def cloud() -> Iterator[Verda]:
    with Verda(Settings("real", time_scale=60.0, phases=PHASES, delete_s=1.0, limits_rate=False)) as running:
        yield running


@pytest.fixture
def verda(cloud: Verda) -> Iterator[Verda]:
    """The module's cloud, empty before and after each test."""
    lag_s = cloud.settings.script_lag_s
    yield cloud
    cloud.settings.script_lag_s, cloud.settings.box_images, cloud.faults.fates = lag_s, (), []
    with cloud.world.now():
        over = [one for one in cloud.world.instances.values() if not one.over]
    client = Plain(cloud)
    for one in over:
        wait_until(lambda one=one: one.over or client.act("delete", one.id).ok)  # type: ignore[misc]


@pytest.fixture
def laptop(verda: Verda, tmp_path: Path) -> Laptop:
    return Laptop(tmp_path, Plain(verda))


def box(one: Instance) -> Box:
    assert isinstance(one.machine, Box)
    return one.machine


def there(machine: Box) -> bool:
    return bool(docker("ps", "--all", "--quiet", "--filter", f"name={machine.name}"))


def test_a_machine_answers_with_a_key_of_its_own_until_the_start_up_script_has_run(
    verda: Verda, laptop: Laptop, base_image: str
) -> None:
    verda.settings.script_lag_s, verda.settings.box_images = 1e9, (base_image,)
    one = laptop.rent(image=DOCKER)
    wait_until(lambda: "Host key verification failed" in laptop.ssh(one, "true").stderr)
    verda.settings.script_lag_s = 2.0
    one.machine.run_script()
    laptop.reach(one)
    shown = laptop.ssh(
        one, "id -un; cat /root/script-ran; nvidia-smi -L; hostname; systemctl is-active docker"
    )
    user, home, gpu, name, active = shown.stdout.splitlines()
    assert (user, home, name, active) == ("root", "", "test", "active")  # no HOME, as cloud-init has none
    assert gpu.startswith("GPU 0: FAKE NVIDIA H100 SXM5 80GB")
    inside = laptop.ssh(one, f"docker run --rm --gpus all {base_image} nvidia-smi -L")
    assert inside.stdout.strip() == gpu


def test_a_machine_reaches_the_api_at_the_same_address_and_can_delete_itself(
    verda: Verda, laptop: Laptop
) -> None:
    one = laptop.rent()
    laptop.reach(one)
    own = verda.another_credential()
    code = KILLS_ITSELF.format(url=verda.url, id=own.client_id, secret=own.client_secret, instance=one.id)
    laptop.ssh(one, f"python3 - <<'END'\n{code}\nEND")
    verda.wait("discontinued", one)
    wait_until(lambda: not there(box(one)))
    journal = laptop.client.get(f"/journal/compute/{one.id}")
    assert own.actor_id in [event["actor_id"] for event in journal]


def test_an_eviction_cuts_the_connection_or_lets_it_freeze(verda: Verda, laptop: Laptop) -> None:
    volume = {"name": "x", "size": 50, "on_spot_discontinue": "delete_permanently"}
    cut, frozen = (laptop.order(is_spot=True, os_volume=volume) for _ in range(2))
    for one in (cut, frozen):
        laptop.reach(verda.wait("running", one))
    with laptop.session(cut, "sleep 1000") as first, laptop.session(frozen, "sleep 1000") as second:
        verda.evict(cut)
        verda.evict(frozen, "freeze", api_lag_s=3600)
        assert first.wait(60) == 255
        box(frozen).settle()
        assert docker("inspect", "--format", "{{.State.Paused}}", box(frozen).name) == "true"
        assert second.poll() is None  # the connection stands
        statuses = [laptop.client.get(f"/instances/{one.id}")["status"] for one in (cut, frozen)]
        assert statuses == ["discontinued", "running"]
        verda.clock.advance(3600)
        verda.wait("discontinued", frozen)
        assert second.wait(60) == 255
    wait_until(lambda: not there(box(cut)) and not there(box(frozen)))


def test_a_machine_reboots_with_its_units_and_powered_off_it_is_billed_and_starts_again(
    verda: Verda, laptop: Laptop
) -> None:
    one = laptop.rent()
    laptop.reach(one)
    assert laptop.ssh(one, UNITS).stdout == "active\n"
    wait_until(lambda: len(laptop.ssh(one, "cat /root/ticks").stdout.split()) > 2)
    laptop.ssh(one, "systemctl stop watch.timer; rm /root/ticks; touch /dev/shm/there; reboot")
    wait_until(lambda: "tick" in laptop.ssh(one, "[ ! -e /dev/shm/there ] && cat /root/ticks").stdout)
    laptop.ssh(one, "poweroff")
    verda.wait("offline", one)
    assert one.id in verda.left().paid
    assert laptop.client.act("start", one.id).status_code == 202
    verda.wait("running", one)
    laptop.reach(one)
    assert laptop.ssh(one, "wc -l < /root/script-ran").stdout == "1\n"


def test_volumes_outlive_their_machine_and_are_found_by_the_next(verda: Verda, laptop: Laptop) -> None:
    one = laptop.rent(volumes=[{"name": "data", "size": 1, "type": "NVMe"}])
    laptop.reach(one)
    made = laptop.ssh(
        one, "mkfs.ext4 -q /dev/vdb && mount /dev/vdb /mnt && echo data > /mnt/f && umount /mnt"
    )
    assert made.returncode == 0, made.stderr
    laptop.ssh(one, "echo system > /root/f")
    system, data = one.volume_ids
    laptop.client.act("delete", one.id, volume_ids=[])
    wait_until(lambda: {each["status"] for each in laptop.client.get("/volumes")} == {"detached"})

    other, again = laptop.order(existing_volumes=[data]), laptop.rent(image=system)
    for each in (other, again):
        laptop.reach(verda.wait("running", each))
    assert laptop.ssh(other, "mount /dev/vdb /mnt && cat /mnt/f").stdout == "data\n"
    assert laptop.ssh(again, "cat /root/f").stdout == "system\n"
    for each in (other, again):
        laptop.client.act("delete", each.id, volume_ids=each.volume_ids, delete_permanently=True)
    for each in (other, again):
        verda.wait("discontinued", each)
        wait_until(lambda each=each: not there(box(each)))  # type: ignore[misc]
    assert verda.left().volumes == ()


def test_a_machine_may_lack_an_engine_a_driver_or_be_someone_elses(verda: Verda, laptop: Laptop) -> None:
    verda.faults.fates += [Fate(docker=False, gpu=False), Fate(host_key=False), Fate(sshd=False)]
    bare, other, deaf = machines = [laptop.order(image=DOCKER) for _ in range(3)]
    for one in machines:
        verda.wait("running", one)
    laptop.reach(bare)
    assert laptop.ssh(bare, "command -v docker dockerd nvidia-smi").stdout == ""
    wait_until(lambda: "ended with 0" in box(other).run("cat /var/log/cloud-init-output.log || true"))
    wait_until(lambda: "verification failed" in laptop.ssh(other, "true").stderr)
    assert "refused" in laptop.ssh(deaf, "true").stderr

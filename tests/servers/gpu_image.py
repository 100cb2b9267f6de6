"""Makes the image of a "GPU server": the base image with an sshd, a Docker Engine and two users."""

from __future__ import annotations

import hashlib
import importlib.resources
import uuid

from tests.servers import base_image
from tests.servers.programs import ProgramFailed, docker

TAG = "launcher-test/gpu-server"
PACKAGES = "openssh-server docker.io iptables iproute2 procps rsync"

INSTALL = f"""
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -y -q --no-install-recommends {PACKAGES}
rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb /etc/ssh/ssh_host_*
useradd --create-home --shell /bin/bash --groups docker trainer
usermod --password '*' trainer
cat > /usr/local/sbin/gpu-server
chmod 755 /usr/local/sbin/gpu-server
"""


def ensure() -> str:
    """The tag of the image; made when the engine does not have it (about a minute)."""
    tag = f"{TAG}:{_recipe()}"
    if not base_image.exists(tag):
        _make(tag)
    return tag


def entry_point() -> bytes:
    """The program that such a container starts with."""
    return importlib.resources.files("tests.servers").joinpath("gpu_server.sh").read_bytes()


def _recipe() -> str:
    return hashlib.sha256(base_image.recipe().encode() + INSTALL.encode() + entry_point()).hexdigest()[:12]


def _make(tag: str) -> None:
    name = f"launcher-test-image-{uuid.uuid4().hex[:8]}"
    try:
        docker("run", "-i", "--name", name, base_image.ensure(), "sh", "-c", INSTALL, data=entry_point())
        docker(
            "commit", "--change", 'ENTRYPOINT ["docker-init", "--", "/usr/local/sbin/gpu-server"]', name, tag
        )
    except ProgramFailed as e:
        raise ProgramFailed(f"the image of the GPU server could not be made: {e}") from e
    finally:
        docker("rm", "--force", name)

#!/bin/bash
# Brings what the project needs to a bare Debian or Ubuntu machine, or takes it away again.
#   setup.sh python     .venv with the project and its development tools
#   setup.sh programs   what the tests run besides Python: Docker, ssh, …
#   setup.sh clean      the test bed's images
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A PACKAGES=(  # program -> Debian package
    [dockerd]=docker.io [docker-registry]=docker-registry [sshd]=openssh-server [ssh]=openssh-client
    [debootstrap]=debootstrap [patchelf]=patchelf [rsync]=rsync [iptables]=iptables [strace]=strace [ip]=iproute2
)
export PATH="$PATH:/usr/sbin:/sbin"

python() {
    local python
    python=$(find_python)
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        install_packages python3-venv
    fi
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    # once uv is there it does the rest: pip takes a minute for the same
    .venv/bin/python -c 'import uv' 2>/dev/null || .venv/bin/python -m pip install --quiet 'uv>=0.9'
    .venv/bin/uv pip install --quiet --python .venv/bin/python --editable '.[dev,s3,keyring]'
}

programs() {
    local missing=() program
    for program in "${!PACKAGES[@]}"; do
        command -v "$program" > /dev/null || missing+=("${PACKAGES[$program]}")
    done
    if ! command -v chromium google-chrome > /dev/null; then
        # Ubuntu has it as a snap only, which a script should not install: the test that needs it will say so
        if grep -q '^ID=debian' /etc/os-release; then missing+=(chromium); fi
    fi
    [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
}

clean() {
    command -v docker > /dev/null && docker info > /dev/null 2>&1 || return 0
    docker images --quiet --filter 'reference=launcher-test/*' | sort -u | xargs --no-run-if-empty docker rmi --force
    docker volume ls --quiet --filter name=launcher-test- | xargs --no-run-if-empty docker volume rm --force
}

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.11 or newer is needed; PYTHON=/path/of/python names one" >&2
    exit 1
}

install_packages() {
    local sudo=()
    if [ "$(id -u)" -ne 0 ]; then sudo=(sudo); fi
    if ! command -v apt-get > /dev/null || ! command -v "${sudo[0]:-true}" > /dev/null; then
        echo "please install: $*" >&2
        exit 1
    fi
    echo "installing $*" >&2
    {
        "${sudo[@]}" apt-get update -q
        "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
    } > /tmp/launcher-setup.log 2>&1 || { tail -n 20 /tmp/launcher-setup.log >&2; exit 1; }
}

"$@"

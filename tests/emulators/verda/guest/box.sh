#!/bin/bash
# The entry point of a rented machine: a Docker Engine, an sshd that is opened later, the units that are enabled.
# It ends when someone on the machine powers it off; when someone reboots it, it starts again at the same address.
reboot() {
    kill -9 -1 # all but this one and its parent
    for mounted in $(awk '$2 ~ "^/(run|var/lib)/docker/" {print $2}' /proc/mounts | sort -r); do umount -l "$mounted"; done
    find /run /dev/shm /tmp -xdev -mindepth 1 -delete 2> /dev/null
    mkdir -p /run/box && touch /run/box/open
    exec "$0"
}
trap 'exit 0' TERM
trap reboot USR1
for mounted in $(awk '$3 == "cgroup" {print $2}' /proc/mounts); do mount -o remount,bind,rw "$mounted"; done
mkdir -p /run/sshd /run/box /run/systemd/system /etc/docker
echo $$ > /run/box/main.pid

keys=/etc/ssh
[ -e /etc/verda-box/other-keys ] && keys=/var/lib/other-keys
if [ ! -e /var/lib/verda-box/booted ]; then
    mkdir -p "$keys" /var/lib/verda-box
    for kind in ed25519 ecdsa; do ssh-keygen -q -t $kind -N '' -f "$keys/ssh_host_${kind}_key"; done
    rm -rf /usr/lib/python3*/ensurepip
    [ -e /etc/verda-box/no-docker ] && rm -f /usr/bin/docker /usr/sbin/dockerd
    touch /var/lib/verda-box/booted
fi

# dockerd runs while /etc/docker/off does not exist
(
    while [ ! -e /etc/verda-box/no-docker ]; do
        if [ -e /etc/docker/off ]; then sleep 0.2; continue; fi
        rm -f /var/run/docker.pid
        dockerd --bip 10.213.0.1/24 >> /var/log/dockerd.log 2>&1
        sleep 0.2
    done
) &

# sshd runs from the moment on that the machine answers; ended, it starts again with the keys that are there then
(
    while true; do
        if [ -e /run/box/open ]; then
            chosen=()
            for key in "$keys"/ssh_host_*_key; do chosen+=(-o "HostKey=$key"); done
            /usr/sbin/sshd -D -e "${chosen[@]}" -o PasswordAuthentication=no -o UseDNS=no -o PrintMotd=no \
                -o MaxStartups=100:30:200 -o StrictModes=no -o PidFile=/run/sshd.pid >> /var/log/auth.log 2>&1
        fi
        sleep 0.05
    done
) &

python3 /usr/local/lib/verda-box/route.py &
/usr/local/bin/systemctl boot-enabled-units
sleep infinity &
wait

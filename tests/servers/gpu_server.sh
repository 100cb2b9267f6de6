#!/bin/bash
# The entry point of a "GPU server": an own Docker Engine that can be stopped and started, and an sshd.
for mounted in $(awk '$3 == "cgroup" {print $2}' /proc/mounts); do mount -o remount,bind,rw "$mounted"; done
mkdir -p /run/sshd /etc/docker
[ -e /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key

# dockerd runs while /etc/docker/off does not exist; a reboot finds it as it was left
(
    while true; do
        if [ -e /etc/docker/off ]; then sleep 0.2; continue; fi
        rm -f /var/run/docker.pid
        dockerd --bip 10.213.0.1/24 >> /var/log/dockerd.log 2>&1
        sleep 0.2
    done
) &

exec /usr/sbin/sshd -D -e -o HostKey=/etc/ssh/ssh_host_ed25519_key -o PasswordAuthentication=no \
    -o UseDNS=no -o PrintMotd=no -o MaxStartups=100:30:200 -o StrictModes=no

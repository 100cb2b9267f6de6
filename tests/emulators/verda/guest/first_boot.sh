#!/bin/bash
# Runs the start-up script as cloud-init's last stage does: once, as root, by its first line, with next to no environment.
script=/var/lib/cloud/instance/scripts/part-001
log=/var/log/cloud-init-output.log
[ -e /var/lib/cloud/instance/script.done ] && exit 0
touch /var/lib/cloud/instance/script.done
if [ "$(head -c 2 "$script")" != '#!' ]; then
    echo "Unhandled non-multipart (text/x-not-multipart) userdata" >> "$log"
    exit 0
fi
cd /
env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$script" \
    < /dev/null >> "$log" 2>&1
echo "ended with $?" >> "$log"

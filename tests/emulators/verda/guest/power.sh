#!/bin/bash
# poweroff, halt, shutdown and reboot: the container ends, as the machine would.
signal=TERM
case "$(basename "$0") $*" in reboot* | *" -r"*) signal=USR1 ;; esac
for word in "$@"; do
    case "$word" in
        -c) exit 0 ;;
        +[0-9]*) (sleep $((${word#+} * 60)); kill -"$signal" "$(cat /run/box/main.pid)") > /dev/null 2>&1 & exit 0 ;;
    esac
done
kill -"$signal" "$(cat /run/box/main.pid)"

"""The way from a rented machine to the API: a port of its own loopback leads to one of the host's."""

import json
import socket
import threading


def main():
    with open("/etc/verda-box/route.json") as file:
        port, api_port = json.load(file)
    api = (gateway(), api_port)
    listener = socket.create_server(("127.0.0.1", port))
    while True:
        visitor = listener.accept()[0]
        threading.Thread(target=join, args=(visitor, api), daemon=True).start()


def gateway():
    """Where the default route leads to."""
    with open("/proc/net/route") as file:
        for line in file:
            fields = line.split()
            if fields[1] == "00000000":
                return socket.inet_ntoa(bytes.fromhex(fields[2])[::-1])
    raise SystemExit("no way out")


def join(visitor, address):
    try:
        api = socket.create_connection(address, 10)
    except OSError:
        visitor.close()
        return
    api.settimeout(None)
    threading.Thread(target=copy, args=(visitor, api), daemon=True).start()
    copy(api, visitor)


def copy(source, sink):
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()
        sink.close()


main()

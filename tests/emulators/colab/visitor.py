"""Runs one cell in a runtime's kernel and prints what comes, one JSON message a line.

Runs with the emulator's own environment: `python visitor.py URL TOKEN CODE [--kernel ID] [--leave-after TEXT]`.
The first line is `{"kernel": ID}`. With --leave-after the connection breaks, without goodbye, when TEXT was printed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import socket
import urllib.request
import uuid

import websocket

TIMEOUT_S = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("url", "token", "code"):
        parser.add_argument(name)
    parser.add_argument("--kernel")
    parser.add_argument("--leave-after")
    chosen = parser.parse_args()
    kernel = chosen.kernel or new_kernel(chosen.url, chosen.token)
    print(json.dumps({"kernel": kernel}), flush=True)
    address = (
        chosen.url.replace("http", "ws", 1) + f"/api/kernels/{kernel}/channels?session_id={uuid.uuid4()}"
    )
    header = {"X-Colab-Runtime-Proxy-Token": chosen.token}
    link = websocket.create_connection(address, header=header, timeout=TIMEOUT_S)
    execute(link, chosen.code, chosen.leave_after)


def new_kernel(url: str, token: str) -> str:
    headers = {"X-Colab-Runtime-Proxy-Token": token, "Content-Type": "application/json"}
    request = urllib.request.Request(url + "/api/kernels", b'{"name": "python3"}', headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        return str(json.load(answer)["id"])


def execute(link: websocket.WebSocket, code: str, leave_after: str | None) -> None:
    """Until the kernel has replied and is idle again, or was found dead."""
    message = request(code)
    link.send(json.dumps(message))
    missing = {"execute_reply", "idle"}
    while missing:
        answer = json.loads(link.recv())
        if answer["content"].get("execution_state") in ("restarting", "dead"):
            print(json.dumps({"type": answer["msg_type"], **answer["content"]}), flush=True)
            return
        if answer["parent_header"].get("msg_id") != message["header"]["msg_id"]:
            continue
        print(json.dumps({"type": answer["msg_type"], **answer["content"]}), flush=True)
        missing -= {answer["msg_type"], answer["content"].get("execution_state")}
        if leave_after and leave_after in answer["content"].get("text", ""):
            link.sock.shutdown(socket.SHUT_RDWR)
            return
    link.close()


def request(code: str) -> dict[str, object]:
    now = datetime.datetime.now(datetime.UTC).isoformat()
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "session": uuid.uuid4().hex}
    content = {
        "code": code,
        "silent": False,
        "store_history": True,
        "user_expressions": {},
        "allow_stdin": False,
    }
    header = {**header, "username": "visitor", "version": "5.3", "date": now}
    return {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content}


if __name__ == "__main__":
    main()

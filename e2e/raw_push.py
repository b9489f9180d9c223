"""A push that no git client would make: the bytes of HTTP as an intruder spells them. Prints what came back, as JSON.

On standard input, as JSON: host, port, body (base64, sent by each POST), requests ([[method, target, [header, ...]]]).
Standard library only: it is read by the python3 of a container as well as by the host's.
"""

import base64
import json
import socket
import sys


def ask(host, port, method, target, headers, body):
    """The whole answer to one request, as text; empty when the server only hangs up."""
    lines = [
        f"{method} {target} HTTP/1.1",
        f"Host: {host}",
        "Connection: close",
        f"Content-Length: {len(body)}",
    ]
    request = "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body
    answer = b""
    with socket.create_connection((host, port), timeout=10) as connection:
        try:
            connection.sendall(request)
            while part := connection.recv(65536):
                answer += part
        except OSError:
            pass  # hung up on us in the middle: what came before counts
    return answer.decode("latin-1")


def main():
    """Ask them all, one after the other."""
    asked = json.load(sys.stdin)
    content = base64.b64decode(asked["body"])
    answers = []
    for method, target, headers in asked["requests"]:
        body = content if method == "POST" else b""
        text = ask(asked["host"], asked["port"], method, target, headers, body)
        taken = "unpack ok" in text or "# service=git-receive-pack" in text
        answers.append({"request": [method, target, headers], "status": text[9:12], "taken": taken})
    print(json.dumps(answers))


main()

"""Visits the gate with httpx, over HTTP/1.1 and HTTP/2, and with a WebSocket library, with a certificate and without.
Prints one line of JSON: what came back each time.

    visit.py '{"url": "https://localhost:443", "authority": "…", "certificate": "…", "key": "…"}'
"""

import json
import ssl
import sys

import httpx
import websockets.exceptions
import websockets.sync.client

WISH = json.loads(sys.argv[1])
PATIENCE = 20


def tls(is_known):
    context = ssl.create_default_context(cafile=WISH["authority"])
    if is_known:
        context.load_cert_chain(WISH["certificate"], WISH["key"])
    return context


def visit(is_known, http2, *methods):
    """What came back to one request after the other, over one connection."""
    with httpx.Client(verify=tls(is_known), http1=not http2, http2=http2, timeout=PATIENCE) as client:
        for method in methods:
            answer = client.request(method, WISH["url"], content=b"x" * 100_000 if method == "POST" else None)
            yield {"http": answer.http_version, "known": is_known, "status": answer.status_code, "body": answer.text}


def visits():
    for http2 in [False, True]:
        yield from visit(True, http2, "GET", "POST")
        # A refusal ends its connection, and what this client's HTTP/2 still reads after that is an error to it.
        yield from visit(False, http2, "GET")
        yield from visit(False, http2, "POST")


def sockets():
    """What the server says of the visitor, once it has sent back all that was said, or the answer that was no socket."""
    url = WISH["url"].replace("https:", "wss:") + "socket"
    with websockets.sync.client.connect(url, ssl=tls(True), open_timeout=PATIENCE) as socket:
        seen = json.loads(socket.recv(PATIENCE))
        echoed = 0
        for message in ["hello", "ünï", b"\0\xff", "x" * 200_000, b"x" * 200_000, ""]:
            socket.send(message)
            echoed += socket.recv(PATIENCE) == message
    try:
        with websockets.sync.client.connect(url, ssl=tls(False), open_timeout=PATIENCE):
            refused = "nothing was refused"
    except websockets.exceptions.InvalidStatus as error:
        refused = json.loads(error.response.body)["code"]
    return {"seen": seen, "echoed": echoed, "refused": refused}


print(json.dumps({"visits": list(visits()), "socket": sockets()}))

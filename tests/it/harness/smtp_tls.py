"""An SMTP server (RFC 5321) with STARTTLS (RFC 3207) or TLS from the first byte, and AUTH PLAIN (RFC 4954)."""

import base64
import json
import pathlib
import socket
import ssl
import sys

mode, folder, user, password = sys.argv[1:]
folder = pathlib.Path(folder)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder / "server.pem")


def note(name, line):
    with open(folder / name, "a", encoding="utf-8") as file:
        file.write(line + "\n")


def talk(connection):
    tls = None
    if mode == "implicit":
        connection = context.wrap_socket(connection, server_side=True)
        tls = connection.version()
    lines = connection.makefile("rb")
    known, recipients = "", []

    def say(text):
        connection.sendall(text.encode() + b"\r\n")

    say("220 test")
    while line := lines.readline():
        words = line.decode().strip().split(" ", 2)
        verb = words[0].upper()
        note("said", verb)
        if verb == "EHLO":
            offers = ["test"]
            if mode == "starttls" and not tls:
                offers.append("STARTTLS")
            if tls:
                offers.append("AUTH PLAIN")
            for offer in offers[:-1]:
                say("250-" + offer)
            say("250 " + offers[-1])
        elif verb == "STARTTLS" and mode == "starttls" and not tls:
            say("220 go on")
            connection = context.wrap_socket(connection, server_side=True)
            tls = connection.version()
            lines = connection.makefile("rb")
        elif mode == "starttls" and not tls and verb not in ("NOOP", "QUIT"):
            say("530 STARTTLS first")
        elif verb == "AUTH":
            given = words[2] if len(words) > 2 else None
            if given is None:
                say("334 ")
                given = lines.readline().decode().strip()
            _, name, secret = base64.b64decode(given).decode().split("\0")
            if (name, secret) == (user, password):
                known = name
                say("235 welcome")
            else:
                say("535 no")
        elif verb == "MAIL":
            recipients = []
            say("250 ok")
        elif verb == "RCPT":
            recipients.append(line.decode().split("<")[1].split(">")[0])
            say("250 ok")
        elif verb == "DATA":
            say("354 go on")
            data = []
            while (part := lines.readline()) not in (b".\r\n", b""):
                data.append(part.decode())
            mail = {"tls": tls, "user": known, "to": recipients, "data": "".join(data)}
            note("mails", json.dumps(mail))
            say("250 ok")
        elif verb == "QUIT":
            say("221 bye")
            return
        else:
            say("250 ok")


listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    accepted, _ = listener.accept()
    try:
        talk(accepted)
    except (OSError, ssl.SSLError):
        pass
    finally:
        accepted.close()

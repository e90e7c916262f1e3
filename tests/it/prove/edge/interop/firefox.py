"""Visits the gate with Firefox, over HTTP/1.1 and HTTP/2, with a certificate and without. Prints one line of JSON: what
came back each time. Firefox is told what to do over Marionette, its own remote control.

    firefox.py '{"firefox": "…", "url": "https://localhost:443/", "authority": "…", "p12": "…", "password": "…"}'
"""

import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

WISH = json.loads(sys.argv[1])
PATIENCE = 60
PREFERENCES = {
    "security.default_personal_cert": "Select Automatically",
    "marionette.port": 0,
    "devtools.jsonview.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.enabled": False,
    "network.http.http3.enable": False,
}


def run(*arguments):
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)


def write_profile(folder, is_known, is_http2):
    database = f"sql:{folder}"
    run("certutil", "-d", database, "-N", "--empty-password")
    run("certutil", "-d", database, "-A", "-n", "local", "-t", "C,,", "-i", WISH["authority"])
    if is_known:
        run("pk12util", "-d", database, "-i", WISH["p12"], "-W", WISH["password"], "-K", "")
    preferences = {**PREFERENCES, "network.http.http2.enabled": is_http2, "network.http.spdy.enabled.http2": is_http2}
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in preferences.items()]
    (folder / "user.js").write_text("".join(lines))


def control(folder):
    """A connection to Firefox, once it says where it listens."""
    port = folder / "MarionetteActivePort"
    for _ in range(PATIENCE * 10):
        if port.exists() and port.read_text().strip():
            break
        time.sleep(0.1)
    stream = socket.create_connection(("127.0.0.1", int(port.read_text())), timeout=PATIENCE)
    return stream, stream.makefile("rb")


def heard(reader):
    length = b""
    while not length.endswith(b":"):
        length += reader.read(1)
    return json.loads(reader.read(int(length[:-1])))


def visit(is_known, is_http2):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_profile(folder, is_known, is_http2)
        arguments = [WISH["firefox"], "--headless", "--no-remote", "--marionette", "--profile", str(folder), "about:blank"]
        firefox = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            stream, reader = control(folder)
            heard(reader)

            def ask(name, **parameters):
                command = json.dumps([0, 1, name, parameters]).encode()
                stream.sendall(b"%d:%s" % (len(command), command))
                _, _, error, answer = heard(reader)
                if error:
                    raise SystemExit(f"{name}: {error}")
                return answer.get("value")

            ask("WebDriver:NewSession")
            ask("WebDriver:Navigate", url=WISH["url"])
            script = "return [performance.getEntriesByType('navigation')[0], document.body.textContent]"
            entry, body = ask("WebDriver:ExecuteScript", script=script, args=[])
            return {"http": entry["nextHopProtocol"], "known": is_known, "status": entry["responseStatus"], "body": body}
        finally:
            firefox.kill()
            firefox.wait()


visits = [visit(is_known, is_http2) for is_http2 in [False, True] for is_known in [True, False]]
print(json.dumps({"visits": visits}))

"""Calls the gRPC service of servers.py through the gate, as a client of gRPC's own does, with a certificate and
without. Prints one line of JSON: what was right, and what was not.

    calls.py '{"port": 443, "authority": "…", "certificate": "…", "key": "…"}'
"""

import json
import sys
import time

import grpc

WISH = json.loads(sys.argv[1])
PATIENCE = 20
LARGE = b"x" * 100_000
# Long enough to begin on a busy machine.
DEADLINE = 3

right, wrong = [], []


def check(what, is_right, found=None):
    if is_right:
        right.append(what)
    else:
        wrong.append(f"{what}: {found}")


def read(name):
    with open(WISH[name], "rb") as file:
        return file.read()


def channel(is_known):
    mine = (read("key"), read("certificate")) if is_known else (None, None)
    credentials = grpc.ssl_channel_credentials(read("authority"), *mine)
    # Channels of one process share connections otherwise, and with them who they are.
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.secure_channel(f"localhost:{WISH['port']}", credentials, options)


def trailers(call):
    return dict(call.trailing_metadata())


def unary(calls):
    answer, call = calls.unary_unary("/interop.Echo/Unary").with_call(b"hello", timeout=PATIENCE)
    answer = json.loads(answer)
    check("a unary call", answer["said"] == "hello" and call.code() == grpc.StatusCode.OK, answer)
    first = dict(call.initial_metadata())
    check("metadata before", first.get("x-first") == "head", first)
    last = trailers(call)
    check("metadata after", last.get("x-last") == "trailer" and last.get("x-last-bin") == b"\0\xff", last)
    return answer["seen"]


def streams(calls):
    call = calls.unary_stream("/interop.Echo/Down")(b"1000", timeout=PATIENCE)
    numbers = [int(number) for number in call]
    check("a stream down", numbers == list(range(1000)) and trailers(call)["x-last"] == "1000", trailers(call))

    pieces = (LARGE for _ in range(50))
    answer, call = calls.stream_unary("/interop.Echo/Up").with_call(pieces, timeout=PATIENCE)
    check("a stream up", answer == b"50 5000000" and trailers(call)["x-last"] == "50", answer)

    heard = []

    def said():
        """Each is said once the one before has come back."""
        for number in range(100):
            while len(heard) < number:
                time.sleep(0.001)
            yield f"{number}".encode()

    call = calls.stream_stream("/interop.Echo/Both")(said(), timeout=PATIENCE)
    for answer in call:
        heard.append(int(answer))
    check("a stream both ways", heard == list(range(100)) and trailers(call)["x-last"] == "100", heard)


def failures(calls):
    try:
        calls.unary_unary("/interop.Echo/Fail")(b"", timeout=PATIENCE)
        check("a failure", False, "an answer")
    except grpc.RpcError as error:
        is_so = (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "nein, 100 % nicht: ünmöglich")
        check("a failure", is_so and trailers(error).get("x-last") == "why", error)


def ends(calls, name):
    """What the server knew of a call, once that has ended."""
    return json.loads(calls.unary_unary("/interop.Echo/Ended")(name.encode(), timeout=2 * PATIENCE))


def partings(calls, mark):
    late = calls.unary_stream("/interop.Echo/Hang")(f"late{mark}".encode(), timeout=DEADLINE)
    began = time.monotonic()
    try:
        check("a deadline", list(late) is None, "an end")
    except grpc.RpcError as error:
        check("a deadline", error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error)
    ended = ends(calls, f"late{mark}")
    knew = ended is not None and ended["remaining"] is not None and 0 < ended["remaining"] < DEADLINE + 1
    check("the server knows the deadline", knew, ended)
    took = time.monotonic() - began
    check("and is told of it in time", took < DEADLINE + 5, took)

    gone = calls.unary_stream("/interop.Echo/Hang")(f"gone{mark}".encode(), timeout=PATIENCE * 3)
    check("a call under way", next(gone) == b"begun")
    gone.cancel()
    ended = ends(calls, f"gone{mark}")
    check("the server is told of a cancellation", ended is not None, ended)


def main():
    with channel(True) as calls:
        seen = unary(calls)
        streams(calls)
        failures(calls)
        partings(calls, time.monotonic_ns())
    with channel(False) as calls:
        try:
            calls.unary_unary("/interop.Echo/Unary")(b"hello", timeout=PATIENCE)
            check("nobody calls", False, "an answer")
        except grpc.RpcError as error:
            check("nobody calls", error.code() == grpc.StatusCode.PERMISSION_DENIED, error)
    print(json.dumps({"right": right, "wrong": wrong, "seen": seen}))


main()

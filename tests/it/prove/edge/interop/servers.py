"""Upstreams of a WebSocket library's and of gRPC's own, on free ports, which are the first line on stdout.

The gRPC service is written by hand: what it says is bytes, so that no compiler is needed.
"""

import asyncio
import json
import threading
from concurrent import futures

import grpc
import websockets.asyncio.server

IDENTITY = ("client-cert", "client-cert-chain", "wicketgate-assertion", "x-webauth-user")


class Echo(grpc.GenericRpcHandler):
    """The service `interop.Echo`."""

    def __init__(self):
        self.ended = {}
        self.changed = threading.Condition()

    def service(self, call):
        makers = {
            "Unary": (grpc.unary_unary_rpc_method_handler, self.unary),
            "Down": (grpc.unary_stream_rpc_method_handler, self.down),
            "Up": (grpc.stream_unary_rpc_method_handler, self.up),
            "Both": (grpc.stream_stream_rpc_method_handler, self.both),
            "Fail": (grpc.unary_unary_rpc_method_handler, self.fail),
            "Hang": (grpc.unary_stream_rpc_method_handler, self.hang),
            "Ended": (grpc.unary_unary_rpc_method_handler, self.say_ended),
        }
        maker, method = makers[call.method.removeprefix("/interop.Echo/")]
        return maker(method)

    def unary(self, request, context):
        """What came, and who it came from."""
        seen = {name: value for name, value in context.invocation_metadata() if name in IDENTITY}
        context.send_initial_metadata([("x-first", "head")])
        context.set_trailing_metadata([("x-last", "trailer"), ("x-last-bin", b"\0\xff")])
        return json.dumps({"said": request.decode(), "seen": seen}).encode()

    def down(self, request, context):
        """As many messages as were asked for."""
        count = int(request)
        for number in range(count):
            yield f"{number}".encode()
        context.set_trailing_metadata([("x-last", f"{count}")])

    def up(self, requests, context):
        """How many messages came, and how many octets."""
        sizes = [len(request) for request in requests]
        context.set_trailing_metadata([("x-last", f"{len(sizes)}")])
        return f"{len(sizes)} {sum(sizes)}".encode()

    def both(self, requests, context):
        """Each message, before the next one comes."""
        count = 0
        for request in requests:
            count += 1
            yield request
        context.set_trailing_metadata([("x-last", f"{count}")])

    def fail(self, request, context):
        context.set_trailing_metadata([("x-last", "why")])
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "nein, 100 % nicht: ünmöglich")

    def hang(self, request, context):
        """One message, and then nothing until the caller has gone."""
        name, over, remaining = request.decode(), threading.Event(), context.time_remaining()

        def end():
            """Called however the call ends. What follows the yield is not: gRPC leaves the generator where it is if
            the end comes together with the word that the message has gone out."""
            over.set()
            with self.changed:
                self.ended[name] = {"remaining": remaining}
                self.changed.notify_all()

        context.add_callback(end)
        yield b"begun"
        over.wait(60)

    def say_ended(self, request, context):
        """How the call of this name ended, once it has."""
        name = request.decode()
        with self.changed:
            self.changed.wait_for(lambda: name in self.ended, timeout=30)
            return json.dumps(self.ended.get(name)).encode()


async def socket(connection):
    """Says who it came from, then whatever is said to it."""
    headers = connection.request.headers
    await connection.send(json.dumps({name: headers[name] for name in IDENTITY if name in headers}))
    async for message in connection:
        await connection.send(message)


async def main():
    server = grpc.server(futures.ThreadPoolExecutor(16), handlers=[Echo()])
    calls = server.add_insecure_port("127.0.0.1:0")
    server.start()
    async with websockets.asyncio.server.serve(socket, "127.0.0.1", 0) as sockets:
        port = next(iter(sockets.sockets)).getsockname()[1]
        print(json.dumps({"grpc": calls, "websocket": port}), flush=True)
        await sockets.serve_forever()


asyncio.run(main())

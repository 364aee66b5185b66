"""An S3 endpoint that fails as real ones do: a proxy in front of a well server, with faults drawn from a seed."""

import contextlib
import http.client
import random
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

KINDS = ("500", "503", "reset before", "reset after", "reset within", "hang", "slow", "cut", "damage", "expired")
# What goes by without anyone's help.
PASSING = tuple(kind for kind in KINDS if kind != "expired")
# How late an answer comes.
SLOW_S = 0.5
ERRORS = {
    "500": (500, "InternalError", "We encountered an internal error. Please try again."),
    "503": (503, "SlowDown", "Please reduce your request rate."),
    "expired": (400, "ExpiredToken", "The provided token has expired."),
}
# Which only an object has: a list's bytes have no checksum.
OF_BODIES = ("reset within", "cut", "damage")
NOT_PASSED_ON = ("connection", "transfer-encoding", "keep-alive")


class Plan:
    """What happens to which request.

    Args:
        kinds: Of faults, drawn by a seed; an answer is cut or damaged only where it is an object.
        share: Of the requests that are struck.
        start: Requests that are left alone first.
        most: Requests for the same thing that are struck in a row: a short failure goes by.
        hang_s: How long an answer is waited for in vain.
    """

    def __init__(self, kinds=(), share=0.0, seed=0, start=0, most=10**9, hang_s=2.0):
        self.kinds, self.share, self.start, self.most, self.hang_s = kinds, share, start, most, hang_s
        self.draw, self.mutex, self.count = random.Random(seed), threading.Lock(), 0
        self.struck, self.row = {}, {}

    def next(self, method, path):
        """Return the fault of the next request, or nothing: of those that struck least, so that each has its turn."""
        with self.mutex:
            self.count += 1
            hit = self.draw.random() < self.share and self.count > self.start
            an_object = method == "GET" and path.strip("/").count("/") > 0
            kinds = [kind for kind in self.kinds if an_object or kind not in OF_BODIES] if hit else []
            row = self.row[method, path] = self.row.get((method, path), 0) + 1 if kinds else 0
            if not kinds or row > self.most:
                self.row[method, path] = 0
                return ""
            least = min(self.struck.get(kind, 0) for kind in kinds)
            kind = self.draw.choice([kind for kind in kinds if self.struck.get(kind, 0) == least])
            self.struck[kind] = least + 1
            return kind


class Handler(BaseHTTPRequestHandler):
    """Passes a request on, or not; the client's headers stay as they are, for its signature covers `Host`."""

    protocol_version = "HTTP/1.1"

    def handle_any(self):
        length = self.headers.get("Content-Length")
        body = self.rfile.read(int(length)) if length else self.chunks()
        fault = self.server.plan.next(self.command, urlsplit(self.path).path)
        if fault in ERRORS:
            self.refuse(*ERRORS[fault])
        elif fault == "reset before":
            self.reset()
        elif fault == "hang":
            time.sleep(self.server.plan.hang_s)
            self.reset()
        else:
            self.pass_on(body, fault)

    # Names that http.server looks for.
    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

    def chunks(self):
        """Read a body that comes in chunks; return it as it came, its signatures within."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return b""
        whole = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return whole

    def refuse(self, status, code, message):
        data = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def reset(self):
        """Drop the connection with a reset, not an end."""
        linger = (1).to_bytes(4, "little") + bytes(4)
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def pass_on(self, body, fault):
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "transfer-encoding", "content-length", "expect"):
                    upstream.putheader(name, value)
            if body or self.command in ("PUT", "POST"):
                upstream.putheader("Content-Length", str(len(body)))
            upstream.endheaders(body or None)
            answer = upstream.getresponse()
            data = answer.read()
        finally:
            upstream.close()
        if fault == "slow":
            time.sleep(SLOW_S)
        if fault == "reset after":
            return self.reset()
        self.send_response_only(answer.status, answer.reason)
        named = {name.lower() for name, _ in answer.getheaders()}
        for name, value in answer.getheaders():
            if name.lower() not in NOT_PASSED_ON:
                self.send_header(name, value)
        if "content-length" not in named and answer.status not in (204, 304):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        half = len(data) // 2
        if fault == "damage" and data:
            data = data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]
        if fault in ("cut", "reset within"):
            self.wfile.write(data[:half])
            self.wfile.flush()
            self.close_connection = True
            return self.reset() if fault == "reset within" else None
        self.wfile.write(data)
        return None

    def log_message(self, *_):
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Serves each client in a thread; a client that is gone is no error."""

    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """Say nothing."""


@contextlib.contextmanager
def proxy(upstream):
    """Yield a proxy's endpoint and the server, whose `plan` may be replaced at any time.

    Args:
        upstream: Endpoint of the server behind it, `http://host:port`.
    """
    server = Server(("127.0.0.1", 0), Handler)
    server.upstream, server.plan = urlsplit(upstream).netloc, Plan()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

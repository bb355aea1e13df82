"""Upstream servers in threads. They record each request and answer by a script; without one they answer
200 with their name as the body.

A script is a list with one step for each request, in order of arrival. A step is a dict:
  status, reason, headers, body, trailers, chunked     an ordinary answer
  raw: bytes (str with \\r\\n), then close / reset / hang: exactly these bytes
  raw, then echo: True                                 a tunnel: all that comes goes back
  close | reset | hang: True                           alone: no answer at all
  early: True                                          answer before the body was read
or a function (connection, request) that does what it likes.
"""
import socket
import struct
import threading

from harness import http1


class Request:
    def __init__(self, line, headers, raw_head, connection):
        self.line, self.headers, self.raw_head, self.connection = line, headers, raw_head, connection
        self.method, self.path, self.version = (line.split(" ") + ["", "", ""])[:3]
        self.body, self.trailers, self.whole = b"", [], False

    def header(self, name, default=None):
        return http1.field(self.headers, name, default)

    def all(self, name):
        return [v for k, v in self.headers if k.lower() == name.lower()]


class Connection:
    """The upstream's side of one connection."""

    def __init__(self, sock, number):
        self.sock, self.number, self.reader = sock, number, http1.Reader(sock)

    def send(self, data):
        self.sock.sendall(data.encode("latin-1") if isinstance(data, str) else data)

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def hang(self):
        self.reader.to_end()

    def echo(self):
        """Every byte back, until the other side ends."""
        while True:
            if not self.reader.buffer:
                self.reader.fill()
            data, self.reader.buffer = self.reader.buffer, b""
            self.send(data)

    def read_request(self):
        raw = self.reader.until(b"\r\n\r\n")
        line, headers = http1.parse_head(raw)
        return Request(line, headers, raw, self.number)

    def read_body(self, request):
        if "chunked" in (request.header("transfer-encoding") or "").lower():
            request.body, request.trailers = http1.read_chunked(self.reader)
        else:
            request.body = self.reader.exactly(int(request.header("content-length") or 0))
        request.whole = True

    def answer(self, step, request, name):
        """Sends an ordinary answer. True if the connection may be used again."""
        body = step.get("body", name)
        body = body.encode("latin-1") if isinstance(body, str) else body
        fields = step.get("headers", {})
        fields = list(fields.items() if isinstance(fields, dict) else fields)
        status = step.get("status", 200)
        names = {k.lower() for k, _ in fields}
        bare = status in (204, 304) or status < 200
        in_chunks = step.get("chunked") or step.get("trailers")
        if in_chunks:
            fields.append(("transfer-encoding", "chunked"))
        elif not bare and "content-length" not in names:
            fields.append(("content-length", len(body)))
        data = http1.head(f"HTTP/1.1 {status} {step.get('reason', 'OK')}", fields)
        if request.method != "HEAD" and not bare:
            trailers = step.get("trailers", {})
            data += http1.chunked(body, trailers.items()) if in_chunks else body
        self.send(data)
        return (http1.field(fields, "connection") or "").lower() != "close"


class Upstream:
    """A server on a port of its own; `requests` is what came, whole or not."""

    def __init__(self, name="a", script=(), handler=None, host="127.0.0.1", backlog=1024):
        self.name, self.script, self.handler = name, list(script), handler
        self.lock = threading.Lock()
        self.requests, self.connections, self.open = [], 0, set()
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind((host, 0))
        self.sock.listen(backlog)
        self.port = self.sock.getsockname()[1]
        self.stopped = False
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.connections += 1
                connection = Connection(sock, self.connections)
                self.open.add(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            if self.handler:
                self.handler(connection)
            else:
                while self.one(connection):
                    pass
        except (OSError, ValueError, EOFError):
            pass
        finally:
            connection.sock.close()
            with self.lock:
                self.open.discard(connection)

    def one(self, connection):
        """Reads and answers one request. True if another may follow."""
        request = connection.read_request()
        with self.lock:
            step = self.script.pop(0) if self.script else {}
            self.requests.append(request)
        if callable(step):
            connection.read_body(request)
            return step(connection, request)
        if not step.get("early"):
            connection.read_body(request)
        if "raw" in step:
            connection.send(step["raw"])
        if step.get("reset"):
            connection.reset()
        if step.get("reset") or step.get("close"):
            return False
        if step.get("hang"):
            connection.hang()
            return False
        if step.get("echo"):
            connection.echo()
            return False
        if "raw" in step:
            return True
        again = connection.answer(step, request, self.name)
        if step.get("early"):
            connection.read_body(request)
        return again

    def play(self, *steps):
        """The script for the next requests; forgets what was left and what came before."""
        with self.lock:
            self.script, self.requests = list(steps), []

    def close_connections(self):
        with self.lock:
            for connection in list(self.open):
                try:
                    connection.sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def stop(self):
        """No new connections; the open ones are closed."""
        if not self.stopped:
            self.stopped = True
            try:
                self.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self.sock.close()
            self.close_connections()


def closed_port():
    """(socket, port): a port that refuses connections as long as the socket is kept."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock, sock.getsockname()[1]

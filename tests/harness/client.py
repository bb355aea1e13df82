"""A raw HTTP/1 client: what is sent is what the test wrote, what came is kept byte for byte."""
import socket

from harness import http1

READ_SECONDS = 60


class Response:
    """One parsed response. `complete` is False when the connection ended inside it."""

    def __init__(self):
        self.version = self.reason = ""
        self.status = 0
        self.headers, self.trailers, self.interim = [], [], []
        self.body, self.complete = b"", False

    def header(self, name, default=None):
        return http1.field(self.headers, name, default)

    def all(self, name):
        return [v for k, v in self.headers if k.lower() == name.lower()]

    @property
    def text(self):
        return self.body.decode("latin-1")

    def __repr__(self):
        return f"<{self.status} {self.reason} {self.headers} {self.body[:200]!r} complete={self.complete}>"


class Client:
    """One connection. Use it with `with`."""

    def __init__(self, port, host="127.0.0.1", source=None):
        address = (source, 0) if source else None
        self.sock = socket.create_connection((host, port), READ_SECONDS, source_address=address)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = http1.Reader(self.sock)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    @property
    def port(self):
        return self.sock.getsockname()[1]

    def send(self, data):
        """Sends all; a peer that closed already is not an error here: its answer is what counts."""
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def head(self):
        """The next head as (first line, fields); raises Closed."""
        return http1.parse_head(self.reader.until(b"\r\n\r\n"))

    def read(self, method="GET"):
        """The next final response; 1xx answers before it are in .interim. Raises Closed when no head came."""
        response = Response()
        while True:
            line, fields = self.head()
            parts = line.split(" ", 2)
            response.version, response.status = parts[0], int(parts[1])
            response.reason = parts[2] if len(parts) > 2 else ""
            if 100 <= response.status < 200 and response.status != 101:
                response.interim.append((response.status, fields))
                continue
            break
        response.headers = fields
        try:
            self.body(response, method)
        except http1.Closed as closed:
            response.body += closed.got
            self.reader.buffer = b""
        return response

    def body(self, response, method):
        if method == "HEAD" or response.status in (101, 204, 304) or (method == "CONNECT" and response.status // 100 == 2):
            response.complete = True
            return
        if "chunked" in (response.header("transfer-encoding") or "").lower():
            while True:
                size = int(self.reader.until(b"\r\n").split(b";")[0], 16)
                if size == 0:
                    break
                response.body += self.reader.exactly(size)
                self.reader.exactly(2)
            while True:
                line = self.reader.until(b"\r\n")
                if line == b"\r\n":
                    break
                name, _, value = line.decode("latin-1").strip().partition(":")
                response.trailers.append((name, value.strip()))
            response.complete = True
        elif response.header("content-length") is not None:
            response.body = self.reader.exactly(int(response.header("content-length")))
            response.complete = True
        else:
            response.body, reset = self.reader.to_end()
            response.complete = not reset

    def request(self, method="GET", path="/", headers=(), body=None, host="test", version="HTTP/1.1"):
        """Sends one request with exactly these headers (plus host and content-length), returns its response."""
        self.send(request_bytes(method, path, headers, body, host, version))
        return self.read(method)

    def at_end(self):
        """Waits until the peer closes; gives back the bytes that still came."""
        return self.reader.to_end()[0]


def request_bytes(method="GET", path="/", headers=(), body=None, host="test", version="HTTP/1.1"):
    fields = list(headers.items() if isinstance(headers, dict) else headers)
    names = {k.lower() for k, _ in fields}
    if host is not None and "host" not in names:
        fields.insert(0, ("host", host))
    data = body.encode("latin-1") if isinstance(body, str) else body or b""
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        fields.append(("content-length", str(len(data))))
    return http1.head(f"{method} {path} {version}", fields) + data


def get(port, path="/", **more):
    """One request over a connection of its own."""
    with Client(port) as client:
        return client.request(more.pop("method", "GET"), path, **more)

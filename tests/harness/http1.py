"""HTTP/1 bytes, read plainly: heads, chunked and counted bodies. Used by the client and the scripted upstream.

It is deliberately not a library: a test must see the bytes as they came.
"""


class Closed(EOFError):
    """The peer closed (or reset) before the message was whole; .got holds what had come."""

    def __init__(self, got=b"", reset=False):
        super().__init__(f"closed after {got[-200:]!r}")
        self.got, self.reset = got, reset


class Reader:
    """Buffered reads from a socket; .raw keeps every byte that came."""

    def __init__(self, sock):
        self.sock, self.buffer, self.raw = sock, b"", b""

    def fill(self):
        try:
            data = self.sock.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            raise Closed(self.buffer, reset=True) from None
        if not data:
            raise Closed(self.buffer)
        self.raw += data
        self.buffer += data

    def until(self, mark):
        while mark not in self.buffer:
            self.fill()
        head, self.buffer = self.buffer.split(mark, 1)
        return head + mark

    def exactly(self, count):
        while len(self.buffer) < count:
            self.fill()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def to_end(self):
        try:
            while True:
                self.fill()
        except Closed as closed:
            data, self.buffer = self.buffer, b""
            return data, closed.reset


def parse_head(head):
    """(first line, [(name, value)...]) of the bytes of a head; names keep their case."""
    lines = head.decode("latin-1").split("\r\n")
    fields = []
    for line in lines[1:]:
        if line:
            name, _, value = line.partition(":")
            fields.append((name, value.strip()))
    return lines[0], fields


def field(fields, name, default=None):
    """The first value of a header, whatever its case."""
    for key, value in fields:
        if key.lower() == name.lower():
            return value
    return default


def read_chunked(reader):
    """(body, trailers) of a chunked message."""
    body = b""
    while True:
        size = int(reader.until(b"\r\n").split(b";")[0].strip(), 16)
        if size == 0:
            trailers = []
            while True:
                line = reader.until(b"\r\n")
                if line == b"\r\n":
                    return body, trailers
                name, _, value = line.decode("latin-1").strip().partition(":")
                trailers.append((name, value.strip()))
        body += reader.exactly(size)
        if reader.exactly(2) != b"\r\n":
            raise ValueError("a chunk does not end with CRLF")


def chunked(body, trailers=(), size=0):
    """The bytes of `body` in chunks (of `size`, or one)."""
    out = b""
    step = size or len(body)
    for at in range(0, len(body), step or 1):
        part = body[at:at + step]
        out += b"%x\r\n" % len(part) + part + b"\r\n"
    out += b"0\r\n" + b"".join(f"{n}: {v}\r\n".encode("latin-1") for n, v in trailers)
    return out + b"\r\n"


def head(first, fields):
    """The bytes of a message's head."""
    return (first + "\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields) + "\r\n").encode("latin-1")

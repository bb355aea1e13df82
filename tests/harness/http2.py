"""HTTP/2 in the raw: a frame writer that writes whatever the test wants (also what no peer should), a reader that keeps
every frame, a client and a scripted upstream. Header blocks go out as plain literals; what comes is read with `hpack`.
"""
import select
import socket
import struct

import hpack

from harness import http1
from harness.client import READ_SECONDS, Response
from harness.upstream import Request, Upstream

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 1, 1, 4, 8, 32
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR, \
    REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(12)
MAX_FRAME = 16384
WINDOW = 2**31 - 1


# --- writing ---

def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def integer(value, bits, first=0):
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    out, value = [first | most], value - most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + [value])


def octets(text):
    return text.encode("latin-1") if isinstance(text, str) else text


def literal(name, value):
    """A field without indexing, without Huffman code: the very bytes."""
    name, value = octets(name), octets(value)
    return b"\0" + integer(len(name), 7) + name + integer(len(value), 7) + value


def block(fields):
    return b"".join(literal(n, v) for n, v in fields)


def headers(stream, fields, end=True, flags=0):
    """HEADERS and the CONTINUATION frames that it takes."""
    data = fields if isinstance(fields, bytes) else block(fields)
    parts = [data[at:at + MAX_FRAME] for at in range(0, len(data), MAX_FRAME)] or [b""]
    out = b""
    for number, part in enumerate(parts):
        last = END_HEADERS if number + 1 == len(parts) else 0
        out += frame(CONTINUATION if number else HEADERS, last | (0 if number else flags | (END_STREAM if end else 0)), stream, part)
    return out


def data(stream, payload=b"", end=True):
    payload = octets(payload)
    parts = [payload[at:at + MAX_FRAME] for at in range(0, len(payload), MAX_FRAME)] or [b""]
    return b"".join(frame(DATA, END_STREAM if end and n + 1 == len(parts) else 0, stream, p) for n, p in enumerate(parts))


def settings(*pairs):
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", k, v) for k, v in pairs))


def reset(stream, code=CANCEL):
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def goaway(last=0, code=NO_ERROR, debug=b""):
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code) + debug)


def window(stream, amount):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", amount))


def request_fields(method="GET", path="/", host="test", more=(), scheme="http"):
    return [(":method", method), (":scheme", scheme), (":path", path), (":authority", host), *more]


# --- reading ---

class Frame:
    def __init__(self, kind, flags, stream, payload):
        self.kind, self.flags, self.stream, self.payload = kind, flags, stream, payload

    @property
    def code(self):
        at = 4 if self.kind == GOAWAY else 0
        return struct.unpack(">I", self.payload[at:at + 4])[0]

    @property
    def last(self):
        return struct.unpack(">I", self.payload[:4])[0]


class Message(Response):
    """What came on one stream."""

    def __init__(self):
        super().__init__()
        self.version = "HTTP/2"
        self.ended, self.reset, self.pseudo, self.head_seen = False, None, {}, False

    def add_head(self, fields):
        if self.head_seen:
            self.trailers += fields
            return
        self.pseudo = dict(f for f in fields if f[0].startswith(":"))
        plain = [f for f in fields if not f[0].startswith(":")]
        status = int(self.pseudo.get(":status", 0))
        if 100 <= status < 200 and status != 101:
            self.interim.append((status, plain))
            return
        self.status, self.headers, self.head_seen = status, plain, True


class Peer:
    """One side of a connection. `quiet`: answers nothing by itself (no acks, no window)."""

    def __init__(self, sock, quiet=False):
        self.sock, self.quiet = sock, quiet
        self.reader, self.decoder = http1.Reader(sock), hpack.Decoder()
        self.decoder.max_header_list_size = 2**24
        self.streams, self.frames, self.block = {}, [], b""
        self.goaway, self.closed, self.fresh = None, False, []
        self.initial, self.windows = 65535, {0: 65535}  # what the peer takes from us

    def send(self, bytes_out):
        try:
            self.sock.sendall(bytes_out)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def close(self):
        self.sock.close()

    def message(self, stream):
        if stream not in self.streams:
            self.streams[stream] = Message()
        return self.streams[stream]

    def read_frame(self):
        """The next frame, noted; None when the connection has ended."""
        try:
            head = self.reader.exactly(9)
            payload = self.reader.exactly(int.from_bytes(head[:3], "big"))
        except (http1.Closed, OSError):
            self.closed = True
            return None
        got = Frame(head[3], head[4], struct.unpack(">I", head[5:])[0] & 0x7fffffff, payload)
        self.frames.append(got)
        self.note(got)
        return got

    def note(self, got):
        if got.kind in (HEADERS, CONTINUATION):
            self.note_block(got)
        elif got.kind == DATA:
            message = self.message(got.stream)
            message.body += got.payload[1:len(got.payload) - got.payload[0]] if got.flags & PADDED else got.payload
            message.ended |= bool(got.flags & END_STREAM)
            if got.payload and not self.quiet:
                self.send(window(0, len(got.payload)) + (b"" if message.ended else window(got.stream, len(got.payload))))
        elif got.kind == WINDOW_UPDATE:
            self.windows[got.stream] = self.room(got.stream) + struct.unpack(">I", got.payload)[0]
        elif got.kind == RST_STREAM:
            message = self.message(got.stream)
            message.ended, message.reset = True, got.code
        elif got.kind == GOAWAY:
            self.goaway = got
        if got.kind == SETTINGS and not got.flags & ACK:
            for at in range(0, len(got.payload), 6):
                key, value = struct.unpack(">HI", got.payload[at:at + 6])
                if key == 4:
                    self.windows = {s: w + (value - self.initial if s else 0) for s, w in self.windows.items()}
                    self.initial = value
        if got.kind in (SETTINGS, PING) and not got.flags & ACK and not self.quiet:
            self.send(frame(got.kind, ACK, 0, got.payload if got.kind == PING else b""))

    def room(self, stream):
        return self.windows.get(stream, self.initial)

    def send_body(self, stream, payload, end=True):
        """DATA as fast as the peer's windows allow; False if it ended before."""
        payload, message = octets(payload), self.message(stream)
        while payload:
            if not self.until(lambda: min(self.room(0), self.room(stream)) > 0 or message.reset is not None) or message.reset is not None:
                return False
            count = min(len(payload), self.room(0), self.room(stream))
            for key in (0, stream):
                self.windows[key] = self.room(key) - count
            part, payload = payload[:count], payload[count:]
            self.send(data(stream, part, end and not payload))
        return True

    def note_block(self, got):
        part = got.payload
        if got.kind == HEADERS:
            self.ends = bool(got.flags & END_STREAM)
            if got.flags & PADDED:
                part = part[1:len(part) - part[0]]
            if got.flags & WITH_PRIORITY:
                part = part[5:]
        self.block += part
        if not got.flags & END_HEADERS:
            return
        fields = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in self.decoder.decode(self.block, raw=True)]
        self.block = b""
        if got.stream not in self.streams:
            self.fresh.append(got.stream)
        message = self.message(got.stream)
        message.add_head(fields)
        message.ended |= self.ends

    def until(self, done):
        """Reads frames until done() holds; False if the connection ended before."""
        while not done():
            if self.read_frame() is None:
                return done()
        return True

    def ping(self):
        """Everything sent before was seen by the peer when this comes back; False if the connection ended."""
        before = sum(1 for f in self.frames if f.kind == PING and f.flags & ACK)
        self.send(frame(PING, 0, 0, b"pingping"))
        return self.until(lambda: sum(1 for f in self.frames if f.kind == PING and f.flags & ACK) > before)

    def wait(self, stream):
        """The message of a stream, once it is whole or broken off."""
        message = self.message(stream)
        self.until(lambda: message.ended)
        message.complete = message.ended and message.reset is None
        return message

    def drain(self):
        """Reads what is there already, without waiting."""
        while not self.closed and select.select([self.sock], [], [], 0)[0]:
            self.read_frame()


class Client(Peer):
    """A connection to a server. Use it with `with`."""

    def __init__(self, port, host="127.0.0.1", source=None, quiet=False, pairs=(), preface=True, wrap=None):
        address = (source, 0) if source else None
        sock = socket.create_connection((host, port), READ_SECONDS, source_address=address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().__init__(wrap(sock) if wrap else sock, quiet)
        self.next = 1
        if preface:
            self.send(PREFACE + settings(*pairs) + window(0, WINDOW - 65535))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def port(self):
        return self.sock.getsockname()[1]

    def open(self, fields, end=True):
        """Sends a head on a new stream; its number."""
        stream = self.next
        self.next += 2
        self.send(headers(stream, fields, end))
        return stream

    def start(self, method="GET", path="/", more=(), body=None, host="test", trailers=None, scheme="http"):
        stream = self.open(request_fields(method, path, host, more, scheme), body is None and trailers is None)
        if body is not None:
            self.send(data(stream, body, trailers is None))
        if trailers is not None:
            self.send(headers(stream, trailers))
        return stream

    def request(self, *args, **more):
        return self.wait(self.start(*args, **more))

    def at_end(self):
        """Waits until the peer closes; gives back what it said about streams before."""
        told = len(self.frames)
        self.until(lambda: False)
        return b"".join(f.payload for f in self.frames[told:] if f.kind in (HEADERS, DATA, RST_STREAM))


class Server(Peer):
    """The upstream's side of one connection."""

    def __init__(self, sock, number, pairs=((3, 100),)):
        super().__init__(sock)
        self.number = number
        self.reader.exactly(len(PREFACE))
        self.send(settings(*pairs) + window(0, WINDOW - 65535))

    def hang(self):
        self.until(lambda: False)

    def next_request(self):
        """The number of the next stream that was opened; None at the end."""
        if not self.until(lambda: self.fresh):
            return None
        return self.fresh.pop(0)

    def answer(self, stream, step, name):
        body = octets(step.get("body", name))
        fields = step.get("headers", {})
        fields = [(k, str(v)) for k, v in (fields.items() if isinstance(fields, dict) else fields)]
        status = step.get("status", 200)
        trailers = step.get("trailers")
        if not trailers and "no_length" not in step and status >= 200 and status not in (204, 304):
            fields.append(("content-length", str(len(body))))
        head = self.message(stream).pseudo.get(":method") == "HEAD" or status in (204, 304)
        only = step.get("only_headers") or head or not body and not trailers
        out = headers(stream, [(":status", str(status)), *fields], only)
        if not only:
            out += data(stream, body, not trailers)
            if trailers:
                out += headers(stream, list(trailers.items()))
        self.send(out)

    def echo(self, stream, fields=()):
        """Opens a tunnel: 200, then every byte back, until the other side ends it."""
        message = self.message(stream)
        self.send(headers(stream, [(":status", "200"), *fields], False))
        sent = 0
        while True:
            if len(message.body) > sent:
                self.send(data(stream, message.body[sent:], False))
                sent = len(message.body)
            if message.ended:
                self.send(data(stream, b"", True) if message.reset is None else b"")
                return
            if self.read_frame() is None:
                return


class Upstream2(Upstream):
    """An HTTP/2 upstream: `requests` and `script` as those of Upstream. More steps: reset: code, goaway: [last, code] (last may be "this"),
    frames: bytes or a function of the stream's number, early: an answer before the request is whole, tunnel: echo."""

    def __init__(self, name="a", pairs=((3, 100),), **more):
        self.pairs = pairs
        super().__init__(name, **more)

    def serve(self, connection):
        try:
            server = Server(connection.sock, connection.number, self.pairs)
            if self.handler:
                self.handler(server)
            else:
                while self.one(server):
                    pass
        except (OSError, ValueError, EOFError, hpack.HPACKError):
            pass
        finally:
            connection.sock.close()
            with self.lock:
                self.open.discard(connection)

    def one(self, server):
        stream = server.next_request()
        if stream is None:
            return False
        message = server.message(stream)
        pseudo = message.pseudo
        line = f"{pseudo.get(':method')} {pseudo.get(':path', '')} HTTP/2"
        request = Request(line, [(k, v) for k, v in pseudo.items() if k not in (":method", ":path")] + message.headers, b"", server.number)
        with self.lock:
            step = self.script.pop(0) if self.script else {}
            self.requests.append(request)
        if not isinstance(step, dict):
            return step(server, stream, request)
        if step.get("tunnel"):
            server.echo(stream, list(step.get("headers", {}).items()))
            return True  # what came through the tunnel is no body; it was the client's to read
        if step.get("early"):
            server.answer(stream, step, self.name)
        if "early" not in step and pseudo.get(":method") != "CONNECT":
            server.wait(stream)
        request.body, request.trailers, request.whole = message.body, message.trailers, message.reset is None
        return step.get("early") or self.play_step(server, stream, step)

    def play_step(self, server, stream, step):
        for interim in step.get("interim", ()):
            server.send(headers(stream, [(":status", str(interim))], False))
        if "frames" in step:
            server.send(step["frames"](stream) if callable(step["frames"]) else step["frames"])
        if "goaway" in step:
            last, code = step["goaway"]
            server.send(goaway(stream if last == "this" else last, code))
        if "reset" in step:
            if step.get("begun"):
                server.send(headers(stream, [(":status", "200")], False) + data(stream, step.get("body", ""), False))
                server.ping()  # the proxy has passed it on
            server.send(reset(stream, step["reset"]))
        elif step.get("hang"):
            return True  # this stream has no answer; others go on
        elif not step.get("close") and "frames" not in step:
            server.answer(stream, step, self.name)
        return not step.get("close")

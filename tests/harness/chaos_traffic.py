"""Traffic of chaos: servers that behave and servers that do not, clients likewise. Every wait is bounded."""
import os
import random
import socket
import ssl
import struct
import threading
import time

from harness import client, http1, http2
from harness.upstream import Connection, Upstream

PATIENCE = 3  # seconds that a wild client waits for anything


class Pushback:
    """A socket whose first bytes were read already."""

    def __init__(self, sock, data):
        self.sock, self.data = sock, data

    def recv(self, count):
        if self.data:
            out, self.data = self.data[:count], self.data[count:]
            return out
        return self.sock.recv(count)

    def __getattr__(self, name):
        return getattr(self.sock, name)


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Server(Upstream):
    """Speaks what the client speaks: TLS or not, HTTP/1, HTTP/2, anything else is echoed. `wild`: now and then it misbehaves."""

    def __init__(self, name, leaf, rng=None):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(leaf.cert, leaf.key)
        self.context.set_alpn_protocols(["h2", "http/1.1"])
        self.rng = rng
        super().__init__(name)

    def serve(self, connection):
        sock = connection.sock
        try:
            sock.settimeout(20)
            how = self.rng.random() if self.rng else 1
            if how < 0.04:
                return reset(sock)
            if how < 0.08:
                return sock.close()
            if sock.recv(1, socket.MSG_PEEK) == b"\x16":
                sock = self.context.wrap_socket(sock, server_side=True)
            first = sock.recv(65536)
            if self.rng and self.rng.random() < 0.25:
                self.misbehave(sock, first)
            elif first:
                self.speak(Pushback(sock, first), first, connection.number)
        except (OSError, ValueError, EOFError, IndexError, struct.error, http2.hpack.HPACKError):
            pass
        finally:
            sock.close()
            with self.lock:
                self.open.discard(connection)

    def speak(self, sock, first, number):
        if first.startswith(b"PRI"):
            server = http2.Server(sock, number, ((3, self.rng.choice((1, 2, 100))),) if self.rng else ((3, 100),))
            while self.one2(server):
                pass
        elif b" " in first[:12] and first[:3].isalpha():
            wire = plain(sock, number)
            while self.one1(wire):
                pass
        else:
            while data := sock.recv(65536):
                sock.sendall(data)

    def misbehave(self, sock, first):
        rng = self.rng
        two = http2.settings() if first.startswith(b"PRI") else b""
        how = rng.randrange(9)
        if how == 0:
            sock.sendall(two + rng.randbytes(rng.randrange(1, 3000)))
        elif how == 1:
            sock.settimeout(0.5)
            sock.recv(1)
        elif how == 2:
            sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        elif how == 3:
            sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and more than that")
        elif how == 4:
            sock.sendall(two + http2.headers(1, [(":status", "200")], False) + http2.data(1, b"x" * 1000, False))
        elif how == 5:
            sock.sendall(two + http2.goaway(rng.choice((0, 1, 3)), rng.choice((0, 2, 11))))
            time.sleep(0.05)
        elif how == 6:
            sock.sendall(two + b"".join(http2.reset(s, rng.choice((7, 8, 2))) for s in (1, 3, 5)))
            time.sleep(0.05)
        elif how == 7:
            sock.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz")
        else:
            sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if rng.random() < 0.5:
            reset(sock)

    def plan(self, method):
        """An answer: a step of harness/upstream.py."""
        rng = self.rng
        if not rng:
            return {}
        how = rng.randrange(14)
        return ({"body": "x" * 300000}, {"body": "y" * 70000, "chunked": True}, {"status": 503}, {"trailers": {"x-t": "1"}, "body": "t"}, {"status": 204},
                {"headers": {"connection": "close"}}, {"status": 302, "headers": {"location": "/a"}}, {"early": True, "status": 413}, {"hang": True}, {"cut": True},
                {"interim": (103,)})[how] if how < 11 else {}

    def one1(self, wire):
        request = wire.read_request()
        step = self.plan(request.method)
        if step.get("hang"):
            time.sleep(self.rng.random() * 0.3)
            return False
        if request.method == "CONNECT" or request.header("upgrade"):
            accepted = not self.rng or self.rng.random() < 0.8
            if accepted:
                wire.send("HTTP/1.1 200 OK\r\n\r\n" if request.method == "CONNECT" else "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
                wire.echo()
                return False
        if not step.get("early"):
            wire.read_body(request)
        for code in step.get("interim", ()):
            wire.send(f"HTTP/1.1 {code} Early\r\nlink: x\r\n\r\n")
        if step.get("cut"):
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
            return False
        return wire.answer(step, request, self.name) and not step.get("early")

    def one2(self, server):
        stream = server.next_request()
        if stream is None:
            return False
        message = server.message(stream)
        step = self.plan(message.pseudo.get(":method"))
        if message.pseudo.get(":method") == "CONNECT":
            server.echo(stream)
            return True
        if step.get("hang"):
            return True
        if step.get("cut"):
            server.send(http2.headers(stream, [(":status", "200")], False) + http2.data(stream, b"abc", False) + http2.reset(stream, self.rng.choice((0, 2, 7, 8))))
            return True
        if self.rng and self.rng.random() < 0.05:
            server.send(http2.goaway(stream, 0))
        if not step.get("early"):
            server.wait(stream)
        for code in step.get("interim", ()):
            server.send(http2.headers(stream, [(":status", str(code))], False))
        if len(step.get("body", "")) > 10000:
            server.send(http2.headers(stream, [(":status", "200")], False))
            server.send_body(stream, step["body"])
            return True
        server.answer(stream, {k: v for k, v in step.items() if k != "headers"}, self.name)
        return True


def plain(sock, number):
    """The upstream's side of an HTTP/1 connection over any kind of socket."""
    return Connection(sock, number)


class Udp:
    """Answers each datagram with none, one or two; `port` is its own."""

    def __init__(self, rng):
        self.rng, self.sock = rng, socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                data, peer = self.sock.recvfrom(65536)
                for _ in range(self.rng.randrange(3)):
                    self.sock.sendto(data, peer)
            except OSError:
                return

    def stop(self):
        self.sock.close()


class Worker(threading.Thread):
    """Calls once() until stopped; what it must not throw is in `bad`."""

    def __init__(self, once):
        super().__init__(daemon=True)
        self.once, self.running, self.bad, self.count = once, True, [], 0
        self.start()

    def run(self):
        while self.running:
            begin = time.monotonic()
            try:
                self.once()
                self.count += 1
            except Exception as error:  # noqa: BLE001 whatever it is, the test tells it
                self.bad.append((time.monotonic() - begin, repr(error)))
                time.sleep(0.05)

    def stop(self):
        self.running = False
        self.join(90)
        assert not self.is_alive(), f"{self.once} hangs"


class Good:
    """Keeps asking for /good over HTTP/1; a kept connection that ended before it answered is asked anew, a fresh one never.
    What waited longer than the drain time may be cut off."""

    DRAIN_SECONDS = 3

    def __init__(self, port):
        self.port, self.kept = port, None

    def once(self):
        fresh = self.kept is None
        self.kept = self.kept or client.Client(self.port)
        self.kept.sock.settimeout(60)
        try:
            response = self.kept.request("GET", "/good")
        except (EOFError, OSError) as error:
            self.kept.close()
            self.kept = None
            if fresh or getattr(error, "got", b""):
                raise
            return
        if response.header("connection") == "close" or random.random() < 0.05:
            self.kept.close()
            self.kept = None
        check_good(response, response.complete)


class Good2:
    """The same over HTTP/2: what a GOAWAY leaves out is asked anew."""

    def __init__(self, port):
        self.port, self.kept = port, None

    def once(self):
        fresh = self.kept is None
        self.kept = self.kept or http2.Client(self.port)
        self.kept.sock.settimeout(60)
        stream = self.kept.start(path="/good")
        message = self.kept.message(stream)
        ended = self.kept.until(lambda: message.ended or self.kept.goaway and self.kept.goaway.last < stream)
        away = self.kept.goaway
        if away or not ended or random.random() < 0.05:
            self.kept.close()
            self.kept = None
        if not message.ended and (away and away.last < stream or not fresh and not message.head_seen and not away):
            return
        if not message.ended:
            raise AssertionError(f"stream {stream} has no answer; goaway {away and (away.last, away.code)}, fresh {fresh}, head {message.head_seen}")
        check_good(message, message.reset is None)


def check_good(response, whole):
    if response.status != 200 or not whole or response.body != b"good":
        raise AssertionError(f"{response} reset {getattr(response, 'reset', None)}")


class Wild:
    """A client that does anything to any of the ports."""

    def __init__(self, rng, ports, sessions=None):
        self.rng, self.ports, self.sessions = rng, ports, {} if sessions is None else sessions
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self.context2 = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context2.check_hostname, self.context2.verify_mode = False, ssl.CERT_NONE
        self.context2.maximum_version = ssl.TLSVersion.TLSv1_2
        self.answers = 0

    def once(self):
        ports = self.ports()
        if not ports:
            time.sleep(0.05)
            return
        port = self.rng.choice(ports)
        sock = None
        try:
            sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
            sock.settimeout(PATIENCE)
            if self.rng.random() < 0.1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            if self.rng.random() < 0.05:
                sock.sendall(b"PROXY TCP4 1.2.3.4 127.0.0.1 56324 %d\r\n" % port)
            if self.rng.random() < 0.3:
                sock = self.tls(sock, port)
            self.rng.choice((self.h1, self.h1, self.h1, self.h2, self.h2, self.tunnel, self.raw, self.rubbish))(sock)
            self.end(sock)
        except (OSError, ValueError, EOFError, IndexError, struct.error, http2.hpack.HPACKError):
            pass
        finally:
            if sock:
                sock.close()

    def end(self, sock):
        how = self.rng.random()
        if how < 0.2:
            reset(sock)
        elif how < 0.4:
            sock.shutdown(socket.SHUT_WR)
            sock.settimeout(0.2)
            while sock.recv(65536):
                pass

    def tls(self, sock, port):
        if self.rng.random() < 0.1:
            sock.sendall(b"\x16\x03\x01\x00\xa5\x01" + self.rng.randbytes(self.rng.randrange(100)))
            return sock
        context = self.rng.choice((self.context, self.context2))
        context.set_alpn_protocols(self.rng.choice((["h2", "http/1.1"], ["h2"], ["http/1.1"])))
        session = self.sessions.get((port, context)) if self.rng.random() < 0.7 else None
        try:
            out = context.wrap_socket(sock, server_hostname=self.rng.choice(("a.example", "b.example", "c0")), session=session)
        except ValueError:
            sock.close()
            raise
        self.sessions[(port, context)] = out.session
        return out

    def head(self):
        rng = self.rng
        method = rng.choice(("GET", "GET", "GET", "POST", "HEAD", "PUT", "OPTIONS"))
        path = rng.choice(("/", "/a", "/b", "/c/x", "/d/y", "/good", "/healthz", "/%2e%2e/x", "/a?q=" + "z" * rng.randrange(200)))
        host = rng.choice(("test", "a.com", "v1.com", "v2.com", "localhost:1", "x", "a.test:%d" % rng.choice(self.ports() or [1]), "gone.test", "silent.test"))
        more = [("x-hash", str(rng.randrange(100))), ("x-cluster", rng.choice(("good", "c0", "c1", "nobody")))]
        if rng.random() < 0.2:
            more.append(("accept-encoding", "gzip"))
        if rng.random() < 0.1:
            more.append(("cookie", "stick=\"1\"; a=b"))
        if rng.random() < 0.1:
            more.append(("x-envoy-upstream-rq-timeout-ms", str(rng.randrange(1, 50))))
        if rng.random() < 0.1:
            more.append(("x-envoy-original-dst-host", "127.0.0.1:%d" % rng.choice(self.ports() or [1])))
        return method, path, host, more

    def h1(self, sock):
        rng, wire = self.rng, client.Client.__new__(client.Client)
        wire.sock, wire.reader = sock, http1.Reader(sock)
        for _ in range(rng.randrange(1, 5)):
            count, methods, out = rng.choice((1, 1, 1, 3, 8)), [], b""
            for _ in range(count):
                method, path, host, more = self.head()
                if rng.random() < 0.1:
                    more.append(("expect", "100-continue"))
                body = rng.randbytes(rng.choice((0, 10, 5000, 200000))) if method in ("POST", "PUT") else None
                if body is not None and rng.random() < 0.5:
                    more.append(("transfer-encoding", "chunked"))
                    body = http1.chunked(body, (("x-trailer", "1"),) if rng.random() < 0.3 else (), 1000)
                out += client.request_bytes(method, path, more, body, host)
                methods.append(method)
            if rng.random() < 0.15:
                out = out[:rng.randrange(len(out))]
            self.send_in_parts(sock, out)
            if rng.random() < 0.2:
                return
            for method in methods:
                wire.read(method)
                self.answers += 1

    def send_in_parts(self, sock, data):
        while data:
            count = self.rng.choice((1, 100, 5000, len(data)))
            sock.sendall(data[:count])
            data = data[count:] if count > 1 or self.rng.random() < 0.5 else self.rest(sock, data[1:])

    @staticmethod
    def rest(sock, data):
        sock.sendall(data)
        return b""

    def h2(self, sock):
        rng = self.rng
        peer = http2.Peer(sock, quiet=rng.random() < 0.2)
        peer.send(http2.PREFACE + http2.settings(*([(4, rng.choice((0, 1, 100, 65535)))] if rng.random() < 0.3 else [])))
        stream = 1
        for _ in range(rng.randrange(1, 4)):
            opened = []
            for _ in range(rng.choice((1, 2, 6))):
                method, path, host, more = self.head()
                has_body = method in ("POST", "PUT")
                if rng.random() < 0.1:
                    more = [*more, ("te", "trailers")]
                fields = http2.request_fields(method, path, host, more)
                if rng.random() < 0.08:
                    fields, has_body = [(":method", "CONNECT"), (":authority", "x:1")], True
                elif rng.random() < 0.08:
                    fields, has_body = [(":method", "CONNECT"), (":protocol", "websocket"), *fields[1:]], True
                peer.send(http2.headers(stream, fields, not has_body))
                if has_body:
                    peer.send(http2.data(stream, rng.randbytes(rng.choice((0, 10, 16000))), rng.random() < 0.7))
                if rng.random() < 0.2:
                    peer.send(http2.reset(stream, rng.choice((0, 8, 7))))
                elif rng.random() < 0.1:
                    peer.send(http2.headers(stream, [("x-trailer", "1")]))
                opened.append(stream)
                stream += 2
            if rng.random() < 0.1:
                peer.send(rng.choice((http2.goaway(), http2.window(0, 1), http2.frame(http2.PING, 0, 0, b"12345678"), http2.settings((4, 1000)), rng.randbytes(30))))
            if rng.random() < 0.2:
                return
            sock.settimeout(rng.choice((0.05, 1)))
            for one in opened:
                peer.wait(one)
                self.answers += 1
                if rng.random() < 0.2:
                    peer.send(http2.reset(one))

    def tunnel(self, sock):
        rng = self.rng
        kind = rng.choice(("GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", "CONNECT x:1 HTTP/1.1\r\nhost: x:1\r\n\r\n"))
        sock.sendall(kind.encode() + (b"early" if rng.random() < 0.3 else b""))
        for _ in range(rng.randrange(5)):
            sock.settimeout(rng.choice((0.02, 0.3)))
            sock.recv(65536)
            sock.sendall(rng.randbytes(rng.choice((1, 1000, 100000))))
        self.answers += 1

    def raw(self, sock):
        rng = self.rng
        for _ in range(rng.randrange(1, 5)):
            sock.sendall(b"raw" + rng.randbytes(rng.choice((1, 1000, 300000))))
            sock.settimeout(rng.choice((0.01, 0.1)))
            if rng.random() < 0.8:
                sock.recv(rng.choice((1, 65536)))
        self.answers += 1

    def rubbish(self, sock):
        sock.sendall(self.rng.randbytes(self.rng.randrange(1, 2000)))
        sock.settimeout(0.1)
        sock.recv(65536)


class WildUdp:
    """Datagrams from a few sockets to the ports of UDP listeners."""

    def __init__(self, rng, ports):
        self.rng, self.ports, self.socks = rng, ports, []

    def once(self):
        rng = self.rng
        try:
            if len(self.socks) < 5 or rng.random() < 0.1:
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.setblocking(False)
                self.socks.append(sock)
            if len(self.socks) > 8:
                self.socks.pop(0).close()
            sock = rng.choice(self.socks)
            sock.sendto(rng.randbytes(rng.choice((0, 1, 100, 9000, 65507))), ("127.0.0.1", rng.choice(self.ports)))
            sock.recv(65536)
        except OSError:
            pass
        time.sleep(0.005)

    def close(self):
        for sock in self.socks:
            sock.close()


def open_files(pid):
    """What the process holds open, without the numbers of sockets."""
    out = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            out.append(os.readlink(f"/proc/{pid}/fd/{name}").split("[")[0])
        except OSError:
            pass
    return out


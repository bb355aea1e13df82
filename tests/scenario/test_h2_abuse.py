"""HTTP/2 peers that mean harm: floods, bombs, hoarders, from both sides. Whatever they do, Skiff lives, other connections
are served, and it costs little. What it costs is printed; the release stage bounds it (far above what is usual: see
README.md for measured figures).
"""
import socket

import pytest

from harness import client, config, http2
from harness.proxy import Proxy
from harness.upstream import Upstream

OPTIONS = config.TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions"
H2 = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": OPTIONS, "explicit_http_config": {"http2_protocol_options": {}}}}
BIG = b"x" * 1000000
COST_SECONDS, COST_MIB = 2, 32  # the release build on a busy machine; a quiet one shows a tenth


def many(part, count, batch=500):
    """`count` parts; part(n) or bytes."""
    for start in range(0, count, batch):
        yield b"".join(part(n) if callable(part) else part for n in range(start, min(start + batch, count)))


def flood(peer, parts, read=False):
    """Sends until the peer has had enough. A peer that does not read ours any more is no reason to wait for ever."""
    peer.sock.settimeout(5)
    try:
        for part in parts:
            if not peer.send(part):
                return
            if read:
                peer.drain()
    except socket.timeout:
        pass


def settle(peer, seconds=5):
    """Reads what is left, until it closes or falls silent."""
    peer.sock.settimeout(seconds)
    try:
        peer.until(lambda: False)
    except OSError:
        pass


def ids(number):
    return 2 * number + 1


def head(number, end=True, path="/"):
    return http2.headers(ids(number), http2.request_fields("GET" if end else "POST", path), end)


def bomb(count):
    """One field in the table, then named again and again, a byte each."""
    entry = b"\x40" + http2.integer(1, 7) + b"x" + http2.integer(4000, 7) + b"y" * 4000
    return http2.block(http2.request_fields()) + entry + b"\xbe" * count


# --- clients ---

def rapid_reset(peer):
    flood(peer, many(lambda n: head(n) + http2.reset(ids(n)), 20000), read=True)


def rapid_reset_of_answers(peer):
    flood(peer, many(lambda n: head(n, path="/hang") + http2.reset(ids(n)), 20000), read=True)


def reset_by_window(peer):
    """The server resets: a window update of zero."""
    flood(peer, many(lambda n: head(n, False, "/hang") + http2.window(ids(n), 0), 20000), read=True)


def reset_by_overflow(peer):
    flood(peer, many(lambda n: head(n, False, "/hang") + http2.window(ids(n), http2.WINDOW), 20000), read=True)


def reset_by_closed(peer):
    """DATA after the end of the stream."""
    flood(peer, many(lambda n: head(n, True, "/hang") + http2.data(ids(n), b"x"), 20000), read=True)


def reset_by_priority(peer):
    flood(peer, many(lambda n: head(n, False, "/hang") + http2.frame(http2.PRIORITY, 0, ids(n), b"1234"), 20000), read=True)


def reset_by_length(peer):
    def one(number):
        fields = http2.request_fields("POST", "/hang", more=[("content-length", "1")])
        return http2.headers(ids(number), fields, False) + http2.data(ids(number), b"xyz")
    flood(peer, many(one, 20000), read=True)


def reset_by_bad_head(peer):
    flood(peer, many(lambda n: http2.headers(ids(n), http2.request_fields(more=[("Bad", "x")])), 20000), read=True)


def continuation_flood(peer):
    peer.send(http2.frame(http2.HEADERS, 1, 1, http2.block(http2.request_fields())))
    flood(peer, many(http2.frame(http2.CONTINUATION, 0, 1, b""), 200000))


def continuation_of_fields(peer):
    peer.send(http2.frame(http2.HEADERS, 1, 1, http2.block(http2.request_fields())))
    flood(peer, many(http2.frame(http2.CONTINUATION, 0, 1, http2.literal("x", "y" * 1000)), 50000))


def ping_flood(peer):
    flood(peer, many(http2.frame(http2.PING, 0, 0, b"12345678"), 200000))


def ping_flood_read(peer):
    flood(peer, many(http2.frame(http2.PING, 0, 0, b"12345678"), 20000, 100), read=True)


def settings_flood(peer):
    flood(peer, many(http2.settings(), 200000))


def settings_of_many(peer):
    flood(peer, many(http2.settings(*[(4, 65535 + n) for n in range(2000)]), 200, 5))


def settings_of_tables(peer):
    flood(peer, many(http2.settings((1, 0), (1, 2**32 - 1)), 100000))


def empty_data(peer):
    peer.send(head(0, False))
    flood(peer, many(http2.frame(http2.DATA, 0, 1), 200000))


def padded_data(peer):
    peer.send(head(0, False))
    flood(peer, many(http2.frame(http2.DATA, http2.PADDED, 1, b"\xff" + b"\0" * 255), 20000))


def empty_headers(peer):
    flood(peer, many(lambda n: http2.frame(http2.HEADERS, http2.END_HEADERS, ids(n)), 20000))


def empty_trailers(peer):
    peer.send(head(0, False))
    flood(peer, many(http2.frame(http2.HEADERS, http2.END_HEADERS, 1), 20000))


def priority_flood(peer):
    flood(peer, many(http2.frame(http2.PRIORITY, 0, 1, b"\0\0\0\0\x10"), 200000))


def priority_of_idle(peer):
    flood(peer, many(lambda n: http2.frame(http2.PRIORITY, 0, ids(n), b"\0\0\0\0\x10"), 200000))


def window_flood(peer):
    flood(peer, many(http2.window(0, 1), 200000))


def window_flood_of_a_stream(peer):
    peer.send(head(0, False))
    flood(peer, many(http2.window(1, 1), 200000))


def unknown_frames(peer):
    flood(peer, many(http2.frame(0xbb, 0, 0, b""), 200000))


def goaway_flood(peer):
    flood(peer, many(http2.goaway(0, 0, b"x" * 100), 50000))


def hpack_bomb(peer):
    flood(peer, [http2.headers(1, bomb(16000))])


def hpack_bombs(peer):
    flood(peer, many(lambda n: http2.headers(ids(n), bomb(16000)), 200, 10), read=True)


def hpack_size_updates(peer):
    flood(peer, many(lambda n: http2.headers(ids(n), b"\x20\x3f\xe1\x1f" * 4000), 200, 10))


def huge_fields(peer):
    flood(peer, many(lambda n: http2.headers(ids(n), http2.request_fields(more=[("x", "y" * 1000000)])), 20, 1), read=True)


def many_fields(peer):
    fields = http2.request_fields(more=[("x", "y")] * 20000)
    flood(peer, many(lambda n: http2.headers(ids(n), fields), 50, 5), read=True)


def many_cookies(peer):
    fields = http2.request_fields(more=[("cookie", "a=b")] * 20000)
    flood(peer, many(lambda n: http2.headers(ids(n), fields), 50, 5), read=True)


def zero_window(peer):
    """Big answers that may not be sent."""
    flood(peer, [http2.settings((4, 0))] + list(many(lambda n: head(n, path="/big"), 100)))
    peer.ping()


def small_window(peer):
    flood(peer, [http2.settings((4, 1))] + list(many(lambda n: head(n, path="/big"), 100)))
    peer.ping()


def never_reads(peer):
    flood(peer, [http2.settings((4, http2.WINDOW))] + list(many(lambda n: head(n, path="/big"), 100)))


def bodies_for_nobody(peer):
    """Bodies that the upstream does not read, within the windows."""
    for number in range(100):
        peer.send(head(number, False, "/hang"))
    peer.sock.settimeout(5)
    try:
        peer.until(lambda: peer.room(0) > 65535)
        for number in range(100):
            count = min(peer.room(0), 60000)
            if not count or not peer.send(http2.data(ids(number), b"x" * count, False)):
                return
            peer.windows[0] -= count
    except OSError:
        pass


def slow_head(peer):
    """A head that never ends, byte by byte."""
    whole = http2.frame(http2.HEADERS, 0, 1, http2.block(http2.request_fields()))
    flood(peer, [whole[n:n + 1] for n in range(len(whole))])


def slow_preface(peer):
    flood(peer, [http2.PREFACE[n:n + 1] for n in range(20)])


def streams_beyond_the_limit(peer):
    flood(peer, many(lambda n: head(n, False, "/hang"), 5000))


CLIENTS = [rapid_reset, rapid_reset_of_answers, reset_by_window, reset_by_overflow, reset_by_closed, reset_by_priority,
           reset_by_length, reset_by_bad_head, continuation_flood, continuation_of_fields, ping_flood, ping_flood_read,
           settings_flood, settings_of_many, settings_of_tables, empty_data, padded_data, empty_headers, empty_trailers,
           priority_flood, priority_of_idle, window_flood, window_flood_of_a_stream, unknown_frames, goaway_flood, hpack_bomb,
           hpack_bombs, hpack_size_updates, huge_fields, many_fields, many_cookies, zero_window, small_window, never_reads,
           bodies_for_nobody, slow_head, slow_preface, streams_beyond_the_limit]

# --- upstreams: what they send once a request came ---


def begun(stream):
    return http2.headers(stream, [(":status", "200")], False)


UPSTREAMS = {
    "resets at once": lambda s: [http2.reset(s)],
    "continuation flood": lambda s: [http2.frame(http2.HEADERS, 0, s, b"\x88")] + list(many(http2.frame(http2.CONTINUATION, 0, s, b""), 100000)),
    "continuation of fields": lambda s: [http2.frame(http2.HEADERS, 0, s, b"\x88")] + list(many(http2.frame(http2.CONTINUATION, 0, s, http2.literal("x", "y" * 1000)), 20000)),
    "ping flood": lambda s: many(http2.frame(http2.PING, 0, 0, b"12345678"), 100000),
    "settings flood": lambda s: many(http2.settings(), 100000),
    "empty data": lambda s: [begun(s)] + list(many(http2.frame(http2.DATA, 0, s), 100000)),
    "padded data": lambda s: [begun(s)] + list(many(http2.frame(http2.DATA, http2.PADDED, s, b"\xff" + b"\0" * 255), 20000)),
    "empty heads": lambda s: many(http2.frame(http2.HEADERS, http2.END_HEADERS, s), 20000),
    "interim answers": lambda s: many(http2.headers(s, [(":status", "103")], False), 50000),
    "priority flood": lambda s: many(http2.frame(http2.PRIORITY, 0, s, b"\0\0\0\0\x10"), 100000),
    "window flood": lambda s: many(http2.window(0, 1), 100000),
    "unknown frames": lambda s: many(http2.frame(0xbb, 0, 0), 100000),
    "goaway flood": lambda s: many(http2.goaway(s, 0, b"x" * 100), 20000),
    "hpack bomb": lambda s: [http2.headers(s, b"\x88\x40\x01x" + http2.integer(4000, 7) + b"y" * 4000 + b"\xbe" * 16000)],
    "huge fields": lambda s: [http2.headers(s, [(":status", "200"), ("x", "y" * 2000000)])],
    "pushes": lambda s: many(lambda n: http2.frame(http2.PUSH_PROMISE, http2.END_HEADERS, s, b"\0\0\0\2" + http2.block(http2.request_fields())), 1000),
    "data beyond the window": lambda s: [begun(s)] + list(many(http2.data(s, b"x" * 16384, False), 400, 10)),
    "zero window": lambda s: [http2.settings((4, 0))],
    "streams of its own": lambda s: many(lambda n: http2.headers(2 * n + 2, [(":status", "200")]), 1000),
    "trailers again and again": lambda s: [begun(s)] + list(many(http2.headers(s, [("x", "y")], False), 20000)),
}


class Stage:
    def __init__(self, binary, concurrency):
        self.upstream, self.evil = Upstream("a", handler=self.serve), http2.Upstream2("evil", handler=self.attack)
        self.script = None
        routes = [config.route("/evil", "evil", timeout="2s"), config.route("/hang", "a", timeout="20s"), config.route("/", "a")]
        filters = [config.hcm(routes, request_headers_timeout="10s")]
        clusters = [config.cluster("a", [self.upstream.port], circuit_breakers={"thresholds": [{"max_connections": 10000}]}),
                    config.cluster("evil", [self.evil.port], typed_extension_protocol_options=H2)]
        self.proxy = Proxy(binary, config.bootstrap([config.listener("main", filters)], clusters), concurrency=concurrency)
        self.port = self.proxy.port()
        self.healthy()

    def serve(self, connection):
        while True:
            request = connection.read_request()
            if request.path == "/hang":
                connection.hang()
                return
            connection.read_body(request)
            connection.answer({"body": BIG if request.path == "/big" else "a"}, request, "a")

    def attack(self, server):
        stream = server.next_request()
        if stream is not None:
            flood(server, self.script(stream), read=True)
            settle(server, 3)

    def healthy(self):
        """Other connections are served, over both versions."""
        with http2.Client(self.port) as peer:
            assert peer.request().status == 200
        assert client.get(self.port).status == 200

    def cost(self, act):
        """(CPU seconds, MiB above the resting state at the peak) of act()."""
        pid = self.proxy.pid
        with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as out:
            out.write("5")  # the peak starts anew
        rest, cpu = self.proxy.memory_kib(), self.proxy.cpu_seconds()
        act()
        return self.proxy.cpu_seconds() - cpu, (self.proxy.memory_kib("VmHWM") - rest) / 1024

    def client(self, attack):
        with http2.Client(self.port, quiet=True) as peer:
            attack(peer)
            self.healthy()

    def stop(self):
        self.proxy.stop()
        self.upstream.stop()
        self.evil.stop()


@pytest.fixture(scope="module")
def stage(skiff_binary, concurrency):
    made = Stage(skiff_binary, concurrency)
    yield made
    made.stop()


def evil_upstream(stage, script):
    stage.script = script
    answer = client.get(stage.port, "/evil")
    assert answer.status in (502, 503, 504) or answer.status == 200, answer
    stage.evil.close_connections()
    stage.healthy()


@pytest.mark.parametrize("attack", CLIENTS, ids=[a.__name__ for a in CLIENTS])
def test_client(stage, attack):
    stage.client(attack)


@pytest.mark.parametrize("name", UPSTREAMS)
def test_upstream(stage, name):
    evil_upstream(stage, UPSTREAMS[name])


@pytest.mark.release
@pytest.mark.parametrize("attack", CLIENTS, ids=[a.__name__ for a in CLIENTS])
def test_cost_of_a_client(stage, attack):
    stage.client(attack)  # warm: what is kept for the next time is not its cost
    cpu, peak = stage.cost(lambda: stage.client(attack))
    print(f"{attack.__name__}: {cpu:.2f} s, {peak:.1f} MiB")
    assert cpu <= COST_SECONDS and peak <= COST_MIB


@pytest.mark.release
@pytest.mark.parametrize("name", UPSTREAMS)
def test_cost_of_an_upstream(stage, name):
    cpu, peak = stage.cost(lambda: evil_upstream(stage, UPSTREAMS[name]))
    print(f"{name}: {cpu:.2f} s, {peak:.1f} MiB")
    assert cpu <= COST_SECONDS and peak <= COST_MIB

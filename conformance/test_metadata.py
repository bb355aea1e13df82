"""METADATA frames (Http2ProtocolOptions.allow_metadata) on Skiff and on Envoy: which pass, which end a connection."""
import hpack
import pytest

from harness import config, http2
from harness.proxy import Proxy
from harness.upstream import Upstream
from harness.wait import wait_for

METADATA, END_METADATA = 0x4d, 4
OPTIONS = config.TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions"


def h2_cluster(name, port, **over):
    return config.cluster(name, [port], typed_extension_protocol_options={"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": OPTIONS, "explicit_http_config": {"http2_protocol_options": over}}})


def metadata(stream, fields, flags=END_METADATA):
    block = fields if isinstance(fields, bytes) else http2.block(fields)
    return http2.frame(METADATA, flags, stream, block)


def told(peer, stream):
    """The fields of all blocks, and where the first stood among what came on the stream."""
    frames = [f for f in peer.frames if f.stream == stream and f.kind in (http2.HEADERS, http2.DATA, METADATA)]
    fields, block = [], b""
    for one in frames:
        if one.kind != METADATA:
            continue
        block += one.payload
        if one.flags & END_METADATA:
            fields += [(n.decode("latin-1"), v.decode("latin-1")) for n, v in hpack.Decoder(2**24).decode(block, raw=True)]
            block = b""
    kinds = [f.kind for f in frames]
    first = kinds.index(METADATA) if METADATA in kinds else None
    return {"fields": sorted(fields), "whole": block == b"", "after the head": first is None or http2.HEADERS in kinds[:first]}


class Side:
    def __init__(self, binary, concurrency):
        self.seen, self.say = [], []
        self.h1 = Upstream("one")
        self.h2 = http2.Upstream2("two", handler=self.serve)
        self.raw = Upstream("raw", handler=lambda connection: connection.echo())
        on, small = {"allow_metadata": True}, {"allow_metadata": True, "max_metadata_size": 100}
        routes = [config.route("/" + name, name) for name in ("on", "off", "small", "h1")]
        held = [{"name": "b", "typed_config": {"@type": config.TYPE + "extensions.filters.http.buffer.v3.Buffer", "max_request_bytes": 1000}}, config.router()]
        tunnel = {"match": {"connect_matcher": {}}, "route": {"cluster": "raw", "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}}
        routes.append(tunnel)
        listeners = {"tunnel": {"http2_protocol_options": {**on, "allow_connect": True}, "upgrade_configs": [{"upgrade_type": "CONNECT"}]},
                     "on": {"http2_protocol_options": on}, "off": {}, "small": {"http2_protocol_options": small},
                     "held": {"http2_protocol_options": on, "http_filters": held}}
        body = config.bootstrap([config.listener(n, [config.hcm(routes, stat_prefix=n, **over)]) for n, over in listeners.items()],
                                [h2_cluster("on", self.h2.port, **on), h2_cluster("off", self.h2.port), h2_cluster("small", self.h2.port, **small),
                                 config.cluster("h1", [self.h1.port]), config.cluster("raw", [self.raw.port])])
        self.proxy = Proxy(binary, body, concurrency=concurrency)

    def serve(self, server):
        while (stream := server.next_request()) is not None:
            message = server.wait(stream)
            if message.reset is not None:
                continue
            first, later = self.say
            answered = False
            if first:
                server.send(first(stream))
            if later:
                server.send(http2.headers(stream, [(":status", "200")], False) + later(stream) + http2.data(stream, b"two"))
                answered = True
            if not answered:
                server.answer(stream, {}, "two")
            server.ping()
            self.seen.append({**told(server, stream), "body": message.body})

    def run(self, listener="on", to="on", send=None, first=None, later=None):
        self.seen, self.say = [], (first, later)
        with http2.Client(self.proxy.port(listener)) as peer:
            stream = peer.open(http2.request_fields("POST", "/" + to), False)
            if send:
                peer.send(send(stream))
            peer.send(http2.data(stream, b"hello"))
            answer = peer.wait(stream)
            peer.ping()
            status = answer.status if answer.reset is None else None  # whether the head left before the reset is a matter of segments
            out = {"status": status, "body": answer.body, "reset": answer.reset, "answer": told(peer, stream), "open": not peer.closed}
        if answer.status == 200 and to != "h1":
            wait_for(lambda: self.seen, "the upstream's view")
        return {**out, "upstream": self.seen}

    def tunnel(self):
        """What comes back through a CONNECT that ends here, with METADATA before and between its bytes."""
        with http2.Client(self.proxy.port("tunnel")) as peer:
            stream = peer.open([(":method", "CONNECT"), (":authority", "test:1")], False)
            peer.send(one(stream) + http2.data(stream, b"hello", False))
            message = peer.message(stream)
            assert peer.until(lambda: message.body == b"hello" or message.ended), "the connection ended"
            peer.send(two(stream) + http2.data(stream, b" again", False))
            assert peer.until(lambda: message.body == b"hello again" or message.ended), "the connection ended"
            return {"status": message.status, "body": message.body, "answer": told(peer, stream), "open": not peer.closed}

    def stop(self):
        self.proxy.stop(check=not self.proxy.is_envoy)
        self.raw.stop()
        self.h1.stop()
        self.h2.stop()


def one(stream):
    return metadata(stream, [("a", "1"), ("X-B", "two words"), ("c", "")])


def two(stream):
    return one(stream) + metadata(stream, [("d", "4")])


def in_parts(stream):
    block = http2.block([("a", "x" * 1000), ("b", "y" * 1000)])
    return metadata(stream, block[:7], 0) + metadata(stream, block[7:1500], 0) + metadata(stream, block[1500:])


def big(stream):
    """More than a frame holds."""
    parts = [http2.block([(f"n{i}", "z" * 3000)]) for i in range(20)]
    return b"".join(metadata(stream, p, END_METADATA if n == 19 else 0) for n, p in enumerate(parts))


def indexed(stream):
    """A field of the dynamic table, which each block has for itself."""
    entry = b"\x40" + http2.integer(1, 7) + b"k" + http2.integer(3, 7) + b"val"
    return metadata(stream, entry) + metadata(stream, entry)


def beyond_the_table(stream):
    entry = b"\x40" + http2.integer(1, 7) + b"k" + http2.integer(3, 7) + b"val"
    return metadata(stream, entry) + metadata(stream, b"\xbe")


def unended(stream):
    return metadata(stream, [("a", "1")], 0)


def empty(stream):
    return metadata(stream, b"")


def junk(stream):
    return metadata(stream, b"\xff\xff\xff\xff\xff\xff\xff\xff")


def cut(stream):
    return metadata(stream, b"\x00\x05ab")


def over(stream):
    return metadata(stream, [("a", "x" * 200)])


def little(stream):
    return metadata(stream, [("a", "x" * 40)])


def thrice(stream):
    return little(stream) * 3


def too_much(stream):
    return b"".join(metadata(stream, [("a", "x" * 16000)], 0) for _ in range(80))


def of_nobody(stream):
    return metadata(stream + 100, [("a", "1")]) + metadata(0, [("a", "1")])


ROWS = {
    "request": {"send": one}, "request: two": {"send": two}, "request: in parts": {"send": in_parts}, "request: big": {"send": big},
    "request: indexed": {"send": indexed}, "request: beyond the table": {"send": beyond_the_table}, "request: unended": {"send": unended},
    "request: empty": {"send": empty}, "request: junk": {"send": junk}, "request: cut": {"send": cut}, "request: off": {"listener": "off", "send": one},
    "request: junk where it is off": {"listener": "off", "send": junk}, "request: off upstream": {"to": "off", "send": one},
    "request: to HTTP/1": {"to": "h1", "send": one}, "request: over its limit": {"listener": "small", "send": over},
    "request: within its limit": {"listener": "small", "send": little}, "request: thrice within the limit": {"listener": "small", "send": thrice},
    "request: too much": {"send": too_much}, "request: behind a filter that waits": {"listener": "held", "send": two}, "request: of nobody": {"send": of_nobody},
    "response": {"later": one}, "response: before its head": {"first": one}, "response: two": {"later": two}, "response: big": {"later": big},
    "response: in parts": {"later": in_parts}, "response: unended": {"later": unended}, "response: empty": {"later": empty},
    "response: off upstream": {"to": "off", "later": one}, "response: off downstream": {"listener": "off", "later": one},
    "response: over its limit": {"to": "small", "later": over}, "response: junk": {"later": junk}, "both ways": {"send": two, "first": one, "later": two},
}


@pytest.mark.parametrize("name", ROWS)
def test_metadata(sides, name):
    truth = sides[0].run(**ROWS[name])
    assert sides[1].run(**ROWS[name]) == truth


def test_a_tunnel_that_ends_here(sides):
    """A raw connection has no place for METADATA: it is dropped."""
    truth = sides[0].tunnel()
    assert truth["body"] == b"hello again"
    assert sides[1].tunnel() == truth

"""What a peer may cost on HTTP/2 and what is said of it (Http2ProtocolOptions), on Skiff and on Envoy, from both sides."""
import struct

import pytest

from harness import config, http2
from harness.proxy import Proxy
from harness.upstream import Upstream

OPTIONS = config.TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions"
OWN = {"custom_settings_parameters": [{"identifier": 3, "value": 7}, {"identifier": 0x1234, "value": 5}, {"identifier": 6, "value": 70000}]}
LISTENERS = {"plain": {}, "own": OWN, "resets": {"stream_reset_burst": 5, "stream_reset_rate": 1}, "burst": {"stream_reset_burst": 5}, "control": {"max_outbound_control_frames": 5, "max_concurrent_streams": 1}}
BODY = 8000000


class Side:
    def __init__(self, binary, concurrency):
        self.settings = []
        self.big = Upstream("big", handler=self.serve_big)
        self.h2 = http2.Upstream2("two", handler=self.serve)
        self.quiet = Upstream("quiet", handler=lambda connection: connection.hang())
        routes = [config.route("/two", "two"), config.route("/big", "big", timeout="0s"), config.route("/quiet", "quiet")]
        two = config.cluster("two", [self.h2.port], typed_extension_protocol_options={"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": OPTIONS, "explicit_http_config": {"http2_protocol_options": OWN}}})
        clusters = [two, config.cluster("big", [self.big.port]), config.cluster("quiet", [self.quiet.port])]
        listeners = [config.listener(n, [config.hcm(routes, stat_prefix=n, http2_protocol_options=over)]) for n, over in LISTENERS.items()]
        self.proxy = Proxy(binary, config.bootstrap(listeners, clusters), concurrency=concurrency)

    def serve_big(self, connection):
        connection.read_request()
        connection.send(f"HTTP/1.1 200 OK\r\ncontent-length: {BODY}\r\n\r\n" + "x" * BODY)
        connection.hang()

    def serve(self, server):
        while (stream := server.next_request()) is not None:
            server.wait(stream)
            self.settings.append(settings(server))
            server.answer(stream, {}, "two")

    def stop(self):
        self.proxy.stop(check=not self.proxy.is_envoy)
        for up in (self.big, self.h2, self.quiet):
            up.stop()


def settings(peer):
    """What was said, the last word on each; only what the user has a say in (the rest is each proxy's own default)."""
    said = {}
    for frame in peer.frames:
        if frame.kind == http2.SETTINGS and not frame.flags & http2.ACK:
            said.update(struct.unpack(">HI", frame.payload[at:at + 6]) for at in range(0, len(frame.payload), 6))
    return {key: value for key, value in said.items() if key in (2, 0x1234, 6)}


def settings_to_a_client(side):
    with http2.Client(side.proxy.port("own")) as peer:
        return peer.request(path="/two").status, settings(peer)


def settings_to_an_upstream(side):
    side.settings = []
    with http2.Client(side.proxy.port("plain")) as peer:
        assert peer.request(path="/two").status == 200
    return side.settings


def resets(listener, count):
    def run(side):
        with http2.Client(side.proxy.port(listener)) as peer:
            for _ in range(count):
                peer.send(http2.reset(peer.start(path="/quiet")))
            return peer.ping() and peer.ping()  # the first answer may overtake a GOAWAY
    return run


def flooded(side):
    return side.proxy.stats("^http2.outbound_control_flood$").get("http2.outbound_control_flood", 0)


def control_flood(frames):
    """A client that asks, and reads nothing: what it is told waits."""
    def run(side):
        before = flooded(side)
        with http2.Client(side.proxy.port("control"), quiet=True) as peer:
            peer.start(path="/big")
            peer.sock.settimeout(10)
            try:
                while peer.send(frames(peer)):
                    if flooded(side) != before:
                        break
            except OSError:
                pass
        side.proxy.wait_stat("http2.outbound_control_flood", before + 1)
        return True
    return run


def refused(peer):
    """A stream beyond the one that may be open."""
    peer.next += 2
    return http2.headers(peer.next, http2.request_fields(path="/quiet"))


ROWS = {
    "settings to a client": settings_to_a_client,
    "settings to an upstream": settings_to_an_upstream,
    "resets: as many as allowed": resets("resets", 5),
    "resets: more": resets("resets", 20),
    "resets: more than the burst alone": resets("burst", 200),
    "resets: where nothing is said": resets("plain", 50),
    "control frames: PING": control_flood(lambda _: http2.frame(http2.PING, 0, 0, b"12345678") * 10),
    "control frames: SETTINGS": control_flood(lambda _: http2.settings() * 10),
    "control frames: RST_STREAM": control_flood(lambda peer: b"".join(refused(peer) for _ in range(20))),
}


@pytest.mark.parametrize("name", ROWS)
def test_limit(sides, name):
    truth = ROWS[name](sides[0])
    assert ROWS[name](sides[1]) == truth

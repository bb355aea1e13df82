"""The ends of HTTP/2 connections and streams: GOAWAY in two steps, drains, flow control between versions, half-closed
tunnels, limits of upstream connections."""
import pytest

from harness import client, config, http2
from harness.controlplane import ads_bootstrap
from harness.wait import wait_for

OPTIONS = config.TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions"


def h2_cluster(name, ports, **over):
    return config.cluster(name, ports, typed_extension_protocol_options={"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": OPTIONS, "explicit_http_config": {"http2_protocol_options": over}}})


def two_steps(peer):
    """The notice (no stream is refused yet), then the last stream that was served."""
    gone = [f for f in peer.frames if f.kind == http2.GOAWAY]
    assert len(gone) == 2 and gone[0].last == 2**31 - 1 and gone[0].code == gone[1].code == http2.NO_ERROR, gone
    return gone[1].last


def test_a_request_after_the_notice_is_served(skiff, upstream):
    up = upstream()
    over = {"drain_timeout": "5s", "common_http_protocol_options": {"max_connection_duration": "0.5s"}}
    proxy = skiff(config.bootstrap([config.listener("main", [config.hcm(**over)])], [config.cluster("a", [up.port])]))
    with http2.Client(proxy.port()) as peer:
        assert peer.request().status == 200
        assert peer.until(lambda: peer.goaway)
        assert peer.request().status == 200
        peer.until(lambda: False)
        assert two_steps(peer) == 3


def test_a_stream_outlives_the_drain(skiff, upstream):
    """The connection ends with its last stream, not before."""
    up = upstream(script=[{"raw": "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\na", "hang": True}])
    over = {"drain_timeout": "0.1s", "common_http_protocol_options": {"max_connection_duration": "0.3s"}}
    proxy = skiff(config.bootstrap([config.listener("main", [config.hcm(**over)])], [config.cluster("a", [up.port])]))
    with http2.Client(proxy.port()) as peer:
        stream = peer.start()
        assert peer.until(lambda: sum(1 for f in peer.frames if f.kind == http2.GOAWAY) == 2)
        assert peer.ping() and not peer.message(stream).ended
        with up.lock:
            for connection in up.open:
                connection.send(b"bc")
        answer = peer.wait(stream)
        assert answer.complete and answer.body == b"abc"
        assert not peer.until(lambda: False)


@pytest.mark.threads
def test_a_listener_that_goes_says_goaway(skiff, upstream, control_plane):
    up, plane = upstream(), control_plane()
    listener = config.listener("main")
    plane.set("cluster", [config.cluster("a", [up.port])])
    plane.set("listener", [listener])
    proxy = skiff(ads_bootstrap(plane.port), args=["--drain-time-s", "3", "--drain-strategy", "immediate"])
    with http2.Client(proxy.port()) as peer:
        assert peer.request().status == 200
        plane.set("listener", [])
        plane.wait_ack("listener")
        assert peer.until(lambda: peer.goaway)
        assert peer.goaway.code == http2.NO_ERROR
        peer.until(lambda: False)  # it closes by itself


def test_an_answer_nobody_takes_is_given_up(skiff, upstream):
    up = upstream(script=[{"body": "x" * 200000}, {}])
    proxy = skiff(config.bootstrap([config.listener("main", [config.hcm(stream_flush_timeout="0.5s")])], [config.cluster("a", [up.port])]))
    with http2.Client(proxy.port(), quiet=True, pairs=[(4, 100)]) as peer:
        answer = peer.request()
        assert answer.reset is not None and len(answer.body) == 100
        proxy.wait_stat("http2.tx_flush_timeout", 1)
        peer.send(http2.settings((4, 65535)))
        assert peer.request().status == 200  # the connection lives on


def test_one_stream_that_does_not_read_holds_no_other(skiff, upstream):
    up = upstream(script=[{"body": "x" * 3000000}])
    proxy = skiff(config.bootstrap([config.listener("main")], [config.cluster("a", [up.port])]))
    with http2.Client(proxy.port(), quiet=True) as peer:
        first = peer.start()
        peer.until(lambda: len(peer.message(first).body) == 65535)
        for _ in range(20):
            assert peer.request().body == b"a"
        peer.quiet = False
        peer.send(http2.window(first, 10000000))
        assert len(peer.wait(first).body) == 3000000


@pytest.mark.parametrize("to", ["one", "two"])
def test_a_tunnel_half_closed(skiff, upstream, to):
    """The client ends its side; the upstream still answers, then ends."""
    def h1(connection):
        connection.read_request()
        connection.send("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
        data, _ = connection.reader.to_end()
        connection.send(data.upper())

    def h2(server):
        stream = server.next_request()
        server.send(http2.headers(stream, [(":status", "200")], False))
        message = server.wait(stream)
        server.send(http2.data(stream, message.body.upper()))
        server.hang()
    two = http2.Upstream2("two", handler=h2)
    clusters = [config.cluster("one", [upstream(handler=h1).port]), h2_cluster("two", [two.port], allow_connect=True)]
    hcm = config.hcm([config.route("/", to)], upgrade_configs=[{"upgrade_type": "websocket"}], http2_protocol_options={"allow_connect": True})
    proxy = skiff(config.bootstrap([config.listener("main", [hcm])], clusters))
    with http2.Client(proxy.port()) as peer:
        stream = peer.open([(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/"), (":authority", "test")], False)
        peer.until(lambda: peer.message(stream).head_seen)
        assert peer.message(stream).status == 200
        peer.send(http2.data(stream, "hello ", False) + http2.data(stream, "world"))
        answer = peer.wait(stream)
        assert answer.body == b"HELLO WORLD" and answer.complete
    two.stop()


def test_streams_of_an_upstream_connection_are_limited(skiff):
    """SETTINGS_MAX_CONCURRENT_STREAMS of the upstream and max_concurrent_streams of ours: another connection is opened."""
    waiting = []

    def hold(server, stream, _):
        waiting.append((server, stream))
        return True
    for pairs, over in ((((3, 2),), {}), (((3, 100),), {"max_concurrent_streams": 2})):
        waiting.clear()
        up = http2.Upstream2("a", pairs=pairs, script=[{}] + [hold] * 6)
        proxy = skiff(config.bootstrap([config.listener("main")], [h2_cluster("a", [up.port], **over)]), concurrency=1)
        with http2.Client(proxy.port()) as peer:
            assert peer.request().status == 200  # the settings are known
            streams = [peer.start() for _ in range(6)]
            wait_for(lambda: len(waiting) == 6, "six requests upstream")
            # Before its SETTINGS came, a connection is taken to allow as many as we do.
            assert up.connections == 3 if over else up.connections >= 2
            for server, stream in list(waiting):
                server.answer(stream, {}, "a")
            assert all(peer.wait(s).status == 200 for s in streams)
        up.stop()


def test_requests_beyond_our_limit_are_refused(skiff, upstream):
    """REFUSED_STREAM tells the client that it may ask again."""
    up = upstream(script=[{"hang": True}] * 2)
    hcm = config.hcm(http2_protocol_options={"max_concurrent_streams": 2})
    proxy = skiff(config.bootstrap([config.listener("main", [hcm])], [config.cluster("a", [up.port])]))
    with http2.Client(proxy.port()) as peer:
        first, second = peer.start(), peer.start()
        third = peer.request()
        assert third.reset == http2.REFUSED_STREAM
        assert not peer.message(first).ended and not peer.message(second).ended


def test_pings_find_a_dead_client(skiff, upstream):
    up = upstream()
    listeners = [config.listener(name, [config.hcm(http2_protocol_options={"connection_keepalive": {"interval": "0.2s", "timeout": timeout}})])
                 for name, timeout in (("patient", "60s"), ("strict", "0.3s"))]
    proxy = skiff(config.bootstrap(listeners, [config.cluster("a", [up.port])]))
    with http2.Client(proxy.port("patient")) as peer:
        assert peer.until(lambda: sum(1 for f in peer.frames if f.kind == http2.PING) >= 3)
        assert peer.request().status == 200
    with http2.Client(proxy.port("strict"), quiet=True) as peer:
        assert not peer.until(lambda: False)  # it answers no PING
        proxy.wait_stat("http2.keepalive_timeout", 1)


def test_a_stream_after_silence_pings_first(skiff):
    """connection_idle_interval: the upstream may have gone meanwhile. Without one no ping is ever sent."""
    pings = {"careful": 0, "trusting": 0}

    def serving(name):
        def serve(server):
            while (stream := server.next_request()) is not None:
                server.wait(stream)
                server.answer(stream, {}, name)
                pings[name] = sum(1 for f in server.frames if f.kind == http2.PING and not f.flags & 1)
        return serve
    ups = [http2.Upstream2(name, handler=serving(name)) for name in pings]
    keep = {"connection_keepalive": {"connection_idle_interval": "0.05s", "timeout": "60s"}}
    routes = [config.route("/careful", "careful"), config.route("/trusting", "trusting")]
    proxy = skiff(config.bootstrap([config.listener("main", [config.hcm(routes)])], [
        h2_cluster("careful", [ups[0].port], **keep), h2_cluster("trusting", [ups[1].port])]))

    def pinged():
        for name in pings:
            assert client.get(proxy.port(), "/" + name).text == name
        return pings["careful"]
    wait_for(pinged, "a ping")
    assert pings["trusting"] == 0
    for up in ups:
        up.stop()


def test_a_broken_side_answer_on_a_connection_that_goes(skiff, upstream):
    """GOAWAY, then an answer that is given up while it is read: call, stream and connection end in one."""
    def handler(server):
        stream = server.next_request()
        server.wait(stream)
        server.send(http2.goaway(stream) + http2.headers(stream, [(":status", "200"), ("content-type", "application/grpc")], False)
                    + http2.data(stream, b"\1\0\0\0\4oops", False) + http2.headers(stream, [("grpc-status", "0")]))
    up, authz = upstream(), http2.Upstream2("authz", handler=handler)
    check = {"name": "envoy.filters.http.ext_authz", "typed_config": {
        "@type": config.TYPE + "extensions.filters.http.ext_authz.v3.ExtAuthz", "transport_api_version": "V3", "failure_mode_allow": True,
        "grpc_service": {"envoy_grpc": {"cluster_name": "authz"}, "timeout": "60s"}}}
    proxy = skiff(config.bootstrap([config.listener("main", [config.hcm(http_filters=[check, config.router()])])],
                                   [config.cluster("a", [up.port]), h2_cluster("authz", [authz.port])]))
    for _ in range(10):
        assert client.get(proxy.port()).status == 200
    authz.stop()

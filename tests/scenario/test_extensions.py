"""Skiff with the extensions of tests/extensions: what proxy/api offers, each used in earnest, also at the worst moment."""
import json
import os
import tempfile
import threading
import time

import grpc
import pytest

from harness import client, config
from harness.grpc_server import GrpcServer
from harness.plugin import REPO
from harness.proxy import Proxy
from harness.upstream import Upstream, closed_port
from harness.wait import wait_for



def protocol(**options):
    name = "extensions.upstreams.http.v3.HttpProtocolOptions"
    return {"typed_extension_protocol_options": {"envoy." + name: {"@type": config.TYPE + name, "explicit_http_config": options}}}


HTTP2, TRAILERS = protocol(http2_protocol_options={}), protocol(http_protocol_options={"enable_trailers": True})
FAILURES = {"ok": 0, "no cluster": 1, "no host": 2, "overflow": 3, "connect failed": 4, "connect timeout": 5, "reset": 6, "timeout": 7, "too large": 8,
            "bad message": 9}


class Flood:
    """Counts what a peer could send before it was stopped."""

    def __init__(self):
        self.sent, self.ended = 0, threading.Event()

    def stands_still(self):
        """Waits until nothing more leaves for a while; gives back how much left."""
        before = -1
        while before != self.sent or before == 0:
            before = self.sent
            time.sleep(0.5)
        return before


FLOOD_BYTES = 64 * 1024 * 1024
FLOOD_MOST = 24 * 1024 * 1024  # what windows and socket buffers of both sides may hold


LATER = {"name": "test.later", "typed_config": {
    "@type": config.TYPE + "extensions.load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin"}}


def heavier(inner):
    """test.heavy with an inner policy; None: test.later."""
    kind = config.TYPE + "extensions.load_balancing_policies."
    child = {"name": "inner", "typed_config": {"@type": kind + inner}} if inner else LATER
    return {"load_balancing_policy": {"policies": [{"typed_extension_config": {"name": "test.heavy", "typed_config": {
        "@type": kind + "override_host.v3.OverrideHost", "override_host_sources": [{"header": "x-unused"}],
        "fallback_policy": {"policies": [{"typed_extension_config": child}]}}}}]}}


class World:
    def __init__(self, binary, concurrency):
        self.flood, self.gone = Flood(), threading.Event()
        self.http, self.grpc, self.hears = Upstream("side"), GrpcServer(self.methods()), threading.Event()
        self.pour, self.deaf = Upstream("pour", handler=self.pour_out), Upstream("deaf", handler=self.deaf_at_first)
        self.dead, dead_port = closed_port()
        self.light, self.heavy, self.heavy2 = Upstream("light"), Upstream("heavy"), Upstream("heavy2")
        self.flipped_bytes, self.flipped = b"", Upstream("flipped", handler=self.note_and_echo)
        self.folder = tempfile.mkdtemp(prefix="skiff-extensions-")
        sides = [{"name": "test.side_calls"}, config.router()]
        held = [{"name": "test.network_call"},
                {"name": "envoy.filters.network.echo", "typed_config": {"@type": config.TYPE + "extensions.filters.network.echo.v3.Echo"}}]
        routes = [config.route("/" + name, name, timeout="90s", hash_policy=[{"header": {"header_name": "x-user"}}])
                  for name in ("weighed", "hashed", "both", "later", "eds")] + [config.route("/impatient", "later", timeout="0.2s")]
        tcp = {"name": "envoy.filters.network.tcp_proxy", "typed_config": {
            "@type": config.TYPE + "extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "tcp", "cluster": "later"}}
        listeners = [config.listener("main", [config.hcm([config.route(cluster="side")], http_filters=sides)]), config.listener("held", held),
                     config.listener("stream", [self.streams()]), *self.edges(),
                     config.listener("choose", [config.hcm(routes, stat_prefix="choose")]), config.listener("tcp", [tcp])]
        clusters = [config.cluster("side", [self.http.port], **TRAILERS), config.cluster("grpc", [self.grpc.port], **HTTP2), config.cluster("dead", [dead_port]),
                    config.cluster("empty", []), config.cluster("pour", [self.pour.port]),
                    config.cluster("deaf", [self.deaf.port]),
                    config.cluster("http2", [self.http.port], **HTTP2),
                    config.cluster("closed", [self.http.port], circuit_breakers={"thresholds": [{"max_pending_requests": 0, "max_connections": 0}]})]
        clusters += [*self.balanced(), config.cluster("flipped", [self.flipped.port], transport_socket={"name": "test.flip"}), config.cluster("first", [self.light.port])]
        self.proxy = Proxy(binary, config.bootstrap(listeners, clusters, node={"id": "n", "cluster": "c"}), concurrency=concurrency)

    def streams(self):
        log = config.file_log(self.folder + "/stream.log", {"note": "%DYNAMIC_METADATA(test:note)%", "state": "%FILTER_STATE(test.note:PLAIN)%"})
        return config.hcm([config.route("/first", "first"), config.route("/side", "side")], stat_prefix="stream",
                          http_filters=[{"name": "test.stream"}, config.router()], access_log=[log, {"name": "test.count"}],
                          http_protocol_options={"enable_trailers": True})

    def edges(self):
        """Listeners with a filter before the connection, with a transport of their own, and with one of their own to the other side."""
        echo = {"name": "envoy.filters.network.echo", "typed_config": {"@type": config.TYPE + "extensions.filters.network.echo.v3.Echo"}}
        flipped = config.listener("flip", [echo])
        flipped["filter_chains"][0]["transport_socket"] = {"name": "test.flip"}
        return [config.listener("peek", [echo], listener_filters=[{"name": "test.peek"}]), flipped,
                config.listener("toflip", [{"name": "envoy.filters.network.tcp_proxy", "typed_config": {
                    "@type": config.TYPE + "extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "toflip", "cluster": "flipped"}}])]

    def balanced(self):
        """Clusters with policies of the tests."""
        mix = [config.endpoint(server.port, load_balancing_weight=weight)
               for server, weight in ((self.light, 1), (self.heavy, 5), (self.heavy2, 7))]
        later = {"load_balancing_policy": {"policies": [{"typed_extension_config": LATER}]}}
        self.endpoints([self.light.port])
        return [config.cluster("weighed", mix, **heavier("round_robin.v3.RoundRobin")), config.cluster("hashed", mix, **heavier("ring_hash.v3.RingHash")),
                config.cluster("both", mix[:2], **heavier(None)), config.cluster("later", [self.heavy.port], **later),
                config.cluster("eds", [], type="EDS", load_assignment=None, eds_cluster_config={
                    "eds_config": {"path_config_source": {"path": self.folder + "/eds.json"}}}, **later)]

    def endpoints(self, ports):
        body = {"version_info": str(ports), "resources": [{"@type": config.TYPE + "config.endpoint.v3.ClusterLoadAssignment",
                                                           **config.assignment("eds", ports)}]}
        with open(self.folder + "/new", "w", encoding="utf-8") as out:
            json.dump(body, out)
        os.rename(self.folder + "/new", self.folder + "/eds.json")

    def note_and_echo(self, connection):
        while data := connection.sock.recv(65536):
            self.flipped_bytes += data
            connection.sock.sendall(data)

    def pour_out(self, connection):
        connection.read_request()
        self.flood.__init__()
        connection.send(f"HTTP/1.1 200 OK\r\ncontent-length: {FLOOD_BYTES}\r\n\r\n")
        for _ in range(FLOOD_BYTES // 65536):
            connection.send(b"x" * 65536)
            self.flood.sent += 65536
        connection.hang()

    def deaf_at_first(self, connection):
        connection.read_request()
        self.hears.wait(120)
        tail = b""
        while not tail.endswith(b"\r\n0\r\n\r\n"):  # the chunks themselves do not matter
            got = connection.sock.recv(1 << 20)
            if not got:
                return
            tail = (tail + got)[-16:]
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        connection.hang()

    def methods(self):
        def fail(request, context):
            context.set_trailing_metadata((("x-extra", "told"),))
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not ümlaut")

        def silent(request, context):
            self.gone.clear()
            context.add_callback(self.gone.set)
            self.gone.wait(120)
            return b""

        def count(request, context):
            for i in range(int(next(request))):
                yield b"message %d" % i

        def flood(request, context):
            self.flood.__init__()
            context.add_callback(self.flood.ended.set)
            for _ in range(FLOOD_BYTES // 65536):
                yield b"x" * 65536
                self.flood.sent += 65536

        def chat(request, context):
            for message in request:
                yield b"re " + message
                if message == b"stop":
                    context.abort(grpc.StatusCode.ABORTED, "as asked")
        return {"/t.S/Echo": ("unary_unary", lambda request, context: b"re " + request), "/t.S/Fail": ("unary_unary", fail),
                "/t.S/Big": ("unary_unary", lambda request, context: b"y" * int(request)), "/t.S/Silent": ("unary_unary", silent),
                "/t.S/SilentStream": ("stream_stream", lambda request, context: iter([silent(request, context)])),
                "/t.S/Count": ("stream_stream", count), "/t.S/Flood": ("stream_stream", flood), "/t.S/Chat": ("stream_stream", chat)}

    def ask(self, call, path, body=None, cluster=None, **more):
        cluster = cluster or ("grpc" if call.startswith("grpc") else "side")
        headers = [("x-test-call", call), ("x-test-cluster", cluster), ("x-test-path", path)]
        headers += [("x-test-" + k.replace("_", "-"), str(v)) for k, v in more.items()]
        return client.Client(self.proxy.port()), client.request_bytes("POST", "/", headers, body, "test", "HTTP/1.1")

    def call(self, *args, **more):
        """The parsed first line and the rest of the answer."""
        connection, request = self.ask(*args, **more)
        with connection as c:
            c.send(request)
            answer = c.read()
        assert answer.status == 200, answer
        line, _, rest = answer.text.partition("\n")
        if "=" not in line:
            return answer.text
        said = {}
        for word in line.split(" "):
            if "=" in word:
                key, _, value = word.partition("=")
                said[key] = value
            else:
                said[key] += " " + word
        return {**said, "body": rest}

    def idle(self):
        """Nothing of any call is left: no request is under way."""
        def none():
            stats = self.proxy.admin("/stats?filter=upstream_rq_active|upstream_rq_pending_active|downstream_rq_active").text
            return all(line.endswith(" 0") for line in stats.splitlines() if "admin" not in line)
        wait_for(none, "no request to be active")

    def stop(self):
        self.proxy.stop()
        for server in (self.http, self.pour, self.deaf, self.grpc, self.light, self.heavy, self.heavy2, self.flipped):
            server.stop()
        self.dead.close()


@pytest.fixture(scope="module")
def world(skiff_binary, concurrency):
    beside = os.path.join(os.path.dirname(skiff_binary), "skiff_extensions")
    found = [path for path in (beside, os.path.join(REPO, "build/asan/skiff_extensions")) if os.path.exists(path)]
    if not found:
        pytest.fail(f"{beside} is not built: ninja skiff_extensions")
    binary = found[0]
    made = World(binary, concurrency)
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def fresh(world):
    world.http.play()
    yield
    world.idle()
    world.proxy.check_health()
    assert world.proxy.alive()


def expect(said, failure, **more):
    assert said["failure"] == str(FAILURES[failure]), said
    for key, value in more.items():
        assert said[key.replace("_", "-")] == str(value), (key, said)


# --- one HTTP answer ---

def test_http_answer(world):
    world.http.play({"status": 404, "body": "hello", "trailers": {"x-extra": "yes"}})
    expect(world.call("http", "/path"), "ok", status=404, body="hello", bytes=5)
    request = world.http.requests[0]
    assert (request.method, request.path, request.header("host")) == ("GET", "/path", "side")
    assert request.header("x-envoy-internal") == "true"


@pytest.mark.parametrize("cluster, failure", [("nobody", "no cluster"), ("empty", "no host"), ("dead", "connect failed"), ("closed", "overflow")])
@pytest.mark.parametrize("call", ["http", "http-stream", "grpc", "grpc-stream"])
def test_no_connection(world, call, cluster, failure):
    expect(world.call(call, "/t.S/Echo", cluster=cluster), failure, status=0, **({"grpc": 14} if "grpc" in call else {}))


@pytest.mark.parametrize("step, failure, status", [
    ({"close": True}, "reset", 0), ({"reset": True}, "reset", 0), ({"raw": "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", "close": True}, "reset", 200),
    ({"raw": "SMTP\r\n\r\n", "close": True}, "reset", 0), ({"status": 200, "body": "z" * 2000}, "too large", 200)])
def test_broken_http_answers(world, step, failure, status):
    world.http.play(step)
    expect(world.call("http", "/", most=1000), failure, status=status)


def test_http_timeout(world):
    world.http.play({"hang": True})
    expect(world.call("http", "/", timeout_ms=100), "timeout", status=0)
    assert "cluster.side.upstream_rq_timeout" in world.proxy.admin("/stats").text
    assert world.http.requests[0].header("x-envoy-expected-rq-timeout-ms") == "100"


def test_exactly_as_large_as_allowed(world):
    world.http.play({"body": "z" * 1000})
    expect(world.call("http", "/", most=1000), "ok", bytes=1000)


# --- one gRPC answer ---

def test_grpc_answer(world):
    expect(world.call("grpc", "/t.S/Echo", message="hello", timeout_ms=60000), "ok", status=200, grpc=0, body="re hello")


def test_grpc_status(world):
    expect(world.call("grpc", "/t.S/Fail"), "ok", grpc=7, grpc_message="not \xc3\xbcmlaut", trailer="told")
    expect(world.call("grpc", "/t.S/Missing"), "ok", grpc=12)


def test_grpc_limits(world):
    expect(world.call("grpc", "/t.S/Big", message=5000, most=5000), "ok", grpc=0, bytes=5000)
    expect(world.call("grpc", "/t.S/Big", message=5001, most=5000), "too large", grpc=8, bytes=0)
    expect(world.call("grpc", "/t.S/Big", message=4 * 1024 * 1024 + 1), "too large", grpc=8)  # the default


def test_grpc_timeout(world):
    said = world.call("grpc", "/t.S/Silent", timeout_ms=100)
    # Both sides know of the deadline (grpc-timeout): whichever ends it first.
    assert (said["failure"], said["grpc"]) in (("7", "14"), ("0", "4"), ("0", "1"), ("6", "14")), said
    assert world.gone.wait(60), "the server did not hear of it"


@pytest.mark.parametrize("head, body, failure, status", [
    ({"status": 503}, "", "ok", 14), ({"status": 403}, "no", "ok", 7),
    ({}, "\x00\x00\x00\x00\x02ab", "ok", 2),  # no status at all
    ({}, "\x01\x00\x00\x00\x02ab", "bad message", 13), ({}, "\x00\xff\xff\xff\xff", "too large", 8),
    ({"trailers": {"grpc-status": "0"}}, "", "ok", 13), ({"trailers": {"grpc-status": "x"}}, "\x00\x00\x00\x00\x00", "ok", 2)])
def test_odd_grpc_answers(world, head, body, failure, status):
    world.http.play({**head, "body": body})
    expect(world.call("grpc", "/t.S/Echo", cluster="side"), failure, grpc=status)


def test_grpc_frames_in_pieces(world):
    """A frame's head and message may be cut anywhere; two may come in one piece."""
    frames = b"\x00\x00\x00\x00\x03one" + b"\x00\x00\x00\x00\x00" + b"\x00\x00\x00\x00\x05three"

    def pieces(size):
        def run(connection, request):
            connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: grpc-status\r\n\r\n")
            for at in range(0, len(frames), size):
                piece = frames[at:at + size]
                connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            connection.send("0\r\ngrpc-status: 0\r\n\r\n")
            return True
        return run
    for size in (1, 2, 4, 5, 6, 7, 100):
        world.http.play(pieces(size))
        expect(world.call("grpc-stream", "/t.S/Any", cluster="side"), "ok", grpc=0, messages=3, bytes=8, body="onethree")


# --- streams ---

def test_http_stream(world):
    world.http.play({"body": "answer", "trailers": {"x-extra": "yes"}})
    expect(world.call("http-stream", "/", body=b"q" * 300000), "ok", status=200, body="answer")
    assert world.http.requests[0].body == b"q" * 300000


def test_grpc_stream(world):
    said = world.call("grpc-stream", "/t.S/Chat", body=b"one\ntwo\nthree\n")
    expect(said, "ok", grpc=0, messages=3, body="re onere twore three")


def test_grpc_stream_ended_by_the_server(world):
    said = world.call("grpc-stream", "/t.S/Chat", body=b"one\nstop\n")
    expect(said, "ok", grpc=10, messages=2, grpc_message="as asked")


def test_grpc_stream_of_many(world):
    expect(world.call("grpc-stream", "/t.S/Count", body=b"5000\n"), "ok", grpc=0, messages=5000)


def test_grpc_stream_too_large(world):
    expect(world.call("grpc-stream", "/t.S/Chat", body=b"one\n" + b"w" * 2000 + b"\n", most=1000), "too large", grpc=8, messages=1)


def test_slow_reader_holds_the_grpc_server(world):
    connection, request = world.ask("grpc-stream", "/t.S/Flood", pause="yes")
    with connection as c:
        c.send(request.replace(b"\r\n\r\n", b"\r\ncontent-length: 1\r\n\r\n"))
        assert world.flood.stands_still() < FLOOD_MOST
        c.send(b"\n")
        answer = c.read()
    assert f"bytes={FLOOD_BYTES} messages={FLOOD_BYTES // 65536}" in answer.text, answer


def test_slow_reader_holds_the_http_server(world):
    connection, request = world.ask("http-stream", "/", cluster="pour", pause="yes")
    with connection as c:
        c.send(request.replace(b"\r\n\r\n", b"\r\ncontent-length: 1\r\n\r\n"))
        assert world.flood.stands_still() < FLOOD_MOST
        c.send(b"\n")
        assert f"failure=0 status=200 grpc=0 grpc-message= bytes={FLOOD_BYTES} " in c.read().text


def test_slow_server_holds_the_sender(world):
    """What the other side does not read is not gathered: on_watermark stops the client."""
    world.flood.__init__()
    connection, request = world.ask("http-stream", "/", cluster="deaf")

    def send():
        for _ in range(FLOOD_BYTES // 65536):
            connection.sock.sendall(b"u" * 65536)
            world.flood.sent += 65536
    with connection as c:
        c.send(request.replace(b"\r\n\r\n", b"\r\ncontent-length: %d\r\n\r\n" % FLOOD_BYTES))
        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        assert world.flood.stands_still() < FLOOD_MOST
        world.hears.set()
        answer = c.read()
        thread.join()
    assert "failure=0" in answer.text and "above=yes balanced=1" in answer.text, answer


# --- the worst moments ---

PLACES = [("http", "start"), ("http", "headers"), ("http-stream", "start"), ("http-stream", "headers"), ("http-stream", "data"), ("grpc", "start"),
          ("grpc", "headers"), ("grpc-stream", "start"), ("grpc-stream", "headers"), ("grpc-stream", "message")]


@pytest.mark.threads
@pytest.mark.parametrize("action", ["cancel", "reply", "reset"])
@pytest.mark.parametrize("call, place", PLACES)
def test_ended_inside_a_callback(world, call, place, action):
    path = {"http": "/", "http-stream": "/", "grpc": "/t.S/Echo", "grpc-stream": "/t.S/Chat"}[call]
    connection, request = world.ask(call, path, body=b"a\nb\nc\n", at=place, do=action)
    with connection as c:
        c.send(request)
        if action == "reset":
            assert c.at_end() == b""
        else:
            assert c.read().text == ("cancelled" if action == "cancel" else "replied")


@pytest.mark.parametrize("call, path", [("http", "/"), ("http-stream", "/"), ("grpc", "/t.S/Silent"), ("grpc-stream", "/t.S/SilentStream")])
def test_client_leaves_mid_call(world, call, path):
    world.http.play({"hang": True})
    connection, request = world.ask(call, path)
    with connection as c:
        c.send(request)
        wait_for(lambda: world.http.requests if "http" in call else path in world.grpc.calls, "the call to arrive")
    world.idle()
    if "grpc" in call:
        assert world.gone.wait(60)


# --- a network filter ---

def held(world):
    return client.Client(world.proxy.port("held"))


def test_held_connection(world):
    with held(world) as c:
        c.send(b"hello")
        assert c.reader.exactly(5) == b"hello"


@pytest.mark.parametrize("step", [{"status": 403}, {"close": True}])
def test_refused_connection(world, step):
    world.http.play(step)
    with held(world) as c:
        c.send(b"hello")
        assert c.at_end() == b""


def test_held_connection_is_left(world):
    world.http.play({"hang": True})
    with held(world):
        wait_for(lambda: world.http.requests, "the call to arrive")
    world.idle()


# --- balancing: a policy inside a policy, and one that answers later ---

def choose(world, path, **headers):
    with client.Client(world.proxy.port("choose")) as c:
        return c.request(path=path, headers=[("x-" + k.replace("_", "-"), str(v)) for k, v in headers.items()])


def test_inner_policy(world):
    assert {choose(world, "/weighed").text for _ in range(40)} == {"heavy", "heavy2"}


def test_inner_policy_with_a_hash(world):
    """The outer policy needs no hash, the inner one does: each user keeps a host."""
    seen = {user: {choose(world, "/hashed", user=user).text for _ in range(3)} for user in range(20)}
    assert all(len(hosts) == 1 for hosts in seen.values()), seen
    assert set.union(*seen.values()) == {"heavy", "heavy2"}


def test_inner_policy_that_answers_later(world):
    assert choose(world, "/both", test_delay_ms=20).text == "heavy"
    assert choose(world, "/both", test_choice="none").status == 503


@pytest.mark.threads
def test_later_answers(world):
    assert choose(world, "/later", test_delay_ms=20).text == "heavy"
    answer = choose(world, "/later", test_choice="none")
    assert (answer.status, answer.text) == (503, "no healthy upstream")


def test_timeout_before_a_host_is_chosen(world):
    assert choose(world, "/impatient", test_delay_ms=100000).status == 504


def test_client_leaves_before_a_host_is_chosen(world):
    with client.Client(world.proxy.port("choose")) as c:
        c.send(client.request_bytes("GET", "/later", [("x-test-delay-ms", "100000")], None, "test", "HTTP/1.1"))
        wait_for(lambda: "http.choose.downstream_rq_active: 1" in world.proxy.admin("/stats?filter=downstream_rq_active").text, "the request")


def test_later_choice_of_a_connection(world):
    with client.Client(world.proxy.port("tcp")) as c:
        assert c.request().text == "heavy"


@pytest.mark.threads
def test_hosts_change_while_a_choice_waits(world):
    world.endpoints([world.light.port])
    with client.Client(world.proxy.port("choose")) as c:
        headers = [("x-test-delay-ms", "100000"), ("x-test-until", f"127.0.0.1:{world.heavy.port}")]
        c.send(client.request_bytes("GET", "/eds", headers, None, "test", "HTTP/1.1"))
        wait_for(lambda: "http.choose.downstream_rq_active: 1" in world.proxy.admin("/stats?filter=downstream_rq_active").text, "the request")
        world.endpoints([world.heavy.port])
        assert c.read().text == "heavy"


# --- the stream: route, metadata, filter state, bodies, timers, trailers ---

def stream(world, target, method="POST", body=None, **headers):
    with client.Client(world.proxy.port("stream")) as c:
        return c.request(method, target, [("x-test-" + k.replace("_", "-"), str(v)) for k, v in headers.items()], body)


def test_cleared_route(world):
    answer = stream(world, "/side")
    assert (answer.header("x-test-cluster"), answer.text) == ("side", "side")
    answer = stream(world, "/side", path="/first")
    assert (answer.header("x-test-cluster"), answer.text) == ("first", "light")


def test_held_and_changed_body(world):
    assert stream(world, "/side", body=b"b" * 100000, length="yes").status == 200
    assert world.http.requests[-1].body == b"100000:" + b"b" * 100000
    assert stream(world, "/side", body=b"", length="yes").status == 200


def test_a_filter_waits(world):
    assert stream(world, "/side", body=b"later", wait_ms=20).status == 200
    assert world.http.requests[-1].body == b"later"


def test_added_trailers(world):
    assert stream(world, "/side", tail="yes").trailers == [("x-test-tail", "added")]


def test_notes_reach_the_log(world):
    before = world.proxy.admin("/stats?filter=test_log.entries").text
    assert stream(world, "/side", note="noted here").status == 200

    def logged():
        with open(world.folder + "/stream.log", encoding="utf-8") as file:
            return any(json.loads(line) == {"note": "noted here", "state": "noted here"} for line in file if line.endswith("\n"))
    wait_for(logged, "the log line")
    wait_for(lambda: world.proxy.admin("/stats?filter=test_log.entries").text != before, "the entry to be counted")


# --- the edges ---

@pytest.mark.parametrize("said, heard", [(b"SKIPhello", b"hello"), (b"stay here", b"stay here")])
def test_listener_filter(world, said, heard):
    with client.Client(world.proxy.port("peek")) as c:
        c.send(said[:2])  # four bytes in two pieces
        c.send(said[2:])
        assert c.reader.exactly(len(heard)) == heard


def test_listener_filter_that_closes(world):
    with client.Client(world.proxy.port("peek")) as c:
        c.send(b"DROP it")
        assert c.at_end() == b""


def test_transport_socket(world):
    data = bytes(range(256)) * 2000  # echoed flipped twice: as it was; the flipping itself shows in test_flipped_upstream
    with client.Client(world.proxy.port("flip")) as c:
        thread = threading.Thread(target=c.send, args=(data,))
        thread.start()
        assert c.reader.exactly(len(data)) == data
        thread.join()


def flip(data):
    return bytes(b ^ 0x20 for b in data)


def test_flipped_upstream(world):
    """Towards the other side every byte is turned over, and back."""
    with client.Client(world.proxy.port("toflip")) as c:
        c.send(b"Hello")
        assert c.reader.exactly(5) == b"Hello"
    assert world.flipped_bytes == flip(b"Hello")

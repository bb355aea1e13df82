"""A real gRPC client and server (python3-grpcio) through Skiff: all four kinds of calls, health, deadlines, status of our
own answers, over h2c and TLS; a stream that lives through updates."""
import os
import queue
import subprocess
import tempfile
import threading
from concurrent import futures

import grpc
import pytest

from harness import config
from harness.controlplane import ADS, ads_bootstrap
from harness.proxy import Proxy
from harness.wait import wait_for

SECONDS = 60
OPTIONS = config.TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions"
H2 = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": OPTIONS, "explicit_http_config": {"http2_protocol_options": {}}}}
TLS = config.TYPE + "extensions.transport_sockets.tls.v3.DownstreamTlsContext"
CHANNEL = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0)]
SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING}


class Echo(grpc.GenericRpcHandler):
    """/test.Echo/* and the health service, on plain bytes."""

    def __init__(self):
        self.cancelled = queue.Queue()

    def service(self, call):
        kinds = {"/test.Echo/Unary": grpc.unary_unary_rpc_method_handler(self.unary),
                 "/test.Echo/Server": grpc.unary_stream_rpc_method_handler(self.server),
                 "/test.Echo/Client": grpc.stream_unary_rpc_method_handler(self.client),
                 "/test.Echo/Both": grpc.stream_stream_rpc_method_handler(self.both),
                 "/test.Echo/Fail": grpc.unary_unary_rpc_method_handler(self.fail),
                 "/test.Echo/FailLate": grpc.unary_stream_rpc_method_handler(self.fail_late),
                 "/test.Echo/Never": grpc.unary_unary_rpc_method_handler(self.never),
                 "/grpc.health.v1.Health/Check": grpc.unary_unary_rpc_method_handler(lambda _, __: SERVING),
                 "/grpc.health.v1.Health/Watch": grpc.unary_stream_rpc_method_handler(lambda _, __: iter([SERVING]))}
        return kinds.get(call.method)

    def unary(self, request, context):
        context.set_trailing_metadata((("x-trailer", "1"),))
        for key, value in context.invocation_metadata():
            if key in ("x-echo", "x-echo-bin"):
                context.send_initial_metadata(((key, value),))
        return request

    def server(self, request, _):
        for number in range(int(request)):
            yield b"%d" % number

    def client(self, requests, _):
        return b",".join(requests)

    def both(self, requests, _):
        for request in requests:
            yield request

    def fail(self, request, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: ä%\n")

    def fail_late(self, request, context):
        yield b"first"
        context.abort(grpc.StatusCode.DATA_LOSS, "late")

    def never(self, request, context):
        context.add_callback(lambda: self.cancelled.put(True))
        while context.is_active():
            threading.Event().wait(0.05)
        return b""


@pytest.fixture(scope="module")
def backend():
    echo = Echo()
    server = grpc.server(futures.ThreadPoolExecutor(64), handlers=[echo], options=CHANNEL)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield echo, port
    server.stop(None).wait()


@pytest.fixture(scope="module")
def stage(skiff_binary, concurrency, backend):
    """(proxy, {listener: channel})."""
    folder = tempfile.mkdtemp(prefix="skiff-test-")
    key, cert = os.path.join(folder, "key.pem"), os.path.join(folder, "cert.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", cert,
                    "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    routes = [config.route("/test.Missing/", "nobody"), config.route("/test.Dead/", "dead"),
              config.route("/test.Echo/Never", "echo", timeout="0s", max_stream_duration={"grpc_timeout_header_max": "0s"}),
              config.route("/", "echo", timeout="0s")]
    others = [config.cluster(name, ports, typed_extension_protocol_options=H2) for name, ports in (("dead", [1]), ("nobody", []))]
    plain = config.listener("plain", [config.hcm(routes, stat_prefix="plain")])
    secure = config.listener("tls", [config.hcm(routes, stat_prefix="tls")])
    pair = {"certificate_chain": {"filename": cert}, "private_key": {"filename": key}}
    secure["filter_chains"][0]["transport_socket"] = {"name": "tls", "typed_config": {
        "@type": TLS, "common_tls_context": {"alpn_protocols": ["h2"], "tls_certificates": [pair]}}}
    body = config.bootstrap([plain, secure], [config.cluster("echo", [backend[1]], typed_extension_protocol_options=H2), *others])
    proxy = Proxy(skiff_binary, body, concurrency=concurrency)
    with open(cert, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    channels = {"plain": grpc.insecure_channel(f"127.0.0.1:{proxy.port('plain')}", options=CHANNEL),
                "tls": grpc.secure_channel(f"127.0.0.1:{proxy.port('tls')}", credentials, options=[*CHANNEL, ("grpc.ssl_target_name_override", "localhost")])}
    yield proxy, channels
    for channel in channels.values():
        channel.close()
    proxy.stop()


@pytest.fixture(params=["plain", "tls"])
def channel(stage, request):
    return stage[1][request.param]


def failure(call):
    with pytest.raises(grpc.RpcError) as error:
        call()
    return error.value


def test_health(channel):
    assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=SECONDS) == SERVING
    assert list(channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=SECONDS)) == [SERVING]


def test_unary(channel):
    answer, call = channel.unary_unary("/test.Echo/Unary").with_call(b"hello", timeout=SECONDS, metadata=(("x-echo-bin", b"\0\1\xff"),))
    assert answer == b"hello"
    assert ("x-trailer", "1") in call.trailing_metadata()
    assert ("x-echo-bin", b"\0\1\xff") in call.initial_metadata()


@pytest.mark.parametrize("size", [0, 1, 65536, 5000000])
def test_messages_of_all_sizes(channel, size):
    assert channel.unary_unary("/test.Echo/Unary")(b"x" * size, timeout=SECONDS) == b"x" * size


def test_server_streaming(channel):
    assert list(channel.unary_stream("/test.Echo/Server")(b"1000", timeout=SECONDS)) == [b"%d" % n for n in range(1000)]


def test_client_streaming(channel):
    assert channel.stream_unary("/test.Echo/Client")(iter([b"a", b"b", b"c"] * 100), timeout=SECONDS) == b",".join([b"a", b"b", b"c"] * 100)


def test_both_streaming(channel):
    """Each message has its answer before the next one is sent."""
    sent = queue.Queue()
    call = channel.stream_stream("/test.Echo/Both")(iter(sent.get, None), timeout=SECONDS)
    for number in range(100):
        sent.put(b"%d" % number)
        assert next(call) == b"%d" % number
    sent.put(None)
    assert list(call) == [] and call.code() == grpc.StatusCode.OK


def test_many_calls_at_once(channel):
    method = channel.unary_unary("/test.Echo/Unary")
    calls = [method.future(b"%d" % n, timeout=SECONDS) for n in range(500)]
    assert [c.result() for c in calls] == [b"%d" % n for n in range(500)]


def test_status_of_the_server(channel):
    """Trailers only."""
    error = failure(lambda: channel.unary_unary("/test.Echo/Fail")(b"", timeout=SECONDS))
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION and error.details() == "not today: ä%\n"


def test_status_after_messages(channel):
    call = channel.unary_stream("/test.Echo/FailLate")(b"", timeout=SECONDS)
    assert next(call) == b"first"
    error = failure(lambda: next(call))
    assert error.code() == grpc.StatusCode.DATA_LOSS and error.details() == "late"


def test_method_that_the_server_lacks(channel):
    assert failure(lambda: channel.unary_unary("/test.Echo/Nothing")(b"", timeout=SECONDS)).code() == grpc.StatusCode.UNIMPLEMENTED


def test_status_of_our_own_answers(channel):
    """Envoy: 503 is UNAVAILABLE: no endpoint, an endpoint that refuses connections."""
    for method in ("/test.Missing/x", "/test.Dead/x"):
        error = failure(lambda path=method: channel.unary_unary(path)(b"", timeout=SECONDS))
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error


def test_deadline(channel, backend):
    """The client gives up; the server hears of it."""
    error = failure(lambda: channel.unary_unary("/test.Echo/Never")(b"", timeout=1))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert backend[0].cancelled.get(timeout=SECONDS)


def test_cancel(channel, backend):
    call = channel.unary_unary("/test.Echo/Never").future(b"", timeout=SECONDS)
    call.cancel()
    assert call.cancelled()
    channel.unary_unary("/test.Echo/Unary")(b"after", timeout=SECONDS)
    while not backend[0].cancelled.empty():
        backend[0].cancelled.get()


@pytest.mark.threads
def test_a_stream_lives_through_updates(skiff_binary, concurrency, backend, control_plane):
    """A bidirectional stream goes on while its route, its cluster and their weights change under it; new calls follow."""
    other = Echo()
    second = grpc.server(futures.ThreadPoolExecutor(8), handlers=[other], options=CHANNEL)
    port = second.add_insecure_port("127.0.0.1:0")
    second.start()
    plane = control_plane()

    def clusters(timeout):
        return [config.cluster(name, [p], connect_timeout=timeout, typed_extension_protocol_options=H2) for name, p in (("one", backend[1]), ("two", port))]

    def table(cluster, number):
        return [{"name": "web", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [config.route("/", cluster, timeout="0s")],
                                                   "response_headers_to_add": [{"header": {"key": "x-number", "value": str(number)}}]}]}]
    plane.set("cluster", clusters("5s"))
    plane.set("route", table("one", 0))
    plane.set("listener", [config.listener("main", [config.hcm(rds={"route_config_name": "web", "config_source": ADS})])])
    proxy = Proxy(skiff_binary, ads_bootstrap(plane.port), concurrency=concurrency)
    try:
        channel = grpc.insecure_channel(f"127.0.0.1:{proxy.port()}", options=CHANNEL)
        sent = queue.Queue()
        call = channel.stream_stream("/test.Echo/Both")(iter(sent.get, None), timeout=4 * SECONDS)
        unary = channel.unary_unary("/test.Echo/Unary")
        for number in range(1, 41):
            sent.put(b"%d" % number)
            assert next(call) == b"%d" % number
            plane.set("cluster", clusters(f"{5 + number}s"))
            plane.wait_ack("cluster")
            plane.set("route", table("one" if number % 2 else "two", number))
            plane.wait_ack("route")
            wait_for(lambda wanted=str(number): ("x-number", wanted) in unary.with_call(b"x", timeout=SECONDS)[1].initial_metadata(), "the new table")
        plane.set("cluster", clusters("5s")[1:])
        plane.wait_ack("cluster")
        sent.put(b"last")
        assert next(call) == b"last"
        sent.put(None)
        assert list(call) == [] and call.code() == grpc.StatusCode.OK
        channel.close()
    finally:
        proxy.stop()
        second.stop(None).wait()

"""The client status API (CSDS) as a gRPC service: --client-status-address."""
import queue
import re
import socket

import grpc
import pytest

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.status.v3 import csds_pb2, csds_pb2_grpc
from envoy.type.matcher.v3 import node_pb2, regex_pb2, string_pb2
from harness import config
from harness.controlplane import URL, ControlPlane, ads_bootstrap
from harness.pki import Pki
from harness.wait import LONG, wait_for

ANY_PORT = ("--client-status-address", "127.0.0.1:0")
CALLS_MOST = 16
SERVICE = "/envoy.service.status.v3.ClientStatusDiscoveryService/"
Question = csds_pb2.ClientStatusRequest


def address(proxy):
    """As the log tells it: ip:port, or a path."""
    found = wait_for(lambda: re.search(r"client status address: (\S+)\n", proxy.log()), "the line with the address")[1]
    return f"unix:{found}" if found.startswith("/") else found


@pytest.fixture
def dial():
    """A function: a channel to a proxy's service, with a connection of its own."""
    channels = []

    def one(proxy):
        channels.append(grpc.insecure_channel(address(proxy), options=[("grpc.use_local_subchannel_pool", 1)]))
        return channels[-1]
    yield one
    for channel in channels:
        channel.close()


def stub_of(channel):
    return csds_pb2_grpc.ClientStatusDiscoveryServiceStub(channel)


def node(**matcher):
    return node_pb2.NodeMatcher(node_id=string_pb2.StringMatcher(**matcher))


def failure(call, *args, **more):
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, timeout=LONG, **more)
    return caught.value.code(), caught.value.details()


class Stream:
    """A stream whose questions are sent one by one; it stays open until `close`."""

    def __init__(self, channel):
        self.waiting = queue.Queue()
        self.answers = stub_of(channel).StreamClientStatus(iter(self.waiting.get, None), timeout=LONG)

    def ask(self, **more):
        self.waiting.put(Question(**more))
        return next(self.answers)

    def close(self):
        self.waiting.put(None)


def test_unary_and_stream(skiff, upstream, dial):
    plane = ControlPlane()
    try:
        port = upstream("a").port
        plane.set("cluster", [config.cluster("a", [port])])
        plane.set("listener", [])
        channel = dial(skiff(ads_bootstrap(plane.port), args=ANY_PORT))
        (one,) = stub_of(channel).FetchClientStatus(Question(), timeout=LONG).config
        assert one.node.id == "test-node"
        found = {(i.type_url, i.name): i for i in one.generic_xds_configs}
        assert found[URL["cluster"], "a"].version_info == plane.version("cluster")
        assert found[URL["cluster"], "a"].xds_config.type_url == URL["cluster"] and found[URL["cluster"], "xds"].is_static_resource
        stream = Stream(channel)
        assert not any(i.HasField("xds_config") for i in stream.ask(exclude_resource_contents=True).config[0].generic_xds_configs)
        plane.set("cluster", [config.cluster("b", [port])], version="new")
        plane.wait_ack("cluster", "new")
        assert ["new"] == [i.version_info for i in stream.ask().config[0].generic_xds_configs if i.name == "b"]
        plane.set("cluster", [{"name": "b", "connect_timeout": "-1s"}], version="bad")
        plane.wait_nack("cluster", "bad")
        (bad,) = [i for i in stream.ask().config[0].generic_xds_configs if i.name == "b"]
        assert (bad.config_status, bad.version_info, bad.error_state.version_info) == (csds_pb2.ERROR, "new", "bad")
        assert bad.error_state.failed_configuration.value and "connect_timeout" in bad.error_state.details
        assert len(stream.ask(node_matchers=[node(exact="another")]).config) == 0
        assert len(stream.ask(node_matchers=[node(exact="another"), node(prefix="test")]).config) == 1
        stream.close()
        assert list(stream.answers) == [] and stream.answers.code() == grpc.StatusCode.OK
    finally:
        plane.stop()


def test_wrong_questions(skiff, dial):
    proxy = skiff(config.bootstrap([], []), args=ANY_PORT)
    channel = dial(proxy)
    fetch, raw = stub_of(channel).FetchClientStatus, channel.unary_unary(SERVICE + "FetchClientStatus")
    bad = Question(node_matchers=[node_pb2.NodeMatcher(node_id=string_pb2.StringMatcher(safe_regex=regex_pb2.RegexMatcher(regex="(")))])
    code, text = failure(fetch, bad)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "node_matchers[0]" in text
    code, text = failure(raw, b"\xff\xff")
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "ClientStatusRequest" in text
    assert failure(channel.unary_unary(SERVICE + "Nonsense"), b"") == (grpc.StatusCode.UNIMPLEMENTED, "no such method")
    assert failure(channel.stream_unary(SERVICE + "FetchClientStatus"), iter(()))[0] == grpc.StatusCode.INVALID_ARGUMENT
    assert failure(fetch, Question(node_matchers=[node(exact="x" * 70000)]))[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failure(fetch, Question(), compression=grpc.Compression.Gzip)[0] == grpc.StatusCode.UNIMPLEMENTED
    stream = stub_of(channel).StreamClientStatus(iter([Question(), bad, Question()]), timeout=LONG)
    assert len(next(stream).config) == 1
    with pytest.raises(grpc.RpcError):
        next(stream)
    assert stream.code() == grpc.StatusCode.INVALID_ARGUMENT
    with socket.create_connection(address(proxy).split(":"), timeout=LONG) as no_client:
        no_client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 10)
        while no_client.recv(1000):
            pass  # whatever is said, the connection ends
    assert len(fetch(Question(), timeout=LONG).config) == 1


def test_no_more_calls_than_bounded(skiff, dial):
    proxy = skiff(config.bootstrap([], []), args=ANY_PORT)
    one, other = dial(proxy), dial(proxy)
    streams = [Stream(one if i % 2 else other) for i in range(CALLS_MOST)]
    for stream in streams:
        assert stream.ask().config
    assert failure(stub_of(one).FetchClientStatus, Question()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls at once")
    streams[0].answers.cancel()
    streams[1].close()

    def again():
        try:
            return stub_of(other).FetchClientStatus(Question(), timeout=LONG).config
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            return None
    wait_for(again, "the place of a call that ended")
    assert streams[2].ask().config
    proxy.stop()  # with open streams
    assert streams[2].answers.exception() is not None


def test_secrets_are_hidden(skiff, dial, tmp_path):
    leaf = Pki(tmp_path).issue("one", "DNS:one.example")
    body = config.bootstrap([], [])
    body["static_resources"]["secrets"] = [{"name": "s", "tls_certificate": leaf.inline()}]
    channel = dial(skiff(body, args=("--client-status-address", str(tmp_path / "status"))))
    answer = stub_of(channel).FetchClientStatus(Question(), timeout=LONG)
    (item,) = [i for i in answer.config[0].generic_xds_configs if i.name == "s"]
    secret = secret_pb2.Secret()
    assert item.xds_config.Unpack(secret)
    assert secret.tls_certificate.private_key.inline_string == "[redacted]" and "BEGIN CERTIFICATE" in secret.tls_certificate.certificate_chain.inline_string
    assert b"PRIVATE KEY" not in answer.SerializeToString()


@pytest.mark.parametrize("text, told", [
    ("taken", "--client-status-address: cannot bind '127.0.0.1:{port}': Address already in use"),
    ("localhost", "--client-status-address: 'localhost' is not ip:port"), ("", "--client-status-address: '' is not ip:port")])
def test_an_address_that_does_not_work(skiff, text, told):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        proxy = skiff(config.bootstrap([], []), args=("--client-status-address", f"127.0.0.1:{port}" if text == "taken" else text), wait=False)
        proxy.expected_exit = (1,)
        assert proxy.wait_end() == 1
        assert told.format(port=port) in proxy.log()

"""envoy.transport_sockets.upstream_proxy_protocol: the header that the upstream gets is Envoy's, byte for byte but for ports."""
import base64
import re
import socket
import ssl
import struct

import pytest

from harness import config, http1
from harness.pki import Pki
from harness.proxy import Proxy
from harness.upstream import Upstream

SOCKET = config.TYPE + "extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"
RAW = {"name": "envoy.transport_sockets.raw_buffer", "typed_config": {"@type": config.TYPE + "extensions.transport_sockets.raw_buffer.v3.RawBuffer"}}
LISTEN = {"name": "envoy.filters.listener.proxy_protocol", "typed_config": {
    "@type": config.TYPE + "extensions.filters.listener.proxy_protocol.v3.ProxyProtocol", "allow_requests_without_proxy_protocol": True}}
V2 = b"\r\n\r\n\0\r\nQUIT\n"


def v2(source="10.9.8.7", port=4000, tlvs=b""):
    body = socket.inet_aton(source) + socket.inet_aton("10.0.0.1") + struct.pack("!HH", port, 443) + tlvs
    return V2 + b"\x21\x11" + struct.pack("!H", len(body)) + body


def tlv(kind, value):
    return bytes([kind]) + struct.pack("!H", len(value)) + value


# What the upstream connection knows, not the client's.
FORMAT = "x %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_HOST_NAME_WITHOUT_PORT% %PROTOCOL% %REQ(:path)% %START_TIME(%Y)% %RESPONSE_CODE%"
CLUSTERS = {  # ProxyProtocolConfig and fields of the transport
    "v1": ({}, {}), "v2": ({"version": "V2"}, {}),
    "added": ({"version": "V2", "added_tlvs": [{"type": 0xE0, "value": "Zm9v"}, {"type": 0xE1, "value": "AA=="}, {"type": 0xE0, "value": "YmFy"}]}, {}),
    "pass_all": ({"version": "V2", "pass_through_tlvs": {"match_type": "INCLUDE_ALL"}}, {}),
    "pass_some": ({"version": "V2", "pass_through_tlvs": {"match_type": "INCLUDE", "tlv_type": [0xE2, 0x05]}}, {}),
    "pass_and_add": ({"version": "V2", "pass_through_tlvs": {"match_type": "INCLUDE_ALL"}, "added_tlvs": [{"type": 0xE2, "value": "b3Vycw=="}]}, {}),
    "tlv_key": ({"version": "V2", "pass_through_tlvs": {"match_type": "INCLUDE_ALL"}}, {"tlv_as_pool_key": True}),
    "host": ({"version": "V2"}, {"metadata": [(0xE5, b"h"), (0xE6, b"")]}),
    "host_and_add": ({"version": "V2", "added_tlvs": [{"type": 0xE0, "value": "Zm9v"}, {"type": 0xE5, "value": "YmFy"}]},
                     {"metadata": [(0xE5, b"h5"), (0xE6, b"h6"), (0xE5, b"again")]}),
    "host_and_pass": ({"version": "V2", "pass_through_tlvs": {"match_type": "INCLUDE_ALL"}, "added_tlvs": [{"type": 0xE0, "value": "Zm9v"}]},
                      {"metadata": [(0xE2, b"mine")]}),
    "host_v1": ({}, {"metadata": [(0xE5, b"h")]}),
    "format": ({"version": "V2", "added_tlvs": [{"type": 0xE0, "format_string": {"text_format_source": {"inline_string": FORMAT}}}, {"type": 0xE1, "value": "AA=="}]}, {}),
    "tls_v1": ({}, {"transport_socket": "tls"}), "tls_v2": ({"version": "V2"}, {"transport_socket": "tls"}),
}
TLVS = tlv(0xE2, b"theirs") + tlv(0x05, b"id") + tlv(0xE3, b"")
ROWS = [(f"{cluster} {kind}", cluster, kind, prefix) for cluster in CLUSTERS
        for kind, prefix in (("plain", b""), ("proxied", v2()), ("TLVs", v2(port=4001, tlvs=TLVS)), ("IPv6", b"PROXY TCP6 2001:db8::1 2001:db8::2 5 6\r\n"))
        if kind in ("plain", "proxied") or (kind == "TLVs") == ("pass" in cluster or cluster in ("added", "format"))]


class Target(Upstream):
    """Takes the PROXY header off, then speaks HTTP; `headers` is what came."""

    def __init__(self, context=None):
        self.headers, self.context = [], context
        super().__init__("t", handler=self.take)

    def take(self, connection):
        sock, data = connection.sock, b""
        while not (data.startswith(b"PROXY ") and data.endswith(b"\r\n")):
            more = sock.recv(1)
            if not more:
                return
            data += more
            if len(data) == 16 and data.startswith(V2):
                left = struct.unpack("!H", data[14:])[0]
                while left and (more := sock.recv(left)):
                    data, left = data + more, left - len(more)
                break
        self.headers.append(data)
        if self.context:
            sock = self.context.wrap_socket(sock, server_side=True)
        reader = http1.Reader(sock)
        while True:
            reader.until(b"\r\n\r\n")
            sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


class Side:
    def __init__(self, binary, pki, folder, concurrency):
        leaf = pki.issue("up", "DNS:up.example")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(leaf.cert, leaf.key)
        self.targets = {name: Target(context if name.startswith("tls") else None) for name in CLUSTERS}
        tls = {"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": config.TYPE + "extensions.transport_sockets.tls.v3.UpstreamTlsContext", "sni": "up.example",
            "common_tls_context": {"validation_context": {"trusted_ca": {"filename": pki.ca.cert}}}}}
        clusters = []
        for name, (body, more) in CLUSTERS.items():
            inner = tls if more.get("transport_socket") else RAW
            outer = {"@type": SOCKET, "config": body, **{k: v for k, v in more.items() if k not in ("transport_socket", "metadata")},
                     "transport_socket": inner}
            clusters.append(cluster := config.cluster(name, [self.targets[name].port], transport_socket={
                "name": "envoy.transport_sockets.upstream_proxy_protocol", "typed_config": outer}))
            if "metadata" in more:
                added = [{"type": kind, "value": base64.b64encode(value).decode()} for kind, value in more["metadata"]]
                cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["metadata"] = {"typed_filter_metadata": {
                    "envoy.transport_sockets.proxy_protocol": {"@type": config.TYPE + "config.core.v3.PerHostConfig", "added_tlvs": added}}}
        pass_all = {"name": LISTEN["name"], "typed_config": {**LISTEN["typed_config"], "pass_through_tlvs": {"match_type": "INCLUDE_ALL"}}}
        listeners = [config.listener("http", [config.hcm(routes=[config.route(prefix="/" + n, cluster=n) for n in sorted(CLUSTERS, key=len, reverse=True)])],
                                     listener_filters=[pass_all])]
        listeners.append(config.listener("edge", [config.hcm(routes=[config.route(cluster="v1")], use_remote_address=True, xff_num_trusted_hops=1)]))
        listeners.append(old := config.listener("old", [config.hcm(routes=[config.route(cluster="v1")])]))
        old["filter_chains"][0]["use_proxy_proto"] = True
        for name, encoding in (("text", "SANITIZED_UTF8"), ("base64", "BASE64")):
            rules = [{"tlv_type": kind, "on_tlv_present": {"key": key, "value_string_encoding": encoding}} for kind, key in ((0xE2, "a"), (0x05, "b"))]
            seen = {"name": LISTEN["name"], "typed_config": {**LISTEN["typed_config"], "rules": rules, "tlv_location": "FILTER_STATE"}}
            listeners.append(config.listener(name, [config.hcm(routes=[{**config.route(cluster="v1"), "response_headers_to_add": [
                {"header": {"key": "x-" + key, "value": f"%FILTER_STATE(envoy.network.proxy_protocol.tlv:FIELD:{key})%"}, "keep_empty_value": True}
                for key in ("a", "b", "c")]}])], listener_filters=[seen]))
        for name in ("v1", "v2"):
            listeners.append(config.listener("tcp_" + name, [{"name": "envoy.filters.network.tcp_proxy", "typed_config": {
                "@type": config.TYPE + "extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": name, "cluster": name}}], listener_filters=[pass_all]))
        self.proxy = Proxy(binary, config.bootstrap(listeners, clusters), directory=folder, concurrency=concurrency)

    def stop(self, check):
        try:
            self.proxy.stop(check=check)
        finally:
            for target in self.targets.values():
                target.stop()

    def ask(self, listener, path, prefix=b"", requests=1, headers=""):
        """The client's port; requests over one connection."""
        with socket.create_connection(("127.0.0.1", self.proxy.port(listener)), 60) as sock:
            reader = http1.Reader(sock)
            sock.sendall(prefix)
            for _ in range(requests):
                sock.sendall(f"GET {path} HTTP/1.1\r\nhost: test\r\n{headers}\r\n".encode())
                try:
                    self.head = reader.until(b"\r\n\r\n")
                except (OSError, EOFError, AssertionError):
                    return None
                http1.parse_head(self.head)
                assert reader.exactly(2) == b"ok"
            return sock.getsockname()[1]

    def plain(self, data, client=0):
        """The header with names for ports; a version 2 header as (16 bytes, addresses, ports, TLVs)."""
        names = {client: "<client>", **{p: f"<{n}>" for n, p in self.proxy.ports.items()}, **{t.port: f"<{n}>" for n, t in self.targets.items()}}
        if data.startswith(b"PROXY "):
            words = data.decode().split(" ")
            return [names.get(int(w), w) if w.strip().isdigit() and int(w) > 1000 else w for w in words]
        if data[12] == 0x20:
            return data
        size = 4 if data[13] == 0x11 else 16
        ports = struct.unpack("!HH", data[16 + 2 * size:20 + 2 * size])
        return data[:16], data[16:16 + 2 * size], [names.get(p, p) for p in ports], data[20 + 2 * size:]


@pytest.fixture(scope="module")
def sides(envoy_binary, skiff_binary, concurrency, tmp_path_factory):
    folder = tmp_path_factory.mktemp("proxy-protocol")
    pki, made = Pki(folder / "pki"), []
    for name, binary in (("envoy", envoy_binary), ("skiff", skiff_binary)):
        (folder / name).mkdir()
        made.append(Side(binary, pki, str(folder / name), concurrency))
    yield made
    made[0].stop(check=False)
    made[1].stop(check=True)


def both(sides, run):
    envoy, skiff = (run(side) for side in sides)
    sides[1].proxy.check_health()
    assert skiff == envoy
    return skiff


@pytest.mark.parametrize("name, cluster, kind, prefix", ROWS, ids=[row[0] for row in ROWS])
@pytest.mark.xdist_group("upstream-proxy-protocol")
def test_header(sides, name, cluster, kind, prefix):
    def run(side):
        before = len(side.targets[cluster].headers)
        client = side.ask("http", "/" + cluster, prefix)
        return [side.plain(h, client) for h in side.targets[cluster].headers[before:]]
    assert len(both(sides, run)) == 1


@pytest.mark.parametrize("cluster", ["v1", "v2"])
@pytest.mark.xdist_group("upstream-proxy-protocol")
def test_tcp_proxy(sides, cluster):
    def run(side):
        before = len(side.targets[cluster].headers)
        client = side.ask("tcp_" + cluster, "/", v2("10.7.7.7", 77))
        return [side.plain(h, client) for h in side.targets[cluster].headers[before:]]
    assert len(both(sides, run)) == 1


@pytest.mark.parametrize("cluster, prefixes, count", [
    ("v2", [v2("10.1.1.1"), v2("10.1.1.1"), v2("10.1.1.2"), v2("10.1.1.1", 4001)], 3),
    ("pass_all", [v2("10.1.2.1", tlvs=tlv(0xE2, b"x")), v2("10.1.2.1", tlvs=tlv(0xE2, b"y"))], 1),
])
@pytest.mark.xdist_group("upstream-proxy-protocol")
def test_no_two_clients_share_a_connection(sides, concurrency, cluster, prefixes, count):
    def run(side):
        target = side.targets[cluster]
        before = len(target.headers)
        for prefix in prefixes:
            side.ask("http", "/" + cluster, prefix, requests=2)
        return sorted({side.plain(h)[1] + side.plain(h)[3] for h in target.headers[before:]}), len(target.headers) - before
    envoy, skiff = (run(side) for side in sides)
    if concurrency == 1:
        assert envoy[0] == skiff[0]
        assert envoy[1] == skiff[1] == count
    else:  # each worker has connections of its own: what two clients of one address send may go over one or two
        assert skiff[1] >= count


@pytest.mark.xdist_group("upstream-proxy-protocol")
def test_tlv_as_pool_key(sides, concurrency):
    """As its documentation says; Envoy 1.40 shares the connection all the same."""
    target = sides[1].targets["tlv_key"]
    before = len(target.headers)
    for value in (b"x", b"y", b"x"):
        sides[1].ask("http", "/tlv_key", v2("10.1.3.1", tlvs=tlv(0xE2, value)))
    ends = [header[-1:] for header in target.headers[before:]]
    assert set(ends) == {b"x", b"y"} and (concurrency > 1 or len(ends) == 2)


@pytest.mark.xdist_group("upstream-proxy-protocol")
def test_the_connections_address_is_told(sides):
    """Not the one that x-forwarded-for claims."""
    def run(side):
        before = len(side.targets["v1"].headers)
        client = side.ask("edge", "/", headers="x-forwarded-for: 203.0.113.7, 198.51.100.1\r\n")
        return [side.plain(h, client) for h in side.targets["v1"].headers[before:]]
    both(sides, run)


@pytest.mark.parametrize("prefix", [b"", v2(), b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n"], ids=["none", "v2", "v1"])
@pytest.mark.xdist_group("upstream-proxy-protocol")
def test_use_proxy_proto(sides, prefix):
    """The old field of a filter chain brings the listener filter."""
    def run(side):
        before = len(side.targets["v1"].headers)
        client = side.ask("old", "/", prefix)
        return [side.plain(h, client) for h in side.targets["v1"].headers[before:]], client is None
    assert both(sides, run)[1] == (prefix == b"")


@pytest.mark.parametrize("listener", ["text", "base64"])
@pytest.mark.xdist_group("upstream-proxy-protocol")
def test_tlvs_in_filter_state(sides, listener):
    def run(side):
        side.ask(listener, "/", v2("10.1.4.1", tlvs=tlv(0xE2, b"first") + tlv(0xE2, b"th\xc3\xa9irs") + tlv(0x05, b"a\xff\xfe\xe2\x82z")))
        return re.findall(rb"(?im)^x-[abc]: ?(.*)\r$", side.head)
    assert len(both(sides, run)) == 3

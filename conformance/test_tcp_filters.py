"""Network and listener filters around tcp_proxy: the same exchanges on Skiff and on the real Envoy."""
import socket
import ssl
import struct
import time

import pytest

from harness import config
from harness.wait import wait_for
from harness.tcp import LOG, connect, tcp
from test_tcp_proxy import PORTS, both, only_read, read_end

FIELDS = {**LOG, "details": "%CONNECTION_TERMINATION_DETAILS%", "rbac": "%DYNAMIC_METADATA(envoy.filters.network.rbac)%",
          "common": "%DYNAMIC_METADATA(envoy.common)%", "tlv": "%DYNAMIC_METADATA(envoy.filters.listener.proxy_protocol)%",
          "remote": "%DOWNSTREAM_REMOTE_ADDRESS%", "direct": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
          "seen": "%FILTER_STATE(seen)%", "seen_plain": "%FILTER_STATE(seen:PLAIN)%",
          "local": "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%"}
NET = config.TYPE + "extensions.filters.network."
LISTENER = config.TYPE + "extensions.filters.listener."


def network(name, kind, **body):
    return {"name": "envoy.filters.network." + name, "typed_config": {"@type": NET + kind, **body}}


def listening(name, kind, **body):
    return {"name": "envoy.filters.listener." + name, "typed_config": {"@type": LISTENER + kind, **body}}


def rbac(name, rules=None, **over):
    body = {"stat_prefix": name, **over}
    if rules:
        body["rules"] = rules
    return network("rbac", "rbac.v3.RBAC", **body)


def policy(permission=None, principal=None):
    return {"permissions": [permission or {"any": True}], "principals": [principal or {"any": True}]}


def rules(permission=None, principal=None, action="ALLOW", name="one"):
    return {"action": action, "policies": {name: policy(permission, principal)}}


LOOPBACK = {"address_prefix": "127.0.0.0", "prefix_len": 8}
ELSEWHERE = {"address_prefix": "10.0.0.0", "prefix_len": 8}
STATE = {"key": "envoy.tcp_proxy.cluster", "string_match": {"exact": "echo"}}
RBAC = {
    "any": rules(),
    "deny_any": rules(action="DENY"),
    "log_any": rules(action="LOG"),
    "no_policy": {"action": "ALLOW"},
    "no_policy_deny": {"action": "DENY"},
    "remote_ip": rules(principal={"remote_ip": LOOPBACK}),
    "remote_ip_not": rules(principal={"remote_ip": ELSEWHERE}),
    "direct_ip": rules(principal={"direct_remote_ip": LOOPBACK}),
    "source_ip": rules(principal={"source_ip": ELSEWHERE}),
    "not_id": rules(principal={"not_id": {"remote_ip": ELSEWHERE}}),
    "and_ids": rules(principal={"and_ids": {"ids": [{"any": True}, {"remote_ip": ELSEWHERE}]}}),
    "or_ids": rules(principal={"or_ids": {"ids": [{"remote_ip": ELSEWHERE}, {"remote_ip": LOOPBACK}]}}),
    "destination_ip": rules({"destination_ip": LOOPBACK}),
    "port": rules({"destination_port": 1}),
    "port_range": rules({"destination_port_range": {"start": 1024, "end": 65536}}),
    "port_range_not": rules({"not_rule": {"destination_port_range": {"start": 1024, "end": 65536}}}),
    "sni_empty": rules({"requested_server_name": {"exact": "x"}}),
    "authenticated": rules(principal={"authenticated": {}}),
    "path": rules({"url_path": {"path": {"prefix": "/"}}}),
    "metadata": rules({"metadata": {"filter": "a", "path": [{"key": "b"}], "value": {"present_match": True}}}),
    "metadata_invert": rules({"metadata": {"filter": "a", "path": [{"key": "b"}], "value": {"present_match": True}, "invert": True}}),
    "state": rules(principal={"filter_state": STATE}),
    "spaced name": rules(action="DENY", name="a name with spaces"),
    "second": {"action": "DENY", "policies": {"b": policy(), "a": policy({"destination_port": 1}), "aa": policy()}},
}


def say(sock, data):
    """Sends, waits for the first answer, ends. Denied connections end in a reset or an end; what counts is that nothing came."""
    try:
        sock.sendall(data)
        got = sock.recv(65536)
        if not got:
            return got
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        return b""
    return got + read_end(sock)[0]


def say_and_read(port, data=b"ping pong ping"):
    with connect(port) as sock:
        return say(sock, data)


def say_and_wait(port):
    """Stays until the proxy ends it."""
    with connect(port) as sock:
        sock.sendall(b"ping")
        return read_end(sock)


def state(*values):
    return network("set_filter_state", "set_filter_state.v3.Config", on_new_connection=list(values))


def value(key, text, **over):
    return {"object_key": key, "format_string": {"text_format_source": {"inline_string": text}}, **over}


def header_v1(text, data=b"ping"):
    return lambda port: say_and_read(port, text + data)


SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def header_v2(command=0x21, family=0x11, body=None, tlvs=()):
    if body is None:
        body = bytes([1, 2, 3, 4, 5, 6, 7, 8]) + struct.pack(">HH", 1111, 2222)
    for kind, value in tlvs:
        body += struct.pack(">BH", kind, len(value)) + value
    return SIGNATURE + struct.pack(">BBH", command, family, len(body)) + body


def in_pieces(data, tail=b"ping"):
    def client(port):
        with connect(port) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for i in range(len(data)):
                sock.sendall(data[i:i + 1])
                time.sleep(0.002)
            return say(sock, tail)
    return client


def three_times(port):
    return [say_and_read(port) for _ in range(3)]


def two_at_once(port):
    with connect(port) as first:
        first.sendall(b"a")
        got = first.recv(1)
        second = say_and_read(port)
    return got, second


def hello(port, name, alpn=()):
    """A real ClientHello; the upstream echoes it, so the handshake fails, which is fine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    with connect(port) as sock:
        try:
            context.wrap_socket(sock, server_hostname=name)
        except (ssl.SSLError, OSError) as error:
            return type(error).__name__ if not isinstance(error, ssl.SSLError) else "tls"
    return "?"


def cluster_by_sni(name):
    """Did anything come back?"""
    def client(port):
        raw = ssl.MemoryBIO()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        tls = context.wrap_bio(ssl.MemoryBIO(), raw, server_hostname=name)
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        with connect(port) as sock:
            return len(say(sock, raw.read())) > 0
    return client


INSPECT = [listening("tls_inspector", "tls_inspector.v3.TlsInspector")]
PROXY = [listening("proxy_protocol", "proxy_protocol.v3.ProxyProtocol",
                   rules=[{"tlv_type": 0xE0, "on_tlv_present": {"key": "e0"}},
                          {"tlv_type": 0x02, "on_tlv_present": {"metadata_namespace": "other", "key": "authority"}}])]
PROXY_MAYBE = [listening("proxy_protocol", "proxy_protocol.v3.ProxyProtocol", allow_requests_without_proxy_protocol=True)]
PROXY_V2_ONLY = [listening("proxy_protocol", "proxy_protocol.v3.ProxyProtocol", disallowed_versions=["V1"], stat_prefix="two")]
BUCKET = {"max_tokens": 2, "fill_interval": "3600s"}
V1 = b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\r\n"

# name, client, network filters before tcp_proxy (or instead of it), listener filters
CASES = [("rbac_" + name.replace(" ", "_"), say_and_read, [rbac("rbac_" + name.replace(" ", "_"), body)], []) for name, body in RBAC.items()]
CASES += [
    ("rbac_shadow", say_and_read, [rbac("rbac_shadow", rules(), shadow_rules=rules(action="DENY", name="sh"))], []),
    ("rbac_shadow_prefix", say_and_read,
     [rbac("rbac_shadow_prefix", rules(), shadow_rules=rules({"destination_port": 1}), shadow_rules_stat_prefix="pre_")], []),
    ("rbac_continuous", say_and_read, [rbac("rbac_continuous", rules(), enforcement_type="CONTINUOUS")], []),
    ("rbac_delay", say_and_read, [rbac("rbac_delay", rules(action="DENY"), delay_deny="0.2s")], []),
    ("rbac_dotted", say_and_read, [rbac("rbac_dotted.", rules(), shadow_rules=rules(), shadow_rules_stat_prefix="istio_")], []),
    ("rbac_none", say_and_read, [rbac("rbac_none")], []),
    ("rbac_sni", lambda port: hello(port, "good.example"), [rbac("rbac_sni", rules({"requested_server_name": {"exact": "good.example"}}))],
     INSPECT),
    ("limit", two_at_once, [network("connection_limit", "connection_limit.v3.ConnectionLimit", stat_prefix="limit", max_connections=1)], []),
    ("limit_delay", two_at_once, [network("connection_limit", "connection_limit.v3.ConnectionLimit", stat_prefix="limit_delay",
                                          max_connections=1, delay="0.2s")], []),
    ("limit_off", two_at_once, [network("connection_limit", "connection_limit.v3.ConnectionLimit", stat_prefix="limit_off",
                                        max_connections=1, runtime_enabled={"default_value": False})], []),
    ("rate", three_times, [network("local_ratelimit", "local_ratelimit.v3.LocalRateLimit", stat_prefix="rate", token_bucket=BUCKET)], []),
    ("listener_rate", three_times, [], [listening("local_ratelimit", "local_ratelimit.v3.LocalRateLimit", stat_prefix="listener_rate",
                                                  token_bucket=BUCKET)]),
    ("sni_cluster", cluster_by_sni("echo"), [network("sni_cluster", "sni_cluster.v3.SniCluster")], INSPECT),
    ("sni_cluster_unknown", cluster_by_sni("nobody"), [network("sni_cluster", "sni_cluster.v3.SniCluster")], INSPECT),
    ("state_cluster", say_and_read, [state(value("envoy.tcp_proxy.cluster", "echo"))], []),
    ("state_cluster_unknown", say_and_read, [state(value("envoy.tcp_proxy.cluster", "nobody"))], []),
    ("state_last_wins", say_and_read, [state(value("envoy.tcp_proxy.cluster", "nobody"), value("envoy.tcp_proxy.cluster", "echo"))], []),
    ("state_empty_skipped", say_and_read, [state(value("envoy.tcp_proxy.cluster", "%REQUESTED_SERVER_NAME%", skip_if_empty=True))], []),
    ("state_text", say_and_read, [state(value("seen", "ip %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", factory_key="envoy.string"))], []),
    ("state_idle", say_and_wait, [state(value("envoy.tcp_proxy.per_connection_idle_timeout_ms", "1500"))], []),
    ("state_bad_number", say_and_read, [state(value("envoy.tcp_proxy.per_connection_idle_timeout_ms", "soon"))], []),
    ("state_shared", say_and_read, [state(value("seen", "shared", factory_key="envoy.string", shared_with_upstream="TRANSITIVE"))], []),
    ("state_rbac", say_and_read, [state(value("seen", "echo", factory_key="envoy.string")),
                                  rbac("state_rbac", rules(principal={"filter_state": {"key": "seen", "string_match": {"exact": "echo"}}}))], []),
    ("tls_plain", say_and_read, [], INSPECT),
    ("tls_sni", lambda port: hello(port, "Name.Example", ["h2", "http/1.1"]), [], INSPECT),
    ("tls_garbage", lambda port: say_and_read(port, b"\x16\x03\x01\x00\x05hello"), [], INSPECT),
    ("proxy_v1", header_v1(V1), [], PROXY),
    ("proxy_v1_pieces", in_pieces(V1), [], PROXY),
    ("proxy_v1_ipv6", header_v1(b"PROXY TCP6 1:2:3::4 5:6::8 65535 1234\r\n"), [], PROXY),
    ("proxy_v1_unknown", header_v1(b"PROXY UNKNOWN ffff:f::1 whatever 1 2\r\n"), [], PROXY),
    ("proxy_v1_unknown_short", header_v1(b"PROXY UNKNOWN\r\n"), [], PROXY),
    ("proxy_v1_bad_ip", header_v1(b"PROXY TCP4 1.2.3.400 5.6.7.8 1111 2222\r\n"), [], PROXY),
    ("proxy_v1_bad_port", header_v1(b"PROXY TCP4 1.2.3.4 5.6.7.8 70000 2222\r\n"), [], PROXY),
    ("proxy_v1_family", header_v1(b"PROXY TCP4 1:2::3 5.6.7.8 1111 2222\r\n"), [], PROXY),
    ("proxy_v1_no_crlf", header_v1(b"PROXY TCP4 " + b"1" * 120), [], PROXY),
    ("proxy_v1_extra", header_v1(b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222 3333\r\n"), [], PROXY),
    ("proxy_none", header_v1(b"GET / HTTP/1.1\r\n\r\n"), [], PROXY),
    ("proxy_none_allowed", header_v1(b"GET / HTTP/1.1\r\n\r\n"), [], PROXY_MAYBE),
    ("proxy_short_allowed", header_v1(b"PRO"), [], PROXY_MAYBE),
    ("proxy_v1_disallowed", header_v1(V1), [], PROXY_V2_ONLY),
    ("proxy_v2", header_v1(header_v2()), [], PROXY),
    ("proxy_v2_pieces", in_pieces(header_v2(tlvs=[(0xE0, b"value"), (2, b"host"), (4, b"no")])), [], PROXY),
    ("proxy_v2_tlvs", header_v1(header_v2(tlvs=[(0xE0, b"value"), (2, b"host"), (4, b"no")])), [], PROXY),
    ("proxy_v2_ipv6", header_v1(header_v2(family=0x21, body=bytes(range(32)) + struct.pack(">HH", 1, 2))), [], PROXY),
    ("proxy_v2_local", header_v1(header_v2(command=0x20)), [], PROXY),
    ("proxy_v2_local_empty", header_v1(header_v2(command=0x20, family=0, body=b"")), [], PROXY),
    ("proxy_v2_unspec", header_v1(header_v2(family=0)), [], PROXY),
    ("proxy_v2_bad_version", header_v1(header_v2(command=0x31)), [], PROXY),
    ("proxy_v2_bad_command", header_v1(header_v2(command=0x22)), [], PROXY),
    ("proxy_v2_bad_family", header_v1(header_v2(family=0x41)), [], PROXY),
    ("proxy_v2_udp", header_v1(header_v2(family=0x12)), [], PROXY),
    ("proxy_v2_short_addresses", header_v1(header_v2(body=b"1234")), [], PROXY),
    ("proxy_v2_tlv_cut", header_v1(header_v2(body=bytes(12) + b"\xe0\x00\x09ab")), [], PROXY),
    ("proxy_v2_big_tlv", header_v1(header_v2(tlvs=[(0xE0, b"v" * 3000)])), [], PROXY),
]


def to_upstream(which, host="127.0.0.1", say="ping"):
    """A PROXY header that names an upstream as the destination, then a word."""
    return lambda port: say_and_read(port, f"PROXY TCP4 1.2.3.4 {host} 1111 {PORTS.get(which, which)}\r\n{say}".encode())


# An upstream that closes with our word unread resets, and its greeting may be lost: to "greet" nothing is said.
ORIGINAL = [
    ("orig", to_upstream("echo"), "orig", PROXY),
    ("orig_again", lambda port: [to_upstream("echo")(port), to_upstream("greet", say="")(port), to_upstream("echo")(port)], "orig", PROXY),
    ("orig_none", say_and_read, "orig", PROXY_MAYBE),
    ("orig_port", to_upstream(9), "orig_port", PROXY),
]
# Two listeners with one bucket; others with its key and other numbers, and without a key.
BUCKETS = {"shared_one": ("key", 3), "shared_two": ("key", 3), "shared_less": ("key", 1), "shared_not": ("", 3)}
ENDS_ITSELF = [("echo", say_and_read, [network("echo", "echo.v3.Echo")]),
               ("direct", only_read, [network("direct_response", "direct_response.v3.Config", response={"inline_string": "well\n"})])]
MORE_STATS = ("rbac", "connection_limit", "local_rate_limit", "listener_local_ratelimit", "tls_inspector", "proxy_proto",
              "no_filter_chain_match", "downstream_listener_filter")
LEFT_OUT = ("connection_limit.limit_off.active_connections",)  # Envoy counts down what it never counted up


def listener_of(name, filters, listener_filters):
    more = {"listener_filters": listener_filters} if listener_filters else {}
    return lambda log: config.listener(name, [*filters, tcp(name, log, FIELDS)], access_log=[], **more)


@pytest.fixture(scope="module")
def runs(skiff_binary, envoy_binary, tmp_path_factory):
    listeners = [listener_of(name, filters, before) for name, _, filters, before in CASES]
    listeners += [lambda log, n=name, c=cluster, b=before: config.listener(n, [tcp(n, log, FIELDS, cluster=c)], listener_filters=b)
                  for name, _, cluster, before in ORIGINAL]
    for name, (key, most) in BUCKETS.items():
        bucket = network("local_ratelimit", "local_ratelimit.v3.LocalRateLimit", stat_prefix=name, share_key=key,
                         token_bucket={"max_tokens": most, "fill_interval": "3600s"})
        listeners.append(listener_of(name, [bucket], []))
    listeners += [lambda log, n=name, f=filters: config.listener(n, f) for name, _, filters in ENDS_ITSELF]
    yield from both(skiff_binary, envoy_binary, tmp_path_factory.mktemp("filters"), listeners)


def stats(run):
    text = run.proxy.admin("/stats").text
    pairs = dict(line.split(": ", 1) for line in text.splitlines())
    return {k: int(v) for k, v in pairs.items() if v.isdigit() and any(word in k for word in MORE_STATS) and k not in LEFT_OUT
            and "buffered" not in k}  # gauges that move while they are read


def observe(run, name, client):
    before = stats(run)
    seen = client(run.proxy.port(name))
    wait_for(lambda: run.proxy.admin(f"/stats?filter=downstream_(pre_)?cx_active").text.count(": 0\n") and idle(run), "connections to end", 20)
    after = stats(run)
    changes = {k.replace("127.0.0.1_0", "L"): v - before.get(k, 0) for k, v in after.items() if v != before.get(k, 0)}
    return seen, changes


def log(run, name):
    try:
        return [normal(line) for line in run.log(name)]
    except FileNotFoundError:
        return []


def lines(run, name):
    return len(log(run, name))


def idle(run):
    text = run.proxy.admin("/stats?filter=^listener.127.*downstream_(pre_)?cx_active$").text
    return all(line.endswith(": 0") for line in text.splitlines())


def normal(line):
    line["remote"] = "client" if line["remote"].startswith("127.0.0.1:") else line["remote"]
    return line


@pytest.mark.parametrize("name,client", [(case[0], case[1]) for case in CASES + ORIGINAL + ENDS_ITSELF], ids=[case[0] for case in CASES + ORIGINAL + ENDS_ITSELF])
def test_as_envoy(runs, name, client):
    skiff, envoy = (observe(run, name, client) for run in runs)
    wait_for(lambda: lines(runs[0], name) == lines(runs[1], name), "as many log lines", 5)
    skiff, envoy = ((seen, log(run, name), changes) for run, (seen, changes) in zip(runs, (skiff, envoy)))
    assert skiff[0] == envoy[0]
    assert skiff[1] == envoy[1]
    assert skiff[2] == envoy[2]
    runs[0].proxy.check_health()


def test_shared_buckets(runs):
    for run in runs:
        run.heard = [say_and_read(run.proxy.port(name)) != b"" for name in [*BUCKETS] * 3]
    assert runs[0].heard == runs[1].heard == [True, True, True, True, True, False, False, True, False, False, False, True]

"""The dynamic forward proxy (cluster, HTTP filter, SNI filter) on Skiff and on the real Envoy: answers, log, statistics."""
import json
import os
import socket
import ssl
import time

import pytest

from harness import client, config
from harness.dns import DnsServer
from harness.pki import Pki
from harness.proxy import Proxy
from harness.upstream import Upstream
from harness.wait import wait_for

CLUSTER = config.TYPE + "extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig"
FILTER = config.TYPE + "extensions.filters.http.dynamic_forward_proxy.v3."
TLS = config.TYPE + "extensions.transport_sockets.tls.v3."
NET = config.TYPE + "extensions.filters.network."
CARES = config.TYPE + "extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
LOG = {"code": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%", "details": "%RESPONSE_CODE_DETAILS%", "cluster": "%UPSTREAM_CLUSTER%",
       "host": "%UPSTREAM_HOST%", "name": "%UPSTREAM_HOST_NAME%",
       "saved": "%FILTER_STATE(envoy.stream.upstream_address)%", "saved_plain": "%FILTER_STATE(envoy.stream.upstream_address:PLAIN)%"}
PER_ROUTE = "envoy.filters.http.dynamic_forward_proxy"
# name: (settings of the cache, the requests' hosts in order; {port} is the upstream's)
CASES = {
    "address": ({}, ["127.0.0.1:{port}", "127.0.0.1:{port}"]),
    "name": ({}, ["a.test:{port}", "b.test:{port}", "a.test:{port}", "A.test:{port}"]),
    "saved": ({}, ["a.test:{port}", "a.test:{port}", "nobody.test:{port}"]),
    "saved_fits": ({}, ["a.test:{port}"]),
    "saved_fits_not": ({}, ["a.test:{port}"]),
    "saved_port": ({}, ["a.test:{port}"]),
    "saved_port_not": ({}, ["a.test:{port}"]),
    "saved_both_not": ({}, ["a.test:{port}"]),
    "unknown": ({}, ["nobody.test:{port}", "nobody.test:{port}", "a.test:{port}"]),
    "silent": ({"dns_query_timeout": "0.3s"}, ["silent.test:{port}"]),
    "full": ({"max_hosts": 1}, ["a.test:{port}", "b.test:{port}", "a.test:{port}"]),
    "no_room": ({"dns_cache_circuit_breaker": {"max_pending_requests": 0}}, ["a.test:{port}"]),
    "default_port": ({}, ["refused.test"]),
    "literal": ({}, ["ignored.test"]),
    "header": ({}, ["ignored.test"]),
    "preresolved": ({"preresolve_hostnames": [{"address": "a.test", "port_value": "{port}"}]}, ["a.test:{port}"]),
}
LOOPBACK, ELSEWHERE = ({"address_prefix": prefix, "prefix_len": 8} for prefix in ("127.0.0.0", "10.0.0.0"))
# RBAC after the filter: who may go where the name led
PERMISSIONS = {"saved_fits": {"upstream_ip": LOOPBACK}, "saved_fits_not": {"upstream_ip": ELSEWHERE},
               "saved_port": {"upstream_port_range": {"start": 1, "end": 65536}}, "saved_port_not": {"upstream_port_range": {"start": 1, "end": 2}},
               "saved_both_not": {"upstream_ip": LOOPBACK, "upstream_port_range": {"start": 1, "end": 2}}}
ROUTES = {"literal": {"host_rewrite_literal": "a.test:{port}"}, "header": {"host_rewrite_header": "x-host"}}



def rbac(permission):
    matcher = {"name": "upstream", "typed_config": {"@type": config.TYPE + "extensions.rbac.matchers.upstream_ip_port.v3.UpstreamIpPortMatcher", **permission}}
    policies = {"one": {"permissions": [{"matcher": matcher}], "principals": [{"any": True}]}}
    return {"name": "envoy.filters.http.rbac", "typed_config": {"@type": config.TYPE + "extensions.filters.http.rbac.v3.RBAC",
                                                                "rules": {"action": "ALLOW", "policies": policies}}}


class Side:
    def __init__(self, binary, folder, pki, concurrency):
        self.folder, self.upstream = folder, Upstream("up")
        self.greeter, self.names = Upstream("greeter", handler=self.tls_server), []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pki.server.cert, pki.server.key)
        self.context.sni_callback = lambda sock, name, context: self.names.append(name)
        os.makedirs(folder, exist_ok=True)
        self.dns = DnsServer({"a.test": ["127.0.0.1"], "b.test": ["127.0.0.1"], "refused.test": ["127.0.0.1"], "other.test": ["127.0.0.1"]})
        listeners = [self.listener(name) for name in CASES] + [self.listener("tls"), self.sni()]
        clusters = [self.cluster(name, settings) for name, (settings, _) in CASES.items()]
        clusters += [self.cluster("sni", {}), {**self.cluster("tls", {}), "transport_socket": {
            "name": "envoy.transport_sockets.tls", "typed_config": {"@type": TLS + "UpstreamTlsContext", "common_tls_context": {
                "validation_context": {"trusted_ca": {"filename": pki.ca.cert}}}}}}]
        self.proxy = Proxy(binary, config.bootstrap(listeners, clusters), concurrency=concurrency)

    def fill(self, value, port=None):
        """{port} everywhere below."""
        port = port or self.upstream.port
        if isinstance(value, dict):
            return {k: self.fill(v, port) for k, v in value.items()}
        if isinstance(value, list):
            return [self.fill(v, port) for v in value]
        if value == "{port}":
            return port
        return value.replace("{port}", str(port)) if isinstance(value, str) else value

    def cache(self, name, settings):
        return {"name": name, "dns_lookup_family": "V4_ONLY", "typed_dns_resolver_config": {"name": "cares", "typed_config": {
            "@type": CARES, "resolvers": [config.address(self.dns.port)], "dns_resolver_options": {"no_default_search_domain": True}}},
            **self.fill(settings)}

    def cluster(self, name, settings):
        return {"name": name, "connect_timeout": "5s", "lb_policy": "CLUSTER_PROVIDED", "cluster_type": {
            "name": "envoy.clusters.dynamic_forward_proxy", "typed_config": {"@type": CLUSTER, "dns_cache_config": self.cache(name, settings)}}}

    def listener(self, name):
        settings = CASES[name][0] if name in CASES else {}
        route = config.route(cluster=name)
        if name in ROUTES:
            route["typed_per_filter_config"] = {PER_ROUTE: {"@type": FILTER + "PerRouteConfig", **self.fill(ROUTES[name])}}
        dfp = {"name": PER_ROUTE, "typed_config": {"@type": FILTER + "FilterConfig", "dns_cache_config": self.cache(name, settings),
                                                    "save_upstream_address": name.startswith("saved")}}
        guard = [rbac(PERMISSIONS[name])] if name in PERMISSIONS else []
        return config.listener(name, [config.hcm([route], stat_prefix=name, http_filters=[dfp, *guard, config.router()],
                                                 access_log=[config.file_log(f"{self.folder}/{name}.log", LOG)])])

    def sni(self):
        dfp = {"name": "envoy.filters.network.sni_dynamic_forward_proxy", "typed_config": {
            "@type": NET + "sni_dynamic_forward_proxy.v3.FilterConfig", "port_value": self.greeter.port, "dns_cache_config": self.cache("sni", {}),
            "save_upstream_address": True}}
        tcp = {"name": "envoy.filters.network.tcp_proxy", "typed_config": {"@type": NET + "tcp_proxy.v3.TcpProxy", "stat_prefix": "sni", "cluster": "sni", "access_log": [config.file_log(f"{self.folder}/sni.log", LOG)]}}
        inspector = {"name": "envoy.filters.listener.tls_inspector", "typed_config": {
            "@type": config.TYPE + "extensions.filters.listener.tls_inspector.v3.TlsInspector"}}
        return config.listener("sni", [dfp, tcp], listener_filters=[inspector])

    def tls_server(self, connection):
        """Notes the server name, answers every request."""
        try:
            sock = self.context.wrap_socket(connection.sock, server_side=True)
        except (ssl.SSLError, OSError):
            return
        data = b""
        while chunk := sock.recv(65536):
            data += chunk
            while b"\r\n\r\n" in data:
                data = data.split(b"\r\n\r\n", 1)[1]
                sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    def stop(self):
        self.proxy.stop()
        for server in (self.upstream, self.greeter, self.dns):
            server.stop()


@pytest.fixture(scope="module")
def sides(skiff_binary, envoy_binary, concurrency, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dfp")
    pki = Pki(str(folder))
    pki.server = pki.issue("server", "DNS:a.test,DNS:b.test")
    made = [Side(binary, str(folder / name), pki, n) for name, binary, n in (("skiff", skiff_binary, concurrency), ("envoy", envoy_binary, 1))]
    yield made
    for side in made:
        side.stop()


def stats(side, name):
    text = side.proxy.admin(f"/stats?filter=^(dns_cache.{name}[.]|cluster.{name}[.](membership|upstream_rq_(total|[0-9x]+$)|upstream_cx_none|lb_))").text
    pairs = dict(line.split(": ", 1) for line in text.splitlines())
    return {k: int(v) for k, v in pairs.items() if v.isdigit() and "circuit_breakers" not in k}


def seen(side, name):
    answers = []
    for host in CASES[name][1]:
        with client.Client(side.proxy.port(name)) as c:
            answer = c.request(host=side.fill(host), headers=[("x-host", side.fill("b.test:{port}"))])
        answers.append((answer.status, answer.text))
    log = f"{side.folder}/{name}.log"
    wait_for(lambda: os.path.exists(log) and open(log, encoding="utf-8").read().count("\n") == len(answers), f"the log of {name}")
    with open(log, encoding="utf-8") as file:
        lines = file.read().replace(str(side.upstream.port), "PORT").splitlines()
    return answers, [json.loads(line) for line in lines]


@pytest.mark.parametrize("name", CASES)
def test_as_envoy(sides, name):
    skiff, envoy = (seen(side, name) for side in sides)
    assert skiff[0] == envoy[0]
    assert skiff[1] == envoy[1]
    for _ in range(10):  # statistics of hosts follow a little later
        both = [stats(side, name) for side in sides]
        differ = {k: [b.get(k) for b in both] for k in both[0] | both[1] if both[0].get(k) != both[1].get(k)}
        if not differ:
            break
        time.sleep(0.2)
    assert not differ
    sides[0].proxy.check_health()


def over_tls(side, host):
    with client.Client(side.proxy.port("tls")) as c:
        answer = c.request(host=f"{host}:{side.greeter.port}")
    return answer.status, answer.text


def test_names_are_checked_over_tls(sides):
    """The name asked for is the server name, and the certificate must have it: other.test is no such name."""
    heard = [[over_tls(side, host)[0] for host in ("a.test", "b.test", "other.test", "a.test")] for side in sides]
    assert heard[0] == heard[1] == [200, 200, 503, 200]
    assert set(sides[0].names) == set(sides[1].names) == {"a.test", "b.test", "other.test"}


def by_sni(side, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(("127.0.0.1", side.proxy.port("sni")), 60) as sock:
            with context.wrap_socket(sock, server_hostname=name) as tls:
                tls.sendall(b"GET / HTTP/1.1\r\n\r\n")
                return tls.recv(15)
    except OSError:
        return b"refused"


def sni_log(side):
    path = f"{side.folder}/sni.log"
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return file.read().replace(str(side.greeter.port), "PORT").splitlines()


@pytest.mark.parametrize("name", ["a.test", "nobody.test", None])
def test_by_server_name(sides, name):
    known = [len(sni_log(side)) for side in sides]
    heard = [by_sni(side, name) for side in sides]
    assert heard[0] == heard[1]
    for side, count in zip(sides, known):
        wait_for(lambda s=side, n=count: len(sni_log(s)) > n, "the log")
    assert json.loads(sni_log(sides[0])[-1]) == json.loads(sni_log(sides[1])[-1])

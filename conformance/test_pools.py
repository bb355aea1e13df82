"""Upstream connections: how many there are, made ahead or shared, on Skiff and on Envoy. One worker: each has its own pools."""
import pytest

from harness import config, http2
from harness.client import Client
from harness.proxy import Proxy
from harness.upstream import Upstream
from harness.wait import wait_for

OPTIONS = config.TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions"
H2 = {"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
    "@type": OPTIONS, "explicit_http_config": {"http2_protocol_options": {}}}}}


def ahead(ratio, **over):
    return {"preconnect_policy": {"per_upstream_preconnect_ratio": ratio}, **over}


def foreseen(ratio, **over):
    return {"preconnect_policy": {"predictive_preconnect_ratio": ratio}, **over}


PRIVATE = {"connection_pool_per_downstream_connection": True}
# name, the cluster, hosts, then what clients do: "o": an open request of a new client; "s": a request that is answered, of a
# new client; "1".."9": the same of that client, over HTTP/1; "a".."f": over HTTP/2.
ROWS = [
    ("one after the other", {}, 1, "sss"),
    ("at once", {}, 1, "ooo"),
    ("ahead: one and a half", ahead(1.5), 1, "sosoo"),
    ("ahead: twice", ahead(2), 1, "sss"),
    ("ahead: twice, at once", ahead(2), 1, "oooo"),
    ("ahead: thrice, at once", ahead(3), 1, "oosss"),
    ("ahead: HTTP/2", ahead(3, **H2), 1, "soos"),
    ("ahead: two hosts", ahead(2), 2, "ssoo"),
    ("ahead: a limit of connections", ahead(3, circuit_breakers={"thresholds": [{"max_connections": 2}]}), 1, "oo"),
    ("foreseen: two hosts", foreseen(2), 2, "ssss"),
    ("foreseen: four hosts", foreseen(3), 4, "sosososo"),
    ("foreseen: one host", foreseen(3), 1, "soso"),
    ("foreseen: HTTP/2", foreseen(2, **H2), 3, "soso"),
    ("foreseen: no policy for it", foreseen(2, lb_policy="MAGLEV"), 3, "s"),
    ("foreseen: a limit of connections", foreseen(3, circuit_breakers={"thresholds": [{"max_connections": 2}]}), 4, "soso"),
    ("a pool for each client", PRIVATE, 1, "1122112"),
    ("a pool for each client, HTTP/2", PRIVATE, 1, "aabbaab"),
    ("a pool for each client, HTTP/2 to HTTP/2", {**PRIVATE, **H2}, 1, "aabb1a1b"),
    ("a pool for each client, ahead", {**PRIVATE, **ahead(2)}, 1, "1122"),
    ("pools that are shared", {}, 1, "1122aabb"),
]


def connections(binary, cluster, hosts, script):
    """After each step: [connections so far, those at each host, sorted]."""
    kind = http2.Upstream2 if "typed_extension_protocol_options" in cluster else Upstream
    ups = [kind("a") for _ in range(hosts)]
    proxy = Proxy(binary, config.bootstrap(clusters=[config.cluster("a", [u.port for u in ups], **cluster)], listeners=[config.listener("main")]),
                  concurrency=1)
    clients, known, seen = [], {}, []

    def client(name):
        if name not in known:
            clients.append(http2.Client(proxy.port()) if name.islower() else Client(proxy.port()))
            known[name] = clients[-1]
        return known[name]

    def asked():
        return sum(len(u.requests) for u in ups)
    try:
        for step in script:
            before = asked()
            for up in ups:
                up.script[:] = [{"hang": True}] if step == "o" else []
            if step in "so":
                known.pop("S", None)
            peer = client("S" if step in "so" else step)
            if step == "o":
                peer.send(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
                wait_for(lambda was=before: asked() == was + 1, "the request upstream")
            elif step.islower() and step != "s":
                assert peer.request().status == 200
            else:
                peer.send(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
                assert peer.read("GET").status == 200
            total = int(proxy.stats(r"^cluster\.a\.upstream_cx_total$")["cluster.a.upstream_cx_total"])
            wait_for(lambda n=total: sum(u.connections for u in ups) == n, "the connections")
            seen.append([total, sorted(u.connections for u in ups)])
    finally:
        for peer in clients:
            peer.close()
        proxy.stop(check=not proxy.is_envoy)
        for up in ups:
            up.stop()
    return seen


@pytest.mark.parametrize("name, cluster, hosts, script", ROWS, ids=[row[0] for row in ROWS])
def test_connections(skiff_binary, envoy_binary, name, cluster, hosts, script):
    truth = connections(envoy_binary, cluster, hosts, script)
    assert connections(skiff_binary, cluster, hosts, script) == truth

"""transport_socket_matches: which socket an endpoint gets by its own and its locality's metadata, and what is counted."""
import pytest

from harness import client, config
from harness.proxy import Proxy
from harness.upstream import Upstream

TLS = config.TYPE + "extensions.transport_sockets.tls.v3."
RAW = {"name": "envoy.transport_sockets.raw_buffer", "typed_config": {"@type": config.TYPE + "extensions.transport_sockets.raw_buffer.v3.RawBuffer"}}
CASES = {  # metadata of the endpoint and of the locality
    "endpoint_a": ({"k": "a"}, None), "endpoint_b": ({"k": "b"}, None), "locality_a": (None, {"k": "a"}), "both": ({"k": "b"}, {"k": "a"}),
    "both_turned": ({"k": "a"}, {"k": "b"}), "other_key": ({"x": "b"}, {"k": "a"}), "neither": (None, None), "other_value": ({"k": "z"}, {"k": "b"}),
    "two_keys": ({"k": "c", "n": 1, "more": True}, None), "half": ({"k": "c"}, None),
}


def tls(sni):
    return {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": TLS + "UpstreamTlsContext", "sni": sni}}


def metadata(fields):
    return {"metadata": {"filter_metadata": {"envoy.transport_socket_match": fields}}} if fields is not None else {}


def cluster(name, port, endpoint, locality, catch_all):
    matches = [{"name": n, "match": {"k": n}, "transport_socket": tls(n + ".match")} for n in ("a", "b")]
    matches.insert(0, {"name": "c", "match": {"k": "c", "n": 1}, "transport_socket": tls("c.match")})
    if catch_all:
        matches.append({"name": "rest", "match": {}, "transport_socket": RAW})
    hosts = {"lb_endpoints": [{"endpoint": {"address": config.address(port)}, **metadata(endpoint)}], **metadata(locality)}
    return {"name": name, "type": "STATIC", "transport_socket_matches": matches, "transport_socket": tls("default"),
            "load_assignment": {"cluster_name": name, "endpoints": [hosts]}}


class Side:
    def __init__(self, binary, concurrency):
        self.seen = []
        self.server = Upstream("u", handler=self.look)
        clusters = [cluster(f"{name}_{rest}", self.server.port, *pair, rest == "rest") for name, pair in CASES.items() for rest in ("rest", "alone")]
        routes = [config.route(prefix=f"/{c['name']}/", cluster=c["name"]) for c in clusters]
        self.proxy = Proxy(binary, config.bootstrap([config.listener("main", [config.hcm(routes)])], clusters), concurrency=concurrency)

    def look(self, connection):
        data = connection.sock.recv(65536)
        names = [n for n in ("a.match", "b.match", "c.match", "default") if n.encode() in data]
        self.seen.append("raw" if data.startswith(b"GET ") else names)

    def run(self, name):
        del self.seen[:]
        with client.Client(self.proxy.port()) as c:
            c.request(path=f"/{name}/")
        return self.seen[:1], self.proxy.stats(rf"^cluster\.{name}\..*total_match_count")

    def stop(self, check):
        try:
            self.proxy.stop(check=check)
        finally:
            self.server.stop()


@pytest.fixture(scope="module")
def sides(envoy_binary, skiff_binary, concurrency):
    made = [Side(envoy_binary, concurrency), Side(skiff_binary, concurrency)]
    yield made
    made[0].stop(check=False)
    made[1].stop(check=True)


@pytest.mark.parametrize("rest", ["rest", "alone"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.xdist_group("transport-socket-matches")
def test_as_envoy(sides, name, rest):
    envoy, skiff = (side.run(f"{name}_{rest}") for side in sides)
    assert skiff == envoy and envoy[0]

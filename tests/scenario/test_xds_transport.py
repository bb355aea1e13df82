"""What the transport of xDS owes a control plane, in all four variants: node, names, versions, lives, several sources."""
import pytest

from envoy.service.discovery.v3 import discovery_pb2
from harness import client, config
from harness.controlplane import encode, grpc_cluster
from harness.wait import wait_for
from harness.wireplane import VARIANTS, WirePlane


def static(name, port, **over):
    return config.cluster(name, [port], **over)


def eds(plane, name, **over):
    return config.merge({"name": name, "type": "EDS", "connect_timeout": "5s",
                         "eds_cluster_config": {"eds_config": plane.source()}}, over)


@pytest.fixture(params=VARIANTS)
def plane(request):
    made = WirePlane(request.param)
    yield made
    made.stop()


@pytest.fixture(params=["ads-delta", "delta"])
def delta(request):
    made = WirePlane(request.param)
    yield made
    made.stop()


def start(plane, skiff, upstream, port=None, **over):
    """A proxy with the cluster a and a listener from the plane."""
    a = upstream("a")
    plane.set("cluster", {"a": static("a", a.port)})
    plane.set("listener", {"main": config.listener("main")})
    proxy = skiff(plane.bootstrap(port, **over))
    assert client.get(proxy.port()).text == "a"
    return proxy


@pytest.mark.parametrize("first_only", [False, True])
def test_the_node_goes_with_the_first_request_or_with_all(skiff, upstream, first_only):
    plane = WirePlane("ads-sotw")
    proxy = start(plane, skiff, upstream, first_only=first_only)
    wait_for(lambda: len(plane.requests) >= 4, "some requests")
    told = [bool(request.node.id) for _, request in plane.requests]
    assert told == [True] + [not first_only] * (len(told) - 1), told
    assert proxy.alive()
    plane.stop()


def test_the_identifier_of_the_control_plane(plane, skiff, upstream):
    plane.identifier = "control plane seven"
    proxy = start(plane, skiff, upstream)
    assert 'control_plane.identifier: "control plane seven"' in proxy.admin("/stats?filter=control_plane").text


def test_a_resource_lives_as_long_as_its_heartbeats(plane, skiff, upstream):
    """A wrapped resource with a TTL: it goes when nothing more is heard, stays while heartbeats come."""
    proxy = start(plane, skiff, upstream)
    good = ("a", plane.resources["cluster"]["a"][1])

    def wrapped(seconds, body=True):
        out = discovery_pb2.Resource(name="brief", version="1")
        if body:
            out.resource.CopyFrom(encode("cluster", static("brief", 1)))
        if seconds:
            out.ttl.FromNanoseconds(int(seconds * 1e9))
        return out

    def there():
        return proxy.stat("cluster.brief.membership_total") == 1
    plane.accepted(plane.message("cluster", [good, wrapped(3600)]))
    wait_for(there, "the cluster")
    plane.accepted(plane.message("cluster", [good, wrapped(3600, body=False)]))
    assert there(), "a heartbeat keeps it"
    plane.accepted(plane.message("cluster", [good, wrapped(0.05, body=False)]))
    wait_for(lambda: not there(), "the end of its life")
    plane.accepted(plane.message("cluster", [good, wrapped(0.05)]))
    plane.accepted(plane.message("cluster", [good, wrapped(0)]))
    wait_for(there, "the cluster again, for ever")


def test_versions_are_told_after_a_reconnect(delta, skiff, upstream):
    """initial_resource_versions: what was accepted, without what was removed or refused."""
    start(delta, skiff, upstream)
    delta.set("cluster", {"a": delta.resources["cluster"]["a"][1].value, "b": static("b", 1), "gone": static("gone", 1)})
    delta.sync("cluster")
    delta.set("cluster", {name: packed.value for name, (_, packed) in delta.resources["cluster"].items() if name != "gone"})
    delta.sync("cluster")
    text = delta.refusal(delta.message("cluster", [("bad", static("bad", 1, connect_timeout="-1s"))]))
    assert "bad" in text
    before = len(delta.of("cluster"))
    delta.close_streams()
    wait_for(lambda: len(delta.of("cluster")) > before, "the first request of another stream")
    first = delta.of("cluster")[before]
    assert dict(first.initial_resource_versions) == {n: v for n, (v, _) in delta.resources["cluster"].items()}
    assert not first.response_nonce


def test_names_after_a_reconnect(plane, skiff, upstream):
    """Each name that is needed is asked for again, and only those."""
    a, proxy = upstream("e"), None
    plane.set("endpoint", {n: config.assignment(n, [a.port]) for n in ("e1", "e2", "e3")})
    proxy = start(plane, skiff, upstream)
    clusters = {"a": plane.resources["cluster"]["a"][1].value, **{n: eds(plane, n) for n in ("e1", "e2", "e3")}}
    plane.set("cluster", clusters)
    for name in ("e1", "e2", "e3"):
        wait_for(lambda n=name: proxy.stat(f"cluster.{n}.membership_total") == 1, f"the endpoints of {name}")
    clusters.pop("e2")
    plane.set("cluster", clusters)

    def wanted():
        return {n for s in set(plane.streams) for n in s.wanted.get("endpoint", ())}
    wait_for(lambda: wanted() == {"e1", "e3"}, "e2 not to be asked for")
    old = set(plane.streams)
    plane.close_streams()
    wait_for(lambda: wanted() == {"e1", "e3"} and not old & {s for s in set(plane.streams) if "endpoint" in s.wanted},
             "the names on another stream")


def test_all_and_one_by_name(skiff, upstream):
    """A wildcard subscription beside a name on one stream says '*', delta and state of the world."""
    for variant in ("ads-delta", "ads-sotw"):
        plane = WirePlane(variant)
        proxy = start(plane, skiff, upstream)
        wildcard = [r for r in plane.of("cluster")]
        names = [list(r.resource_names_subscribe if plane.delta else r.resource_names) for r in wildcard]
        assert all(not n or n == ["*"] for n in names), names
        assert proxy.alive()
        plane.stop()


def test_several_sources_side_by_side(skiff, upstream):
    """CDS from one control plane, LDS from a second, endpoints from a third: each is its own, one may go."""
    cds, lds, third, a = WirePlane("sotw"), WirePlane("delta"), WirePlane("sotw"), upstream("a")

    def source(plane, cluster):
        out = plane.source()
        out["api_config_source"]["grpc_services"] = [{"envoy_grpc": {"cluster_name": cluster}}]
        return out
    cluster = eds(third, "a", eds_cluster_config={"eds_config": source(third, "xds3")})
    cds.set("cluster", {"a": cluster})
    third.set("endpoint", {"a": config.assignment("a", [a.port])})
    lds.set("listener", {"main": config.listener("main")})
    body = cds.bootstrap()
    body["static_resources"]["clusters"] = [grpc_cluster(cds.port, "xds1"), grpc_cluster(lds.port, "xds2"),
                                            grpc_cluster(third.port, "xds3")]
    body["dynamic_resources"] = {"cds_config": source(cds, "xds1"), "lds_config": source(lds, "xds2")}
    proxy = skiff(body)
    assert client.get(proxy.port()).text == "a"
    assert not cds.of("listener") and not lds.of("cluster") and not third.of("cluster")
    lds.stop()
    other = upstream("other")
    third.set("endpoint", {"a": config.assignment("a", [other.port])})
    wait_for(lambda: client.get(proxy.port()).text == "other", "the new endpoint")
    cds.set("cluster", {"a": cluster, "more": static("more", 1)})
    wait_for(lambda: proxy.stat("cluster.more.membership_total") == 1, "the new cluster")
    cds.stop()
    third.stop()
    assert client.get(proxy.port()).text == "other"


def test_the_statistics_of_endpoint_subscriptions(plane, skiff, upstream):
    """Told to each cluster: the attempt, the success, the refusal, the timeout, the failure of the connection."""
    proxy = start(plane, skiff, upstream)
    source = {**plane.source(), "initial_fetch_timeout": "0.2s"}
    late = eds(plane, "late", eds_cluster_config={"eds_config": source})
    plane.set("cluster", {"a": plane.resources["cluster"]["a"][1].value, "late": late, "e": eds(plane, "e")})
    proxy.wait_stat("cluster.late.init_fetch_timeout", 1)
    plane.set("endpoint", {"e": config.assignment("e", [1])})
    proxy.wait_stat("cluster.e.update_success", 1)
    bad = config.assignment("e", [1])
    bad["endpoints"][0]["lb_endpoints"][0]["load_balancing_weight"] = 0
    text = plane.refusal(plane.message("endpoint", [("e", bad)]))
    assert '"e"' in text
    proxy.wait_stat("cluster.e.update_rejected", 1)
    before = proxy.stat("cluster.e.update_failure")
    plane.close_streams()
    proxy.wait_stat("cluster.e.update_failure", lambda value: value > before)


def test_a_refused_resource_stands_in_the_dump(plane, skiff, upstream):
    proxy = start(plane, skiff, upstream)
    bad = static("bad", 1, connect_timeout="-1s")
    text = plane.refusal(plane.message("cluster", [("a", plane.resources["cluster"]["a"][1]), ("bad", bad)], version="v9"))
    assert "connect_timeout" in text
    dump = proxy.admin_json("/config_dump?resource=dynamic_active_clusters")["configs"]
    state = [c["error_state"] for c in dump if "error_state" in c]
    assert len(state) == 1 and "connect_timeout" in state[0]["details"] and state[0]["version_info"] == "v9", dump
    assert state[0]["failed_configuration"]["name"] == "bad"

"""A control plane that sends nonsense, in all four variants of xDS: traffic is untouched, every refusal says why."""
import time

import pytest
from google.protobuf import any_pb2

from envoy.extensions.clusters.aggregate.v3 import cluster_pb2 as aggregate_pb2
from envoy.service.discovery.v3 import discovery_pb2
from harness import client, config
from harness.controlplane import URL, encode
from harness.relay import Relay
from harness.wait import wait_for
from harness.wireplane import VARIANTS, WirePlane
from test_live_updates import Load, varint

assert aggregate_pb2  # known to the registry of Any types
MIB = 1024


class House:
    """One listener with RDS, a cluster with EDS, its upstream, and load on it all the time."""

    def __init__(self, variant, skiff, upstream):
        self.plane, self.a = WirePlane(variant), upstream("a")
        self.serve("cluster", a=self.cluster("a"))
        self.serve("endpoint", a=config.assignment("a", [self.a.port]))
        self.serve("listener", main=self.listener("main"))
        self.serve("route", web=self.table("a"))
        self.relay = Relay(self.plane.port)
        self.proxy = skiff(self.plane.bootstrap(self.relay.port))
        self.load = Load(self.proxy.port(), threads=2)
        self.load.wait_more(5)

    def serve(self, kind, **resources):
        self.plane.set(kind, {name.replace("_", "-"): value for name, value in resources.items()})

    def cluster(self, name, **over):
        return config.merge({"name": name, "type": "EDS", "connect_timeout": "5s",
                             "eds_cluster_config": {"eds_config": self.plane.source()}}, over)

    def listener(self, name, table="web", **over):
        rds = {"route_config_name": table, "config_source": self.plane.source()}
        return config.listener(name, [config.hcm(stat_prefix=name, rds=rds, **over)])

    def table(self, cluster, name="web", prefix="/"):
        return {"name": name, "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": prefix}, "route": {"cluster": cluster, "timeout": "0s"}}]}]}

    def good(self, kind, name):
        """(name, Any) of what is served now."""
        return name, self.plane.resources[kind][name][1]

    def goes_on(self, body="a"):
        """Later requests pass, and so do later updates."""
        self.load.wait_more(5, body)
        self.plane.sync("cluster")

    def comes_back(self, end):
        """Ends the streams, waits for a new one that carries clusters."""
        old = set(self.plane.streams)
        end()
        wait_for(lambda: any("cluster" in s.wanted for s in set(self.plane.streams) - old), "a new stream")

    def finish(self):
        self.load.stop()
        self.relay.stop()
        self.plane.stop()


@pytest.fixture(params=VARIANTS)
def house(request, skiff, upstream):
    made = House(request.param, skiff, upstream)
    yield made
    made.finish()


BAD_CLUSTER = {"name": "bad", "type": "STATIC", "connect_timeout": "-5s"}
KINDS = ("cluster", "endpoint", "listener", "route")
NAME = {"cluster": "a", "endpoint": "a", "listener": "main", "route": "web"}


@pytest.mark.parametrize("kind", KINDS)
def test_another_type_inside_a_response(house, kind):
    """A resource whose Any names another type than the response."""
    other = "listener" if kind != "listener" else "cluster"
    wrong = encode(other, {"name": "stranger"})
    text = house.plane.refusal(house.plane.message(kind, [house.good(kind, NAME[kind]), ("stranger", wrong)]))
    assert "stranger" in text and URL[other] in text and URL[kind] in text, text
    house.goes_on()


def test_a_response_of_a_type_that_nobody_asked_for(house):
    """Passed over without an answer, and the stream stays."""
    secret = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
    for url in (secret, "type.googleapis.com/no.such.Type", "", "nonsense"):
        message = house.plane.message("cluster", [], type_url=url)
        house.plane.inject(message.SerializeToString(), "cluster")
    house.goes_on()


@pytest.mark.parametrize("kind", KINDS)
def test_resources_that_are_no_messages(house, kind):
    for number, data in enumerate((b"\xff\xff\xff\xff", b"\x0a\x05ab", b"\x0a\xff\xff\xff\xff\x0f", b"\x1a" * 1000)):
        name = f"junk-{number}" if kind in ("cluster", "listener") else NAME[kind]
        items = [(name, data)] if name == NAME[kind] else [house.good(kind, NAME[kind]), (name, data)]
        text = house.plane.refusal(house.plane.message(kind, items))
        assert house.plane.variant.endswith("sotw") or name in text, text
        assert "truncated" in text or "malformed" in text or "no message" in text, text
    house.goes_on()


def test_responses_that_are_no_messages(house):
    """The stream is of no use any more: a new one begins, from what is known."""
    junk = (b"\xff\xff\xff\xff", b"\x12\x05ab", b"\x0a\x04\xff\xfe\xfd\xfc", b"\x12\x00" * 100000)
    for data in junk[:3] if house.plane.delta else junk:  # many empty resources are a valid delta response
        house.comes_back(lambda junk=data: house.plane.inject(junk, "cluster"))
        house.goes_on()


@pytest.mark.threads
@pytest.mark.parametrize("kind", KINDS)
def test_a_name_twice(house, kind):
    good = house.good(kind, NAME[kind])
    text = house.plane.refusal(house.plane.message(kind, [good, good]))
    assert f'"{NAME[kind]}"' in text and "twice" in text, text
    house.goes_on()


@pytest.mark.parametrize("house", ["ads-delta", "delta"], indirect=True)
def test_added_and_removed_at_once(house):
    text = house.plane.refusal(house.plane.message("cluster", [house.good("cluster", "a")], removed=["a"]))
    assert '"a"' in text and "removed" in text, text
    house.goes_on()


def test_nonces_of_all_sorts(house):
    """Each response is answered with its own nonce, whatever that is: old, empty, long, odd."""
    good = house.good("cluster", "a")
    for nonce in ("again", "again", "", "x" * 100000, "π ≠ 3"):
        before = len(house.plane.of("cluster"))
        house.plane.inject(house.plane.message("cluster", [good], nonce=nonce))
        wait_for(lambda: len(house.plane.of("cluster")) > before, "an answer")
        wait_for(lambda n=nonce: house.plane.of("cluster")[-1].response_nonce == n, "the answer's nonce")
        assert not house.plane.of("cluster")[-1].error_detail.message
    house.goes_on()


def test_removal_of_endpoints_and_routes_in_use(house):
    """Envoy: what something in use needs is not taken away by a removal; a state-of-the-world response without it
    says nothing about it either."""
    for kind in ("endpoint", "route"):
        house.plane.accepted(house.plane.message(kind, [], removed=[NAME[kind]] if house.plane.delta else ()))
        house.load.wait_more(20, "a")
    house.goes_on()


def test_removal_of_a_cluster_in_use_and_back(house):
    """Requests get 503 then; nothing else happens, and all is well when it comes back."""
    house.load.stop()
    house.serve("cluster")
    wait_for(lambda: client.get(house.proxy.port()).status == 503, "503 without the cluster")
    house.serve("cluster", a=house.cluster("a"))
    wait_for(lambda: client.get(house.proxy.port()).text == "a", "the cluster again")
    house.load = Load(house.proxy.port(), threads=2)
    house.goes_on()


def test_circular_aggregates(house):
    """Two aggregate clusters that name each other, and one that names itself: refused, or 503; never a hang."""
    def aggregate(name, *members):
        return {"name": name, "connect_timeout": "1s", "lb_policy": "CLUSTER_PROVIDED", "cluster_type": {
            "name": "envoy.clusters.aggregate", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig", "clusters": list(members)}}}
    plane = house.plane
    message = plane.message("cluster", [house.good("cluster", "a"), ("x", aggregate("x", "y")), ("y", aggregate("y", "x")),
                                        ("self", aggregate("self", "self"))])
    plane.inject(message)
    refused = plane.wait_answer("cluster", message.nonce).error_detail.message
    if refused:
        assert all(f'"{name}"' in refused for name in ("x", "y", "self")), refused
    else:
        table = house.table("a")
        table["virtual_hosts"][0]["routes"][:0] = [{"match": {"prefix": f"/{name}"}, "route": {"cluster": name}} for name in ("x", "self")]
        plane.accepted(plane.message("route", [("web", table)]))
        for path in ("/x", "/self"):
            wait_for(lambda p=path: client.get(house.proxy.port(), p).status == 503, f"503 for {path}")
    house.goes_on()


@pytest.mark.threads
def test_flapping_good_and_bad(house):
    """Good and bad versions in turn, 100 times a second for 5 s: the good ones are taken, the bad ones refused by name."""
    plane, nonces = house.plane, []
    began = time.monotonic()
    for round_number in range(500):
        bad = round_number % 2
        items = [("a", house.cluster("a", connect_timeout=f"{5 + round_number}s")), ("bad", BAD_CLUSTER if bad else house.cluster("bad"))]
        message = plane.message("cluster", items)
        plane.inject(message)
        table = {"name": "web", "virtual_hosts": []} if bad else house.table("a")
        if bad:
            table["virtual_hosts"] = [{"name": "v", "domains": ["*"], "routes": [{"match": {"safe_regex": {"regex": "("}}, "route": {"cluster": "a"}}]}]
        route = plane.message("route", [("web", table)])
        plane.inject(route)
        nonces.append((bad, message.nonce, route.nonce))
        time.sleep(max(0.0, began + round_number / 100 - time.monotonic()))
    for kind, at in (("cluster", 1), ("route", 2)):
        plane.wait_answer(kind, nonces[-1][at])
        # Of separate streams and of ADS alike: each response has an answer of its own.
        texts = {r.response_nonce: r.error_detail.message for r in plane.of(kind)}
        for triple in nonces:
            text = texts[triple[at]]
            assert bool(text) == bool(triple[0]), (triple, text)
            assert not text or ("connect_timeout" in text and '"bad"' in text if kind == "cluster" else "safe_regex" in text), text
    house.goes_on()


@pytest.mark.threads
def test_ten_thousand_updates(house):
    """As fast as they go, nobody waits for an answer: the last one counts."""
    plane = house.plane
    last = None
    for number in range(5000):  # of each of two types
        last = plane.message("endpoint", [("a", config.assignment("a", [config.endpoint(house.a.port, load_balancing_weight=1 + number % 9)]))])
        plane.inject(last)
        route = plane.message("route", [("web", house.table("a", prefix="/" if number % 2 else ""))])
        plane.inject(route)
    for kind, nonce in (("endpoint", last.nonce), ("route", route.nonce)):
        assert not plane.wait_answer(kind, nonce, 180).error_detail.message
    house.goes_on()
    assert not [r for k in KINDS for r in plane.of(k) if r.error_detail.message]


@pytest.mark.parametrize("count", [1, 100, 3000, 30000])
def test_the_connection_ends_in_the_middle_of_a_message(house, count):
    filler = {f"filler-{n}": config.cluster(f"filler-{n}", [1000 + n]) for n in range(300)}
    house.relay.cut_after(count)
    house.plane.set("cluster", {"a": house.cluster("a"), **filler})
    wait_for(lambda: house.relay.cuts, "the cut")
    wait_for(lambda: house.proxy.stat("cluster.filler-299.membership_total") == 1, "the message to come again")
    house.goes_on()


@pytest.mark.threads
def test_streams_that_end_at_once(house):
    """Each comes back, and nothing is lost."""
    for _ in range(3):
        house.comes_back(house.plane.close_streams)
        house.load.wait_more(5, "a")
    house.goes_on()


def field(number, data):
    """A length-delimited field on the wire."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def resource_on_the_wire(plane, name, kind, data):
    packed = field(1, URL[kind].encode()) + field(2, data)
    return field(2, field(3, name.encode()) + field(2, packed) if plane.delta else packed)


HUGE = ("one name", "many resources", "many fields", "junk")
VALID = ("one name", "many fields")  # a waste, but no mistake


def huge(house, what, size):
    """(nonce, bytes) of a response of about that size."""
    plane = house.plane
    message = plane.message("cluster", [house.good("cluster", "a")])
    if what == "one name":
        more = resource_on_the_wire(plane, "big", "cluster", field(1, b"x" * size))
    elif what == "many resources":
        one = resource_on_the_wire(plane, "x", "listener", field(1, b"x"))
        more = one * (size // len(one))
    elif what == "many fields":
        entries = b"".join(field(1, field(1, b"key-%d" % n) + field(2, b"")) for n in range(size // 16))
        more = resource_on_the_wire(plane, "big", "cluster", field(1, b"big") + field(25, entries))
    else:
        more = resource_on_the_wire(plane, "big", "cluster", field(1, b"big") + b"\x7f" * size)
    return message.nonce, message.SerializeToString() + more


@pytest.mark.parametrize("what", HUGE)
def test_a_message_of_many_megabytes(house, what):
    """2 MB here, 64 in the release build."""
    nonce, data = huge(house, what, 2 << 20)
    house.plane.inject(data, "cluster")
    answer = house.plane.wait_answer("cluster", nonce, 180)
    assert len(answer.error_detail.message) < 20000
    assert answer.error_detail.message or what in VALID
    house.goes_on()


@pytest.mark.release
@pytest.mark.parametrize("variant", ["ads-sotw", "delta"])
def test_memory_is_given_back(variant, skiff, upstream):
    """Responses of 64 MB, then a good one: what they took goes back to the system."""
    house = House(variant, skiff, upstream)
    before = house.proxy.memory_kib()
    for what in HUGE:
        nonce, data = huge(house, what, 64 << 20)
        house.plane.inject(data, "cluster")
        assert house.plane.wait_answer("cluster", nonce, 180).error_detail.message or what in VALID
    removed = ["big"] if house.plane.delta else ()
    house.plane.accepted(house.plane.message("cluster", () if removed else [house.good("cluster", "a")], removed=removed))
    house.goes_on()
    wait_for(lambda: house.proxy.memory_kib() - before < 64 * MIB, "memory to be given back")
    house.finish()


def test_a_refusal_loop_is_cheap(house):
    """A control plane that answers each NACK with the same bad response, as go-control-plane does."""
    plane = house.plane
    plane.resend = True
    plane.set("cluster", {"a": house.cluster("a"), "bad": BAD_CLUSTER})
    wait_for(lambda: len([r for r in plane.of("cluster") if r.error_detail.message]) >= 50, "50 refusals")
    assert {r.error_detail.message for r in plane.of("cluster") if r.error_detail.message} == {
        r.error_detail.message for r in plane.of("cluster")[-1:] if r.error_detail.message}
    plane.resend = False
    plane.set("cluster", {"a": house.cluster("a")})
    house.goes_on()
    assert house.proxy.log().count("is refused") == 1


def test_the_wrappers_that_lie(house):
    """A Resource whose name is not the name inside; one without a resource; one in another."""
    plane = house.plane
    body = encode("cluster", house.cluster("inner"))
    lie = discovery_pb2.Resource(name="outer", version="1", resource=body)
    empty = discovery_pb2.Resource(name="nothing", version="1")
    inner = any_pb2.Any()
    inner.Pack(lie)
    nested = discovery_pb2.Resource(name="nested", version="1", resource=inner)
    for resource in (empty, nested):
        message = plane.message("cluster", [house.good("cluster", "a"), resource])
        plane.inject(message)
        plane.wait_answer("cluster", message.nonce)
        house.load.wait_more(5, "a")
    text = plane.refusal(plane.message("cluster", [house.good("cluster", "a"), lie]))
    assert '"outer"' in text and '"inner"' in text, text
    house.goes_on()

"""A control plane (ADS, state of the world) changes the configuration while requests run."""
import threading

import pytest

from harness import client, config
from harness.controlplane import ADS, ads_bootstrap
from harness.relay import Relay
from harness.wait import wait_for

pytestmark = pytest.mark.threads


def eds_cluster(name, **over):
    return config.merge({"name": name, "type": "EDS", "connect_timeout": "5s", "eds_cluster_config": {"eds_config": ADS}}, over)


def rds_listener(name="main", table="web"):
    return config.listener(name, [config.hcm(stat_prefix=name, rds={"route_config_name": table, "config_source": ADS})])


def table(routes, name="web"):
    return {"name": name, "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]}


def split(weights):
    return {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [
        {"name": name, "weight": weight} for name, weight in weights.items()]}}}


class Load:
    """Threads that send requests, one after another on kept connections, until stopped."""

    def __init__(self, port, threads=4, path="/", fresh=False, host="test"):
        self.port, self.path, self.fresh, self.host, self.running = port, path, fresh, host, True
        self.bodies, self.bad, self.lock = {}, [], threading.Lock()
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def work(self):
        connection = None
        while self.running:
            try:
                connection = connection or client.Client(self.port)
                response = connection.request("GET", self.path, host=self.host)
                self.note(response)
                if self.fresh or response.header("connection") == "close":
                    connection.close()
                    connection = None
            except (OSError, EOFError, ValueError) as error:
                with self.lock:
                    self.bad.append(repr(error))
                connection = None
        if connection:
            connection.close()

    def note(self, response):
        with self.lock:
            key = response.text
            self.bodies[key] = self.bodies.get(key, 0) + 1
            if response.status != 200 or not response.complete:
                self.bad.append(repr(response))

    def wait_more(self, count=20, body=None):
        """Until `count` more answers came (with this body)."""
        def seen():
            with self.lock:
                return self.bodies.get(body, 0) if body is not None else sum(self.bodies.values())
        start = seen()
        wait_for(lambda: seen() >= start + count, f"{count} more answers {body or ''}; bad: {self.bad[:3]}")

    def stop(self):
        self.running = False
        for thread in self.threads:
            thread.join(60)
        assert not self.bad, f"{len(self.bad)} bad of {sum(self.bodies.values())}: {self.bad[:5]}"


class House:
    """Two versions of a service behind EDS clusters, an RDS table, one listener, all from one control plane."""

    def __init__(self, plane, skiff, upstream, **more):
        self.plane, self.old, self.new = plane, upstream("old"), upstream("new")
        self.weights(100, 0)
        plane.set("cluster", [eds_cluster("old"), eds_cluster("new")])
        plane.set("endpoint", [config.assignment("old", [self.old.port]), config.assignment("new", [self.new.port])])
        plane.set("listener", [rds_listener()])
        self.proxy = skiff(ads_bootstrap(plane.port, **more))
        self.port = self.proxy.port()

    def weights(self, old, new):
        self.plane.set("route", [table([split({"old": old, "new": new})])])

    def bodies(self, count=20):
        return {client.get(self.port).text for _ in range(count)}


@pytest.fixture
def house(control_plane, skiff, upstream):
    return House(control_plane(), skiff, upstream)


def test_first_configuration(house):
    for kind in ("cluster", "endpoint", "listener", "route"):
        house.plane.wait_ack(kind)
    assert house.bodies() == {"old"}
    first = house.plane.requests[0]
    assert first.node.id == "test-node" and first.node.cluster == "test-cluster"
    assert first.node.metadata["colour"] == "blue" and first.node.metadata["count"] == 3
    assert first.node.user_agent_name and first.node.user_agent_build_version.version.major_number == 1
    assert not house.plane.nacks


def test_canary_weights_change_without_a_failed_request(house):
    load = Load(house.port)
    for old, new, body in ((50, 50, "new"), (0, 100, "new"), (100, 0, "old"), (1, 99, "new"), (0, 100, "new")):
        house.weights(old, new)
        house.plane.wait_ack("route")
        load.wait_more(20, body)
    for round_number in range(40):
        house.weights(round_number % 100, 100 - round_number % 100)
        house.plane.wait_ack("route")
        load.wait_more(2)
    load.stop()


def test_weights_are_kept_to(house):
    house.weights(0, 100)
    house.plane.wait_ack("route")
    wait_for(lambda: house.bodies(5) == {"new"}, "the new version")
    assert house.bodies(50) == {"new"}


def test_endpoints_change_under_load(house, upstream):
    other = upstream("other")
    load = Load(house.port)
    for _ in range(10):
        for ports, body in (([other.port], "other"), ([house.old.port, other.port], "old"), ([house.old.port], "old")):
            house.plane.set("endpoint", [config.assignment("old", ports), config.assignment("new", [house.new.port])])
            house.plane.wait_ack("endpoint")
            load.wait_more(3, body)
    load.stop()


def test_clusters_change_under_load(house):
    load = Load(house.port)
    for number in range(20):
        house.plane.set("cluster", [eds_cluster("old", connect_timeout=f"{number + 1}s"), eds_cluster("new")])
        house.plane.wait_ack("cluster")
        load.wait_more(3)
    load.stop()
    assert house.bodies() == {"old"}


def test_listeners_change_under_load(house):
    load = Load(house.port)
    for number in range(20):
        changed = rds_listener()
        changed["filter_chains"][0]["filters"][0]["typed_config"]["server_name"] = f"name-{number}"
        house.plane.set("listener", [changed])
        house.plane.wait_ack("listener")
        wait_for(lambda name=f"name-{number}": client.get(house.port).header("server") == name, "the new server name")
        load.wait_more(3)
    load.stop()


def test_the_same_resources_again_drain_nothing(house):
    """New versions with equal content: the kept connection is not asked to close, no listener is modified."""
    with client.Client(house.port) as kept:
        assert kept.request().text == "old"
        modified = house.proxy.stat("listener_manager.listener_modified")
        for _ in range(3):
            house.plane.set("cluster", [eds_cluster("old"), eds_cluster("new")])
            house.plane.set("endpoint", [config.assignment("old", [house.old.port]), config.assignment("new", [house.new.port])])
            house.plane.set("listener", [rds_listener()])
            house.weights(100, 0)
            for kind in ("listener", "cluster", "route", "endpoint"):
                house.plane.wait_ack(kind)
        response = kept.request()
        assert response.text == "old" and response.header("connection") is None
        assert house.proxy.stat("listener_manager.listener_modified") == modified
        assert house.old.connections <= 1 + 4  # one pool for each worker that was used


def test_a_bad_resource_is_refused_and_the_good_ones_taken(house, upstream):
    third = upstream("third")
    house.plane.set("cluster", [eds_cluster("old"), eds_cluster("new"), config.cluster("bad", [1], connect_timeout="-5s"),
                                config.cluster("third", [third.port])])
    text = house.plane.wait_nack("cluster")
    assert "bad" in text and "connect_timeout" in text, text
    house.plane.set("route", [table([{"match": {"prefix": "/third"}, "route": {"cluster": "third"}}, split({"old": 1})])])
    house.plane.wait_ack("route")
    wait_for(lambda: client.get(house.port, "/third").text == "third", "the good cluster")
    assert client.get(house.port).text == "old"
    assert house.proxy.stat("cluster_manager.cds.update_rejected") >= 1


def test_every_bad_resource_is_named(house):
    house.plane.set("cluster", [eds_cluster("old"), eds_cluster("new"), config.cluster("bad-one", [1], connect_timeout="-5s"),
                                config.cluster("bad-two", [1], lb_policy="CLUSTER_PROVIDED")])
    text = house.plane.wait_nack("cluster")
    assert "bad-one" in text and "bad-two" in text, text


def test_a_bad_table_keeps_the_last_good_one(house):
    house.plane.set("route", [table([{"match": {"safe_regex": {"regex": "a("}}, "route": {"cluster": "old"}}])])
    text = house.plane.wait_nack("route")
    assert "virtual_hosts[0].routes[0].match.safe_regex" in text and "web" in text, text
    assert house.bodies() == {"old"}
    house.weights(0, 100)
    house.plane.wait_ack("route")
    wait_for(lambda: house.bodies(3) == {"new"}, "the next good table")


def test_a_bad_listener_keeps_the_last_good_one(house):
    bad = rds_listener()
    bad["filter_chains"][0]["filters"][0]["typed_config"]["max_request_headers_kb"] = 99999
    house.plane.set("listener", [bad])
    text = house.plane.wait_nack("listener")
    assert "max_request_headers_kb" in text and "main" in text, text
    assert house.bodies() == {"old"}


def test_garbage_bytes_are_refused(house):
    for data in (b"\xff\xff\xff\xff", b"\x0a\x05ab", b"\x0a\xff\xff\xff\xff\x0f", b"\x1a" * 1000, b"\x0a\x04\xff\xfe\xfd\xfc"):
        house.plane.set_raw("cluster", {"x": data})
        assert house.plane.wait_nack("cluster")
        assert house.bodies(3) == {"old"}


def test_a_deeply_nested_message_is_refused(house):
    """Nesting that would overflow a naive decoder's stack: metadata of lists of lists of lists …"""
    value = b""
    for _ in range(3000):
        inner = b"\x0a" + varint(len(value)) + value      # ListValue.values
        value = b"\x32" + varint(len(inner)) + inner       # Value.list_value
    entry = b"\x0a\x01k\x12" + varint(len(value)) + value
    struct = b"\x0a" + varint(len(entry)) + entry
    pair = b"\x0a\x01n\x12" + varint(len(struct)) + struct
    metadata = b"\x0a" + varint(len(pair)) + pair
    house.plane.set_raw("cluster", {"deep": b"\x0a\x04deep" + b"\xca\x01" + varint(len(metadata)) + metadata})
    assert house.plane.wait_nack("cluster")
    assert house.bodies(3) == {"old"}


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def test_nack_then_recovery_loop_is_cheap(house):
    """A refused version that is pushed again and again costs little and changes nothing."""
    before = house.proxy.cpu_seconds()
    for _ in range(50):
        house.plane.set("cluster", [eds_cluster("old"), eds_cluster("new"), config.cluster("bad", [1], connect_timeout="-5s")])
        house.plane.wait_nack("cluster")
    assert house.proxy.cpu_seconds() - before < 10
    assert house.bodies(3) == {"old"}


def test_control_plane_dies_and_comes_back(house, control_plane, upstream):
    load = Load(house.port)
    port = house.plane.port
    house.plane.stop()
    load.wait_more(50)
    wait_for(lambda: house.proxy.stat("control_plane.connected_state") == 0, "the loss to be seen")
    load.wait_more(50)
    successor = control_plane(port=port)
    third = upstream("third")
    successor.set("cluster", [eds_cluster("old"), eds_cluster("new")])
    successor.set("endpoint", [config.assignment("old", [third.port]), config.assignment("new", [house.new.port])])
    successor.set("listener", [rds_listener()])
    successor.set("route", [table([split({"old": 1})])])
    load.wait_more(20, "third")
    for kind in ("cluster", "endpoint", "listener", "route"):
        successor.wait_ack(kind)
    load.stop()
    first = next(r for r in successor.requests if r.type_url.endswith("Cluster"))
    assert first.node.id == "test-node"
    assert not successor.nacks


@pytest.mark.parametrize("count", [1, 100, 3000, 30000])
def test_the_control_plane_dies_in_the_middle_of_a_message(control_plane, skiff, upstream, count):
    """The connection is cut `count` bytes into a big response: traffic goes on, and the response comes again."""
    plane, old, new = control_plane(), upstream("old"), upstream("new")
    relay = Relay(plane.port)
    plane.set("cluster", [config.cluster("a", [old.port])])
    plane.set("listener", [config.listener("main")])
    proxy = skiff(ads_bootstrap(relay.port))
    load = Load(proxy.port())
    load.wait_more(20)
    relay.cut_after(count)
    plane.set("cluster", [config.cluster("a", [new.port])] + [config.cluster(f"filler-{n}", [1000 + n]) for n in range(300)])
    wait_for(lambda: relay.cuts, "the cut")
    load.wait_more(20, "new")
    load.stop()
    relay.stop()
    assert not plane.nacks


def test_a_removed_cluster_is_gone(house):
    assert house.proxy.stat("cluster.new.membership_total") == 1
    house.plane.set("route", [table([split({"old": 1})])])
    house.plane.wait_ack("route")
    house.plane.set("cluster", [eds_cluster("old")])
    house.plane.wait_ack("cluster")
    wait_for(lambda: not house.proxy.stats("^cluster\\.new\\."), "the statistics of the removed cluster to go")
    assert house.bodies(5) == {"old"}


def test_a_route_to_a_removed_cluster_is_503(house):
    house.plane.set("cluster", [eds_cluster("new")])
    house.plane.wait_ack("cluster")
    wait_for(lambda: client.get(house.port).status == 503, "503 without the cluster")
    house.plane.set("cluster", [eds_cluster("old"), eds_cluster("new")])
    house.plane.wait_ack("cluster")
    wait_for(lambda: client.get(house.port).status == 200, "the cluster to be back")


def test_a_cluster_without_endpoints(house):
    house.plane.set("endpoint", [{"cluster_name": "old", "endpoints": []}, config.assignment("new", [house.new.port])])
    house.plane.wait_ack("endpoint")
    wait_for(lambda: client.get(house.port).status == 503, "503 without endpoints")
    assert house.proxy.stat("cluster.old.membership_total") == 0
    house.plane.set("endpoint", [config.assignment("old", [house.old.port]), config.assignment("new", [house.new.port])])
    house.plane.wait_ack("endpoint")
    wait_for(lambda: client.get(house.port).status == 200, "the endpoints to be back")


def test_a_listener_is_added_and_removed(house):
    house.plane.set("listener", [rds_listener(), rds_listener("second")])
    house.plane.wait_ack("listener")
    second = house.proxy.port("second")
    wait_for(lambda: client.get(second).text == "old", "the second listener")
    house.plane.set("listener", [rds_listener()])
    house.plane.wait_ack("listener")

    def refused():
        try:
            client.Client(second).close()
            return False
        except ConnectionRefusedError:
            return True
    wait_for(refused, "the removed listener's port to be closed")
    assert house.bodies(5) == {"old"}


def test_a_new_cluster_and_its_route_in_one_burst(house, upstream):
    """CDS, EDS and RDS pushed together: no 503 in between, whatever order they are taken in."""
    load = Load(house.port)
    made = []
    clusters, assignments = [eds_cluster("old"), eds_cluster("new")], [
        config.assignment("old", [house.old.port]), config.assignment("new", [house.new.port])]
    for number in range(10):
        made.append(upstream(f"v{number}"))
        clusters.append(eds_cluster(f"v{number}"))
        assignments.append(config.assignment(f"v{number}", [made[-1].port]))
        with house.plane.changed:  # one burst: a table alone, naming what nobody has yet, would be used at once
            house.plane.set("route", [table([split({f"v{number}": 1})])])
            house.plane.set("cluster", clusters)
            house.plane.set("endpoint", assignments)
        load.wait_more(5, f"v{number}")
    load.stop()


def test_routes_wait_for_a_warming_cluster(house, upstream):
    """The route comes first, its cluster's endpoints much later: the old table serves until then."""
    late = upstream("late")
    house.plane.set("cluster", [eds_cluster("old"), eds_cluster("new"), eds_cluster("late")])
    house.plane.wait_ack("cluster")
    load = Load(house.port)
    house.plane.set("route", [table([split({"late": 1})])])
    load.wait_more(50)
    house.plane.set("endpoint", [config.assignment("old", [house.old.port]), config.assignment("new", [house.new.port]),
                                 config.assignment("late", [late.port])])
    load.wait_more(20, "late")
    load.stop()


def test_runtime_from_the_control_plane(control_plane, skiff, upstream):
    plane, a = control_plane(), upstream("a")
    plane.set("runtime", [{"name": "rtds", "layer": {"routing": {"on": 0}}}])
    layers = [{"name": "base", "static_layer": {"routing": {"on": 100}}},
              {"name": "rtds", "rtds_layer": {"name": "rtds", "rtds_config": ADS}}]
    routes = [{"match": {"prefix": "/", "runtime_fraction": {"default_value": {"numerator": 0}, "runtime_key": "routing.on"}},
               "route": {"cluster": "a"}}, {"match": {"prefix": "/"}, "direct_response": {"status": 418}}]
    plane.set("cluster", [config.cluster("a", [a.port])])
    plane.set("listener", [config.listener("main", [config.hcm(routes)])])
    proxy = skiff(ads_bootstrap(plane.port, layers=layers))
    plane.wait_ack("runtime")
    port = proxy.port()
    wait_for(lambda: client.get(port).status == 418, "the runtime layer of the control plane")
    plane.set("runtime", [{"name": "rtds", "layer": {"routing": {"on": 100}}}])
    plane.wait_ack("runtime")
    wait_for(lambda: client.get(port).status == 200, "the changed runtime value")
    entries = proxy.admin_json("/runtime")["entries"]
    assert entries["routing.on"]["final_value"] == "100"


def test_a_control_plane_that_answers_nothing(control_plane, skiff, upstream):
    """Static listeners serve while the control plane is silent; the proxy is ready after initial_fetch_timeout."""
    plane, a = control_plane(), upstream("a")
    plane.mute()
    body = ads_bootstrap(plane.port, clusters=[config.cluster("a", [a.port])], listeners=[config.listener("main")])
    for kind in ("lds_config", "cds_config"):
        body["dynamic_resources"][kind]["initial_fetch_timeout"] = "0.5s"
    proxy = skiff(body)
    assert client.get(proxy.port()).text == "a"


def test_a_control_plane_that_is_not_there(skiff, upstream, dead_port):
    a = upstream("a")
    body = ads_bootstrap(dead_port, clusters=[config.cluster("a", [a.port])], listeners=[config.listener("main")])
    for kind in ("lds_config", "cds_config"):
        body["dynamic_resources"][kind]["initial_fetch_timeout"] = "0.5s"
    proxy = skiff(body)
    assert client.get(proxy.port()).text == "a"


def test_long_streams_survive_updates(house):
    """A response that is still running when its route, cluster and listener change ends well."""
    gate = threading.Event()

    def slow(connection, request):
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc")
        gate.wait(120)
        connection.send("def")
        return True
    house.old.play(slow)
    with client.Client(house.port) as c:
        c.send(client.request_bytes())
        wait_for(lambda: house.old.requests, "the request at the upstream")
        house.weights(0, 100)
        changed = rds_listener()
        changed["filter_chains"][0]["filters"][0]["typed_config"]["server_name"] = "changed"
        house.plane.set("listener", [changed])
        house.plane.wait_ack("route")
        house.plane.wait_ack("listener")
        wait_for(lambda: house.bodies(3) == {"new"}, "the new version for new requests")
        gate.set()
        response = c.read()
        assert response.body == b"abcdef" and response.complete


def test_a_draining_connection_keeps_its_table(house):
    """The listener turns to another table; a connection that it still drains is served by the old one."""
    with client.Client(house.port) as kept:
        assert kept.request().text == "old"
        house.plane.set("route", [table([split({"old": 1})]), table([split({"new": 1})], "other")])
        changed = rds_listener(table="other")
        house.plane.set("listener", [changed])
        house.plane.wait_ack("listener")
        wait_for(lambda: house.bodies(3) == {"new"}, "the other table")
        assert kept.request().text == "old"

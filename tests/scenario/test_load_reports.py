"""Load reports (LRS): what a server of load reports is told. The counts and forms are those of Envoy 1.40."""
import json

import pytest

from harness import client, config
from harness.controlplane import grpc_cluster
from harness.loadserver import LoadServer
from harness.proxy import validate
from harness.wait import wait_for


def load_config(**over):
    return {"load_stats_config": {"api_type": "GRPC", "transport_api_version": "V3",
                                  "grpc_services": [{"envoy_grpc": {"cluster_name": "lrs"}}], **over}}


class House:
    """A cluster with two localities, one that is idle, and a server of load reports."""

    def __init__(self, skiff, upstream):
        self.server, self.a, self.b = LoadServer(), upstream("a"), upstream("b")
        two = config.cluster("two", [])
        two["load_assignment"]["endpoints"] = [
            {"locality": {"region": "r", "zone": "z1"}, "lb_endpoints": [config.endpoint(self.a.port)]},
            {"locality": {"region": "r", "zone": "z2"}, "lb_endpoints": [config.endpoint(self.b.port)]}]
        full = config.cluster("full", [self.a.port])
        full["load_assignment"]["policy"] = {"drop_overloads": [
            {"category": "too-much", "drop_percentage": {"numerator": 100}}]}
        routes = [config.route("/full", "full"), config.route("/", "two")]
        self.proxy = skiff(config.bootstrap(
            [config.listener("main", [config.hcm(routes)])],
            [two, full, config.cluster("idle", [self.a.port]), grpc_cluster(self.server.port, "lrs")],
            node={"id": "n1", "cluster": "c1"}, cluster_manager=load_config()))
        self.port = self.proxy.port()
        wait_for(lambda: self.server.requests, "the first request")

    def ask(self, *clusters, **more):
        before = self.proxy.stat("load_reporter.requests")
        self.server.ask(*clusters, **more)
        wait_for(lambda: self.proxy.stat("load_reporter.requests") > before, "the question to be read")


@pytest.fixture
def house(skiff, upstream):
    made = House(skiff, upstream)
    yield made
    made.server.stop()


def test_who_we_are_is_said_first(house):
    first = house.server.requests[0]
    assert first.node.id == "n1" and list(first.node.client_features) == ["envoy.lrs.supports_send_all_clusters"]
    assert not first.cluster_stats


def test_requests_by_locality_since_the_question(house):
    for _ in range(4):
        assert client.get(house.port).status == 200  # before anybody asked: not told
    house.ask("two", "idle", "no-such-cluster")
    for _ in range(6):
        assert client.get(house.port).status == 200
    house.a.play({"status": 503})
    house.b.play({"status": 503})
    assert client.get(house.port).status == 503
    wait_for(lambda: house.server.total("two") == 7, "seven requests to be told")
    assert house.server.total("two", "total_successful_requests") == 6
    assert house.server.total("two", "total_error_requests") == 1
    zones = {l.locality.zone for s in house.server.reports("two") for l in s.upstream_locality_stats}
    assert zones == {"z1", "z2"}
    idle = wait_for(lambda: house.server.reports("idle"), "a report of the idle cluster")
    assert not any(s.upstream_locality_stats for s in idle)
    assert not house.server.reports("no-such-cluster")
    assert all(s.load_report_interval.ToNanoseconds() > 0 for s in idle)
    assert not any(l.upstream_endpoint_stats for s in house.server.reports("two") for l in s.upstream_locality_stats)


def test_requests_by_endpoint(house):
    house.ask("two", report_endpoint_granularity=True)
    for _ in range(6):
        client.get(house.port)

    def by_port():
        out = {}
        for report in house.server.reports("two"):
            for locality in report.upstream_locality_stats:
                for e in locality.upstream_endpoint_stats:
                    port = e.address.socket_address.port_value
                    out[port] = out.get(port, 0) + e.total_issued_requests
        return out
    wait_for(lambda: sum(by_port().values()) == 6, "six requests to be told")
    assert set(by_port()) == {house.a.port, house.b.port}


def test_requests_in_progress(house):
    house.a.play({"hang": True})
    house.b.play({"hang": True})
    house.ask("two")
    with client.Client(house.port) as hanging:
        hanging.send(client.request_bytes())
        wait_for(lambda: any(l.total_requests_in_progress == 1 for s in house.server.reports("two")
                             for l in s.upstream_locality_stats), "a request in progress to be told")


def test_dropped_requests(house):
    house.ask("full")
    for _ in range(3):
        assert client.get(house.port, "/full").status == 503
    wait_for(lambda: sum(s.total_dropped_requests for s in house.server.reports("full")) == 3, "three drops to be told")
    drops = {d.category: d.dropped_count for s in house.server.reports("full") for d in s.dropped_requests}
    assert list(drops) == ["too-much"]


def test_all_clusters(house):
    house.ask(send_all_clusters=True)
    wait_for(lambda: house.server.reports("two") and house.server.reports("idle") and house.server.reports("lrs"), "all clusters")


def test_the_stream_ends_and_comes_back(house):
    house.ask("two")
    wait_for(lambda: house.server.reports("two"), "a report")
    house.server.end_streams()
    wait_for(lambda: house.server.streams == 2, "another stream")
    before = house.server.total("two")
    client.get(house.port)
    wait_for(lambda: house.server.total("two") == before + 1, "the request to be told")
    assert house.proxy.stat("load_reporter.retries") >= 1


def test_odd_questions(house):
    """An interval of 0 or below keeps nobody busy; the same cluster twice, an empty name: as if not said."""
    for seconds in (0, -5):
        house.ask("two", "two", "", seconds=seconds)
        client.get(house.port)
    wait_for(lambda: house.server.total("two") >= 1, "a report")


def test_no_service_is_left_out(skiff_binary):
    body = config.bootstrap([], [grpc_cluster(1, "lrs")], node={"id": "n", "cluster": "c"}, cluster_manager=load_config(grpc_services=[]))
    code, output = validate(skiff_binary, json.dumps(body), args=["-l", "warning"])
    assert code == 0 and "load_stats_config" in output, output


@pytest.mark.parametrize("over, text", [
    ({"api_type": "REST"}, "api_type"),
    ({"grpc_services": [{"envoy_grpc": {"cluster_name": "nobody"}}]}, "no static cluster is named 'nobody'")])
def test_mistakes_in_the_configuration(skiff_binary, over, text):
    body = config.bootstrap([], [grpc_cluster(1, "lrs")], node={"id": "n", "cluster": "c"}, cluster_manager=load_config(**over))
    code, output = validate(skiff_binary, json.dumps(body))
    assert code == 1 and text in output and "load_stats_config" in output, output

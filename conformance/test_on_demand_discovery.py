"""VHDS and clusters on demand (ODCDS): requests wait for what the control plane is asked for. On the real Envoy and on Skiff."""
import threading

import pytest

from discovery import HTTP_RBAC, ON_DEMAND, Stage, stamp
from harness import client, config
from harness.controlplane import ADS, separate
from harness.wait import wait_for


@pytest.fixture(params=["envoy", "skiff"])
def stage(request, envoy_binary, skiff_binary, concurrency):
    made = Stage(envoy_binary if request.param == "envoy" else skiff_binary, True, concurrency)
    yield made
    made.stop()


class Waiting:
    """A request in a thread of its own."""

    def __init__(self, stage, **how):
        self.answer = None
        self.thread = threading.Thread(target=self.run, args=(stage, how), daemon=True)
        self.thread.start()

    def run(self, stage, how):
        self.answer = stage.ask(**how)

    def result(self):
        self.thread.join(60)
        return self.answer


def host(name, *domains, prefix="/", **over):
    return {"name": name, "domains": list(domains), "routes": [{"name": name, **config.route(prefix)}], **over}


def on_demand(odcds=None):
    return {"name": "envoy.filters.http.on_demand", "typed_config": {"@type": ON_DEMAND, **({"odcds": odcds} if odcds else {})}}


def table(stage, *hosts, **over):
    stage.plane.set("route", [{"name": "web", "virtual_hosts": list(hosts), "vhds": {"config_source": ADS}, **over}])


def http(stage, *filters, **over):
    stage.listener([stage.hcm(http_filters=[*filters, config.router()], rds={"route_config_name": "web", "config_source": ADS}, **over)])


def begin(stage, *filters, hosts=(("static", "static.com"),), first=None):
    http(stage, *(filters or [on_demand()]))
    table(stage, *[host(name, *domains) for name, *domains in hosts])
    stage.plane.answer_unknown = False
    stage.plane.set_virtual_hosts("web", first or {})
    return stage.start()


def test_the_table_waits_for_the_first_answer(stage):
    http(stage)
    table(stage, host("static", "static.com"))
    stage.start(wait=False)
    stage.plane.wait_subscribed("virtual_host")
    assert stage.proxy.admin("/ready").status == 503
    stage.plane.set_virtual_hosts("web", {"v1": host("v1", "one.com")}, {"v1": ["one.com"]})
    stage.proxy.wait_ready()
    stage.sees((200, None), host="static.com")
    stage.plane.wait_ack("virtual_host")


def test_virtual_hosts_come_change_and_go(stage):
    begin(stage)
    stage.plane.wait_subscribed("virtual_host")
    waiting = Waiting(stage, host="one.com")
    stage.plane.wait_subscribed_name("virtual_host", "web/one.com")
    stage.plane.set_virtual_hosts("web", {"v1": host("v1", "one.com")}, {"v1": ["one.com"]})
    assert waiting.result() == (200, None)
    stage.plane.set_virtual_hosts("web", {"v1": host("v1", "one.com", prefix="/new")}, {"v1": ["one.com"]})
    stage.plane.wait_ack("virtual_host")
    stage.sees((200, None), host="one.com", path="/new")
    assert stage.log.wait(2)[-1] == "200 - v1"


def test_a_request_waits_for_its_host(stage):
    begin(stage)
    waiting = Waiting(stage, host="Two.com")
    stage.plane.wait_subscribed_name("virtual_host", "web/two.com")
    assert stage.ask(host="static.com") == (200, None)
    stage.plane.set_virtual_hosts("web", {"v2": host("v2", "two.com")}, {"v2": ["two.com"]})
    assert waiting.result() == (200, None)
    assert stage.ask(host="two.com") == (200, None)
    subscribed = [list(r.resource_names_subscribe) for r in stage.plane.delta_requests if r.type_url.endswith("VirtualHost")]
    assert [names for names in subscribed if names] == [["web/two.com"]]


def test_many_requests_wait_for_one_host(stage):
    begin(stage)
    waiting = [Waiting(stage, host="two.com") for _ in range(8)]
    stage.plane.wait_subscribed_name("virtual_host", "web/two.com")
    stage.plane.set_virtual_hosts("web", {"v2": host("v2", "two.com")}, {"v2": ["two.com"]})
    assert [one.result() for one in waiting] == [(200, None)] * 8


def test_a_request_with_a_body_waits(stage):
    begin(stage)
    waiting = Waiting(stage, host="two.com", method="POST", body=b"x" * 5000)
    stage.plane.wait_subscribed_name("virtual_host", "web/two.com")
    stage.plane.set_virtual_hosts("web", {"v2": host("v2", "two.com")}, {"v2": ["two.com"]})
    status, _ = waiting.result()
    if stage.proxy.is_envoy:
        assert status in (200, 404)  # Envoy cannot begin a request anew once it holds a body
    else:
        assert status == 200
        assert stage.up.requests[-1].body == b"x" * 5000


def test_a_request_that_leaves_while_it_waits(stage):
    begin(stage)
    with client.Client(stage.proxy.port()) as leaving:
        leaving.send(b"GET / HTTP/1.1\r\nhost: two.com\r\n\r\n")
        stage.plane.wait_subscribed_name("virtual_host", "web/two.com")
    wait_for(lambda: stage.proxy.stat("http.main.downstream_rq_active") == 0, "the end of the request")
    stage.plane.set_virtual_hosts("web", {"v2": host("v2", "two.com")}, {"v2": ["two.com"]})
    stage.sees((200, None), host="two.com")


def test_the_listener_goes_while_a_request_waits(stage):
    begin(stage)
    waiting = Waiting(stage, host="two.com")
    stage.plane.wait_subscribed_name("virtual_host", "web/two.com")
    stage.plane.set("listener", [])
    wait_for(lambda: stage.proxy.stat("listener_manager.total_listeners_active") == 0, "the end of the listener")
    if not stage.proxy.is_envoy:  # the table is nobody's any more: there is no such host
        assert waiting.result() == (404, None)
    assert stage.proxy.admin("/ready").status == 200


def test_an_answer_for_another_host_is_no_route(stage):
    """The alias is answered, but no domain of the host fits."""
    begin(stage)
    waiting = Waiting(stage, host="two.com:80")
    stage.plane.wait_subscribed_name("virtual_host", "web/two.com:80")
    stage.plane.set_virtual_hosts("web", {"v2": host("v2", "two.com")}, {"v2": ["two.com", "two.com:80"]})
    assert waiting.result() == (404, None)


def test_the_control_plane_says_that_there_is_none(stage):
    begin(stage)
    waiting = Waiting(stage, host="nope.com")
    stage.plane.wait_subscribed_name("virtual_host", "web/nope.com")
    stage.plane.set_virtual_hosts("web", {"nope.com": None})
    assert waiting.result() == (404, None)


def test_without_the_filter_nothing_is_asked_for(stage):
    begin(stage, {"name": "stamp", "typed_config": stamp("1")})
    assert stage.ask(host="two.com")[0] == 404
    assert not [r for r in stage.plane.delta_requests if r.resource_names_subscribe and r.type_url.endswith("VirtualHost")]


def test_a_table_without_vhds_asks_for_nothing(stage):
    http(stage, on_demand())
    stage.plane.set("route", [{"name": "web", "virtual_hosts": [host("static", "static.com")]}])
    stage.start()
    assert stage.ask(host="two.com")[0] == 404


def test_filters_before_it_obey_the_new_route(stage):
    """RBAC of the new virtual host denies, although the filter ran before the host was known."""
    rbac = {"name": "rbac", "typed_config": {"@type": HTTP_RBAC}}
    begin(stage, rbac, on_demand())
    waiting = Waiting(stage, host="two.com")
    stage.plane.wait_subscribed_name("virtual_host", "web/two.com")
    deny = {"rbac": {"@type": HTTP_RBAC + "PerRoute", "rbac": {"rules": {"action": "ALLOW", "policies": {}}}}}
    stage.plane.set_virtual_hosts("web", {"v2": host("v2", "two.com", typed_per_filter_config=deny)}, {"v2": ["two.com"]})
    if not stage.proxy.is_envoy:  # Envoy lets the waiting request pass
        assert waiting.result()[0] == 403
    waiting.result()
    assert stage.ask(host="two.com")[0] == 403


@pytest.mark.parametrize("bad,text", [
    (host("v1", "static.com"), "Duplicate entry of domain static.com in route web"),
    ({"name": "v1", "domains": ["q"], "routes": [{"match": {"safe_regex": {"regex": "a("}}, "route": {"cluster": "a"}}]}, "a("),
], ids=["domain", "regex"])
def test_a_bad_virtual_host_is_refused(stage, bad, text):
    begin(stage, first={"v1": host("v1", "one.com")})
    stage.plane.set_virtual_hosts("web", {"v1": bad}, {"v1": ["static.com"]})
    nack = stage.plane.wait_nack("virtual_host")
    assert text in nack
    if not stage.proxy.is_envoy:
        assert nack.startswith('VirtualHost "web/v1": '), nack
    assert stage.ask(host="static.com") == (200, None)


def test_a_new_table_keeps_the_hosts_that_came_by_themselves(stage):
    begin(stage)
    waiting = Waiting(stage, host="two.com")
    stage.plane.wait_subscribed_name("virtual_host", "web/two.com")
    stage.plane.set_virtual_hosts("web", {"v2": host("v2", "two.com")}, {"v2": ["two.com"]})
    assert waiting.result() == (200, None)
    table(stage, host("other", "other.com"))
    stage.plane.wait_ack("route")
    stage.sees((200, None), host="other.com")
    assert stage.ask(host="two.com") == (200, None)


def test_config_dump_shows_the_whole_table(stage):
    begin(stage)
    waiting = Waiting(stage, host="two.com")
    stage.plane.wait_subscribed_name("virtual_host", "web/two.com")
    stage.plane.set_virtual_hosts("web", {"v2": host("v2", "two.com")}, {"v2": ["two.com"]})
    assert waiting.result() == (200, None)
    [section] = stage.dump("RoutesConfigDump")
    [one] = section["dynamic_route_configs"]
    assert [h["name"] for h in one["route_config"]["virtual_hosts"]] == ["static", "v2"]
    assert one["version_info"] == stage.plane.version("virtual_host")


def test_statistics(stage):
    begin(stage)
    waiting = Waiting(stage, host="two.com")
    stage.plane.wait_subscribed_name("virtual_host", "web/two.com")
    stage.plane.set_virtual_hosts("web", {"v2": host("v2", "two.com")}, {"v2": ["two.com"]})
    assert waiting.result() == (200, None)
    stage.sees_stats({".vhds.web.update_rejected": 0, ".vhds.web.update_failure": 0, ".rds.web.update_success": 1,
                      ".rds.web.update_rejected": 0, ".rds.web.update_empty": 0}, r"http\.main\.rds")
    wait_for(lambda: stage.proxy.stat("http.main.rds.vhds.web.config_reload") >= 1, "the count of reloads")


def test_vhds_over_state_of_the_world_is_refused(envoy_binary, skiff_binary):
    for binary in (envoy_binary, skiff_binary):
        stage = Stage(binary, False)
        try:
            http(stage)
            source = {"api_config_source": {"api_type": "GRPC", "transport_api_version": "V3",
                                            "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]}, "resource_api_version": "V3"}
            stage.plane.set("route", [{"name": "web", "virtual_hosts": [], "vhds": {"config_source": source}}])
            stage.start(wait=False)
            assert "vhds: only 'DELTA_GRPC' or 'ADS' (which uses Delta xDS) is supported" in stage.plane.wait_nack("route")
        finally:
            stage.stop()


def test_virtual_hosts_over_a_stream_of_their_own(stage):
    http(stage, on_demand())
    stage.plane.set("route", [{"name": "web", "virtual_hosts": [host("static", "static.com")], "vhds": {"config_source": separate(True)}}])
    stage.plane.answer_unknown = False
    stage.plane.set_virtual_hosts("web", {})
    stage.start()
    waiting = Waiting(stage, host="two.com")
    stage.plane.wait_subscribed_name("virtual_host", "web/two.com")
    stage.plane.set_virtual_hosts("web", {"v2": host("v2", "two.com")}, {"v2": ["two.com"]})
    assert waiting.result() == (200, None)


# --- clusters

def by_header(stage, odcds, **over):
    routes = [{"match": {"prefix": "/"}, "route": {"cluster_header": "x-cluster"}, **over}]
    stage.listener([stage.hcm(routes=routes, http_filters=[on_demand(odcds), config.router()])])


def test_a_request_waits_for_its_cluster(stage):
    by_header(stage, {"source": ADS})
    stage.plane.answer_unknown = False
    stage.start()
    waiting = Waiting(stage, headers=[("x-cluster", "late")])
    stage.plane.wait_subscribed_name("cluster", "late")
    stage.plane.set("cluster", [config.cluster("late", [stage.up.port])])
    assert waiting.result() == (200, None)
    assert stage.ask(headers=[("x-cluster", "late")]) == (200, None)


def test_a_cluster_that_nobody_has(stage):
    by_header(stage, {"source": ADS})
    stage.start()
    assert Waiting(stage, headers=[("x-cluster", "never")]).result() == (503, None)
    assert stage.log.wait(1)[0].startswith("503 NC")


def test_a_cluster_that_does_not_come_in_time(stage):
    by_header(stage, {"source": ADS, "timeout": "0.2s"})
    stage.plane.answer_unknown = False
    stage.start()
    assert Waiting(stage, headers=[("x-cluster", "never")]).result() == (503, None)


def test_without_odcds_an_unknown_cluster_is_503_at_once(stage):
    by_header(stage, None)
    stage.start()
    assert stage.ask(headers=[("x-cluster", "late")]) == (503, None)


def test_a_route_may_switch_clusters_on_demand_off(stage):
    off = {"envoy.filters.http.on_demand": {"@type": ON_DEMAND.replace("OnDemand", "PerRouteConfig")}}
    by_header(stage, {"source": ADS}, typed_per_filter_config=off)
    stage.start()
    assert stage.ask(headers=[("x-cluster", "late")]) == (503, None)
    assert not [r for r in stage.plane.delta_requests if "late" in r.resource_names_subscribe]



# --- TCP

TCP_PROXY = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"


def tcp(stage, **over):
    stage.listener([{"name": "tcp", "typed_config": {"@type": TCP_PROXY, "stat_prefix": "t", "cluster": "late", **over}}])
    stage.plane.answer_unknown = False
    stage.start()


def test_a_connection_waits_for_its_cluster(stage):
    tcp(stage, on_demand={"odcds_config": ADS})
    waiting = Waiting(stage)
    stage.plane.wait_subscribed_name("cluster", "late")
    stage.plane.set("cluster", [config.cluster("late", [stage.up.port])])
    assert waiting.result() == (200, None)
    assert stage.ask() == (200, None)
    stage.sees_stats({"t.on_demand_cluster_attempt": 1, "t.on_demand_cluster_success": 1, "t.on_demand_cluster_timeout": 0,
                      "t.on_demand_cluster_missing": 0}, r"^tcp\.t\.on_demand")


def test_a_connection_whose_cluster_does_not_come_in_time(stage):
    tcp(stage, on_demand={"odcds_config": ADS, "timeout": "0.2s"})
    assert Waiting(stage).result() == "closed"
    stage.sees_stats({"t.on_demand_cluster_timeout": 1, "t.on_demand_cluster_missing": 0, "t.downstream_cx_no_route": 1}, r"^tcp\.t\.")


def test_a_connection_whose_cluster_nobody_has(stage):
    tcp(stage, on_demand={"odcds_config": ADS})
    stage.plane.answer_unknown = True
    assert Waiting(stage).result() == "closed"
    stage.sees_stats({"t.on_demand_cluster_timeout": 0, "t.on_demand_cluster_missing": 1, "t.downstream_cx_no_route": 1}, r"^tcp\.t\.")


def test_a_connection_that_leaves_while_it_waits(stage):
    tcp(stage, on_demand={"odcds_config": ADS})
    with client.Client(stage.proxy.port()) as leaving:
        leaving.send(b"x")
        stage.plane.wait_subscribed_name("cluster", "late")
    stage.plane.set("cluster", [config.cluster("late", [stage.up.port])])
    stage.sees((200, None))

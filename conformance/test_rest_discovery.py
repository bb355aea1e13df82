"""Control planes that are polled (api_type REST). Each case runs on the real Envoy and on Skiff."""
import json

import pytest

from discovery import HEADER_MUTATION, discovered, stamp
from harness import client, config
from harness.proxy import Proxy, validate
from harness.restplane import RestPlane, rest
from harness.upstream import Upstream
from harness.wait import wait_for


class House:
    def __init__(self, binary, concurrency):
        self.binary, self.concurrency = binary, concurrency
        self.plane, self.a, self.b, self.proxy = RestPlane(), Upstream("a"), Upstream("b"), None

    def listener(self, *filters, **over):
        over = over or {"rds": {"route_config_name": "web", "config_source": rest()}}
        hcm = config.hcm(http_filters=[*filters, config.router()], **over)
        if "scoped_routes" in over:
            del hcm["typed_config"]["route_config"]
        self.plane.set("listener", [config.listener("main", [hcm])])

    def routes(self, **over):
        self.plane.set("route", [{"name": "web", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [config.route(**over)]}]}])

    def endpoints(self, port):
        self.plane.set("endpoint", [{"cluster_name": "a", "endpoints": [{"lb_endpoints": [config.endpoint(port)]}]}])

    def everything(self):
        self.plane.set("cluster", [{"name": "a", "type": "EDS", "connect_timeout": "5s", "eds_cluster_config": {"eds_config": rest()}}])
        self.endpoints(self.a.port)
        self.routes()
        self.listener()

    def start(self, wait=True, more=None, **sources):
        body = config.bootstrap([], [config.cluster("rest", [self.plane.port])], node={"id": "n1", "cluster": "c1"}, **(more or {}))
        body["dynamic_resources"] = {"cds_config": rest(**sources), "lds_config": rest(**sources)}
        self.proxy = Proxy(self.binary, body, wait=wait, concurrency=self.concurrency)
        return self

    def ask(self, path="/"):
        try:
            return client.get(self.proxy.port(), path)
        except (OSError, EOFError, ValueError):
            return None

    def sees(self, what, probe):
        wait_for(lambda: (lambda r: r is not None and probe(r))(self.ask()), what)

    def stat(self, name):
        return self.proxy.stat(name)

    def grows(self, name, by=2):
        before = self.stat(name)
        wait_for(lambda: self.stat(name) >= before + by, f"{name} to grow from {before}")

    def stop(self):
        if self.proxy:
            self.proxy.stop(check=not self.proxy.is_envoy)
        for one in (self.plane, self.a, self.b):
            one.stop()


@pytest.fixture(params=["envoy", "skiff"])
def house(request, envoy_binary, skiff_binary, concurrency):
    made = House(envoy_binary if request.param == "envoy" else skiff_binary, concurrency)
    yield made
    made.stop()


def test_everything_is_polled(house):
    house.everything()
    house.start()
    house.sees("upstream a", lambda r: r.status == 200 and r.body == b"a")
    house.endpoints(house.b.port)
    house.sees("upstream b", lambda r: r.status == 200 and r.body == b"b")
    house.plane.set("route", [{"name": "web", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
        {"match": {"prefix": "/"}, "direct_response": {"status": 204}}]}]}])
    house.sees("the new route", lambda r: r.status == 204)
    house.plane.set("listener", [])
    wait_for(lambda: house.ask() is None, "the listener to be gone")
    house.plane.set("cluster", [])
    wait_for(lambda: house.stat("cluster_manager.active_clusters") == 1, "the cluster to be gone")


def test_the_questions(house):
    house.everything()
    house.start()
    for kind, name, version in (("cluster", None, "1"), ("listener", None, "1"), ("endpoint", "a", "1"), ("route", "web", "1")):
        wait_for(lambda: len(house.plane.questions(kind)) >= 2, f"two questions of {kind}")
        (headers, first), (_, second) = house.plane.questions(kind)[:2]
        assert headers["host"] == "rest" and headers["content-type"] == "application/json"
        assert headers["x-envoy-internal"] == "true" and headers["x-envoy-expected-rq-timeout-ms"] == "1000"
        assert first["node"]["id"] == "n1" and "extensions" in first["node"] and "client_features" not in first["node"]
        assert "version_info" not in first and second["version_info"] == version
        assert first.get("resource_names") == ([name] if name else None)
        assert set(first) <= {"node", "resource_names", "type_url"}, first


def test_not_modified(house):
    house.plane.not_modified = True
    house.everything()
    house.start()
    house.sees("upstream a", lambda r: r.status == 200)
    house.plane.wait_questions("cluster", 3)
    assert house.stat("cluster_manager.cds.update_success") == 1
    house.grows("cluster_manager.cds.update_attempt")


FAILURES = {
    "status": ({"status": 503}, "update_failure"),
    "no_json": ({"body": b"nonsense"}, "update_rejected"),
    "no_answer": ({"hang": True}, "update_failure"),
    "empty": ({"body": b""}, "update_rejected"),
    "not_a_message": ({"body": b'{"version_info": "9", "resources": [{"@type": "type.googleapis.com/nobody.knows"}]}'}, "update_rejected"),
    "wrong_type": ({"body": b'{"version_info": "9", "resources": [{"@type": '
                            b'"type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "name": "x"}]}'}, "update_rejected"),
}


@pytest.mark.parametrize("how", FAILURES)
def test_what_fails_is_counted_and_changes_nothing(house, how):
    answer, counter = FAILURES[how]
    house.everything()
    house.start(request_timeout="0.3s")
    house.sees("upstream a", lambda r: r.status == 200)
    house.plane.fail("cluster", **answer)
    house.grows(f"cluster_manager.cds.{counter}")
    assert house.ask().status == 200
    assert house.plane.questions("cluster")[-1][1]["version_info"] == "1"
    house.plane.set("cluster", [config.cluster("a", [house.b.port])])
    house.sees("upstream b", lambda r: r.status == 200 and r.body == b"b")


def test_an_unknown_field(house):
    house.everything()
    house.start()
    house.plane.fail("cluster", body=b'{"version_info": "9", "what": 1}')
    wait_for(lambda: house.plane.questions("cluster")[-1][1].get("version_info") == "9", "the version to be taken")


def test_a_refused_resource(house):
    house.everything()
    house.start()
    house.sees("upstream a", lambda r: r.status == 200)
    house.plane.set("route", [{"name": "web", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}}]}]}])
    house.grows("http.main.rds.web.update_rejected")
    assert house.ask().status == 200 and house.plane.questions("route")[-1][1]["version_info"] == "1"


def test_a_start_without_it(house):
    house.everything()
    house.plane.fail("cluster", 503)
    house.start(timeout="0.5s")
    assert house.stat("cluster_manager.cds.init_fetch_timeout") == 1
    house.everything()
    house.sees("upstream a", lambda r: r.status == 200 and r.body == b"a")


def test_filters_scopes_and_runtime(house):
    house.everything()
    house.plane.set("extension", [{"name": "x", "typed_config": stamp("1")}])
    house.plane.set("runtime", [{"name": "rt", "layer": {"a.b": "c"}}])
    house.plane.set("scoped_route", [{"name": "s", "route_configuration_name": "web", "key": {"fragments": [{"string_key": "k"}]}}])
    house.listener(discovered("x", HEADER_MUTATION, source=rest()), scoped_routes={
        "name": "scopes", "rds_config_source": rest(), "scoped_rds": {"scoped_rds_config_source": rest()},
        "scope_key_builder": {"fragments": [{"header_value_extractor": {"name": "x-scope", "index": 0}}]}})
    house.start(more={"layered_runtime": {"layers": [{"name": "l", "rtds_layer": {"name": "rt", "rtds_config": rest()}}]}})
    assert house.proxy.admin_json("/runtime")["entries"]["a.b"]["final_value"] == "c"
    wait_for(lambda: client.get(house.proxy.port(), "/", headers=[("x-scope", "k")]).header("x-stamp") == "1", "the filter in the scope")


GRPC = [{"envoy_grpc": {"cluster_name": "rest"}}]
MISTAKES = {
    "no_delay": ({"refresh_delay": None}, "refresh_delay"),
    "no_cluster": ({"cluster_names": []}, "cluster_names"),
    "two_clusters": ({"cluster_names": ["rest", "rest"]}, "cluster_names"),
    "an_unknown_cluster": ({"cluster_names": ["nobody"]}, "cluster_names"),
    "a_grpc_service": ({"grpc_services": GRPC}, "grpc_services"),
    "grpc_with_a_cluster": ({"api_type": "GRPC", "grpc_services": GRPC}, "cluster_names"),
    "timeout_of_zero": ({"request_timeout": "0s"}, "request_timeout"),
}


@pytest.mark.parametrize("how", MISTAKES)
def test_mistakes(envoy_binary, skiff_binary, how):
    change, field = MISTAKES[how]
    source = rest()
    source["api_config_source"].update(change)
    source["api_config_source"] = {k: v for k, v in source["api_config_source"].items() if v is not None}
    body = config.bootstrap([], [config.cluster("rest", [1])], node={"id": "n", "cluster": "c"}, dynamic_resources={"cds_config": source})
    for binary in (envoy_binary, skiff_binary):
        code, output = validate(binary, json.dumps(body))
        assert code == 1, output
    assert field in output, output

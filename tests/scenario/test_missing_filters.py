"""Filters that Skiff has not, switched off in the list; and the limit of connections of the overload manager."""
import json
import socket

import pytest
from envoy.extensions.filters.http.lua.v3 import lua_pb2  # noqa: F401 the control plane packs it
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2  # noqa: F401

from harness import config, http1
from harness.client import Client
from harness.controlplane import ads_bootstrap
from harness.proxy import validate
from harness.wait import wait_for

LUA = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"
ROUTER = {"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}
ON = {"script": {"@type": LUA + "PerRoute", "name": "guard"}}


def listener(disabled):
    script = {"name": "script", "disabled": disabled, "typed_config": {"@type": LUA}}
    routes = [{"match": {"prefix": "/guarded"}, "direct_response": {"status": 200}, "typed_per_filter_config": ON},
              {"match": {"prefix": "/"}, "direct_response": {"status": 200}}]
    return config.listener("main", [config.hcm(routes=routes, stat_prefix="main", http_filters=[script, ROUTER])])


@pytest.fixture
def house(control_plane, skiff):
    plane = control_plane()
    plane.set("cluster", [config.cluster("a", [])])
    plane.set("listener", [listener(True)])
    return plane, skiff(ads_bootstrap(plane.port))


def test_a_route_that_needs_a_missing_filter_answers_500(house):
    plane, proxy = house
    plane.wait_ack("listener")
    with Client(proxy.port("main")) as client:
        assert client.request("GET", "/open").status == 200
        assert client.request("GET", "/guarded").status == 500
    assert "routes that switch it on answer 500" in proxy.log_tail(200)


def test_a_missing_filter_that_is_off_in_a_file(skiff, skiff_binary):
    listener_off = listener(True)
    del listener_off["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"][0]["routes"][0]
    body = config.bootstrap([listener_off])
    with Client(skiff(body).port("main")) as client:
        assert client.request("GET", "/guarded").status == 200
    del listener_off["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"][0]["disabled"]
    code, text = validate(skiff_binary, json.dumps(config.bootstrap([listener_off])))
    assert code == 1 and "http_filters[0].typed_config" in text and "lua.v3.Lua" in text


def test_a_missing_filter_that_is_on_is_refused(house):
    plane, proxy = house
    plane.wait_ack("listener")
    plane.set("listener", [listener(False)])
    assert "lua.v3.Lua" in str(plane.wait_nack("listener"))
    with Client(proxy.port("main")) as client:
        assert client.request("GET", "/guarded").status == 500


def test_connections_beyond_the_limit_are_closed(skiff):
    monitor = {"name": "envoy.resource_monitors.global_downstream_max_connections",
               "typed_config": {"@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3"
                                         ".DownstreamConnectionsConfig", "max_active_downstream_connections": 2}}
    routes = [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]
    free = config.listener("free", [config.hcm(routes=routes, stat_prefix="free")], bypass_overload_manager=True)
    tight = config.listener("tight", [config.hcm(routes=routes, stat_prefix="tight")])
    proxy = skiff(config.bootstrap([tight, free], overload_manager={"resource_monitors": [monitor]}))
    with Client(proxy.port("tight")) as first, Client(proxy.port("tight")) as second:
        assert first.request("GET", "/").status == second.request("GET", "/").status == 200
        with socket.create_connection(("127.0.0.1", proxy.port("tight")), timeout=30) as third:
            assert third.recv(1) == b""
        assert list(proxy.stats("downstream_global_cx_overflow$").values()).count(1) == 1
        with Client(proxy.port("free")) as other:
            assert other.request("GET", "/").status == 200

    def again():
        try:
            with Client(proxy.port("tight")) as client:
                return client.request("GET", "/").status == 200
        except http1.Closed:  # the ones before are still counted
            return False
    wait_for(again, "room for another connection")

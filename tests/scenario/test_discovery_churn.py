"""Filters, virtual hosts and scopes that are discovered change hundreds of times under load; no request is lost."""
import pytest

from harness import client, config
from harness.controlplane import ADS, ads_bootstrap
from harness.wait import wait_for
from test_live_updates import Load

pytestmark = pytest.mark.threads
MUTATION = "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
VERSIONS = 500
ON_DEMAND = {"name": "envoy.filters.http.on_demand",
             "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.OnDemand"}}


def stamp(value):
    return {"@type": MUTATION, "mutations": {"response_mutations": [{"append": {"header": {"key": "x-stamp", "value": value}}}]}}


@pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])
def test_500_versions_of_a_filter(control_plane, skiff, upstream, delta):
    plane, up = control_plane(), upstream("a")
    ecds = {"name": "x", "config_discovery": {"config_source": ADS, "type_urls": [MUTATION]}}
    plane.set("cluster", [])
    plane.set("listener", [config.listener("main", [config.hcm(http_filters=[ecds, config.router()])])])
    plane.set("extension", [{"name": "x", "typed_config": stamp("0")}])
    proxy = skiff(ads_bootstrap(plane.port, delta=delta, clusters=[config.cluster("a", [up.port])]))
    load = Load(proxy.port())
    for number in range(1, VERSIONS + 1):
        plane.set("extension", [{"name": "x", "typed_config": stamp(str(number))}])
        plane.wait_ack("extension")
    load.wait_more(20)
    load.stop()
    wait_for(lambda: client.get(proxy.port()).header("x-stamp") == str(VERSIONS), "the last version")
    assert proxy.stat("extension_config_discovery.http_filter.x.config_reload") == VERSIONS + 1
    assert not plane.nacks


def test_listeners_with_discovered_filters_come_and_go(control_plane, skiff, upstream):
    """The place of use is made anew with each version of the listener; old connections keep what they had."""
    plane, up = control_plane(), upstream("a")

    def listener(number):
        ecds = {"name": "x", "config_discovery": {"config_source": ADS, "type_urls": [MUTATION],
                                                  "default_config": stamp(f"default-{number}")}}
        return config.listener("main", [config.hcm(http_filters=[ecds, config.router()], server_name=f"name-{number}")])
    plane.set("cluster", [])
    plane.set("listener", [listener(0)])
    plane.set("extension", [{"name": "x", "typed_config": stamp("1")}])
    proxy = skiff(ads_bootstrap(plane.port, clusters=[config.cluster("a", [up.port])]))
    load = Load(proxy.port())
    with client.Client(proxy.port()) as kept:
        assert kept.request().header("x-stamp") == "1"
        for number in range(1, 40):
            plane.set("listener", [listener(number)])
            plane.wait_ack("listener")
            wait_for(lambda name=f"name-{number}": client.get(proxy.port()).header("server") == name, "the new listener")
        response = kept.request()
        assert response.status == 200 and response.header("x-stamp") == "1"
    load.stop()


def test_500_versions_of_virtual_hosts(control_plane, skiff, upstream):
    plane, up = control_plane(), upstream("a")

    def host(name, number):
        return {"name": name, "domains": [f"{name}.com"], "routes": [{"match": {"prefix": f"/{number}"}, "route": {"cluster": "a"}}, config.route()]}
    table = {"name": "web", "virtual_hosts": [{"name": "fixed", "domains": ["test"], "routes": [config.route()]}], "vhds": {"config_source": ADS}}
    aliases = {f"v{i}": [f"v{i}.com"] for i in range(20)}
    plane.answer_unknown = False
    plane.set("cluster", [])
    plane.set("listener", [config.listener("main", [config.hcm(http_filters=[ON_DEMAND, config.router()],
                                                               rds={"route_config_name": "web", "config_source": ADS})])])
    plane.set("route", [table])
    plane.set_virtual_hosts("web", {f"v{i}": host(f"v{i}", 0) for i in range(10)}, aliases)
    proxy = skiff(ads_bootstrap(plane.port, delta=True, clusters=[config.cluster("a", [up.port])]))
    for i in range(10):
        assert client.get(proxy.port(), host=f"v{i}.com").status == 200
    load, moving = Load(proxy.port()), Load(proxy.port(), threads=2, host="v3.com")
    for number in range(1, VERSIONS + 1):
        hosts = {f"v{i}": host(f"v{i}", number) for i in range(10)}
        if number % 2:
            hosts["v11"] = host("v11", number)
        plane.set_virtual_hosts("web", hosts, aliases)
        plane.wait_ack("virtual_host")
    load.wait_more(20)
    moving.wait_more(20)
    load.stop()
    moving.stop()
    assert not plane.nacks


@pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])
def test_500_versions_of_scopes(control_plane, skiff, upstream, delta):
    plane, up = control_plane(), upstream("a")

    def table(name):
        return {"name": name, "virtual_hosts": [{"name": name, "domains": ["*"], "routes": [config.route()]}]}

    def scope(number):
        where = {"route_configuration": table("inside")} if number % 5 == 4 else {"route_configuration_name": f"t{number % 3}"}
        return {"name": "s", "key": {"fragments": [{"string_key": "test"}]}, **where}
    hcm = config.hcm(rds={})
    del hcm["typed_config"]["rds"]
    hcm["typed_config"]["scoped_routes"] = {
        "name": "scopes", "rds_config_source": ADS, "scoped_rds": {"scoped_rds_config_source": ADS},
        "scope_key_builder": {"fragments": [{"header_value_extractor": {"name": ":authority", "index": 0}}]}}
    plane.set("cluster", [])
    plane.set("listener", [config.listener("main", [hcm])])
    plane.set("scoped_route", [scope(0)])
    plane.set("route", [table(f"t{i}") for i in range(3)])
    proxy = skiff(ads_bootstrap(plane.port, delta=delta, clusters=[config.cluster("a", [up.port])]))
    load = Load(proxy.port())
    for number in range(1, VERSIONS + 1):
        plane.set("scoped_route", [scope(number)])
        plane.wait_ack("scoped_route")
    load.wait_more(20)
    load.stop()
    assert not plane.nacks

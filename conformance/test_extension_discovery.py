"""ECDS: filters whose configuration is discovered. Each case runs on the real Envoy and on Skiff, state of the world and delta."""
import os

import pytest

from discovery import (HEADER_MUTATION, HTTP_RBAC, NETWORK_RBAC, TLS_INSPECTOR, Stage, discovered, stamp, write_file)
from harness import client, config
from harness.controlplane import separate
from harness.wait import wait_for

EXTENSION = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
DENY = {"@type": NETWORK_RBAC, "stat_prefix": "deny", "rules": {"action": "ALLOW", "policies": {}}}
ALLOW = {"@type": NETWORK_RBAC, "stat_prefix": "allow"}


@pytest.fixture(params=["envoy-sotw", "envoy-delta", "skiff-sotw", "skiff-delta"])
def stage(request, envoy_binary, skiff_binary, concurrency):
    who, how = request.param.split("-")
    made = Stage(envoy_binary if who == "envoy" else skiff_binary, how == "delta", concurrency)
    yield made
    made.stop()


def extension(name, typed_config):
    return {"name": name, "typed_config": typed_config}


def http(stage, *filters, **over):
    stage.listener([stage.hcm(http_filters=[*filters, config.router()], **over)])


def test_the_listener_waits_for_it(stage):
    http(stage, discovered("x", HEADER_MUTATION))
    stage.start(wait=False)
    stage.plane.wait_subscribed("extension", ["x"])
    assert stage.proxy.admin("/ready").status == 503
    stage.plane.set("extension", [extension("x", stamp("1"))])
    stage.proxy.wait_ready()
    stage.sees((200, "1"))


def test_a_new_version_is_used_by_new_requests(stage):
    http(stage, discovered("x", HEADER_MUTATION))
    stage.plane.set("extension", [extension("x", stamp("1"))])
    stage.start()
    with client.Client(stage.proxy.port()) as kept:
        assert kept.request().header("x-stamp") == "1"
        stage.plane.set("extension", [extension("x", stamp("2"))])
        stage.plane.wait_ack("extension")
        wait_for(lambda: kept.request().header("x-stamp") == "2", "the new version on a kept connection")
    stage.sees_stats({".config_reload": 2, ".update_success": 2, ".update_rejected": 0}, "extension_config_discovery.http_filter.x")
    assert stage.proxy.stat("listener_manager.listener_modified") == 0


def test_a_running_request_keeps_its_own(stage):
    http(stage, discovered("x", HEADER_MUTATION))
    stage.plane.set("extension", [extension("x", stamp("1"))])
    stage.start()
    with client.Client(stage.proxy.port()) as kept:
        kept.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab")
        wait_for(lambda: stage.proxy.stat("http.main.downstream_rq_active") == 1, "the request to run")
        stage.plane.set("extension", [extension("x", stamp("2"))])
        stage.sees((200, "2"))
        kept.send(b"cde")
        assert kept.read("POST").header("x-stamp") == "1"


@pytest.mark.parametrize("bad", [
    {"@type": HTTP_RBAC},
    {"@type": HEADER_MUTATION, "mutations": {"response_mutations": [{"append": {"header": {"key": "a\nb", "value": "x"}}}]}},
    {"@type": config.ROUTER},
], ids=["type", "field", "terminal"])
def test_a_bad_version_is_refused_and_the_old_one_serves(stage, bad):
    urls = [HEADER_MUTATION] + ([config.ROUTER] if bad["@type"] == config.ROUTER else [])
    one = discovered("x", HEADER_MUTATION)
    one["config_discovery"]["type_urls"] = urls
    http(stage, one)
    stage.plane.set("extension", [extension("x", stamp("1"))])
    stage.start()
    stage.plane.set("extension", [extension("x", bad)])
    text = stage.plane.wait_nack("extension")
    if not stage.proxy.is_envoy:
        assert 'TypedExtensionConfig "x": typed_config' in text, text
    stage.sees((200, "1"))
    stage.sees_stats({".config_fail": 1, ".update_rejected": 1}, "extension_config_discovery.http_filter.x")
    stage.plane.set("extension", [extension("x", stamp("3"))])
    stage.sees((200, "3"))


@pytest.mark.parametrize("default,answer", [(None, (500, None)), (stamp("d"), (200, "d"))], ids=["none", "default"])
def test_a_bad_first_version_does_not_hold_the_listener(stage, default, answer):
    http(stage, discovered("x", HEADER_MUTATION, **({"default_config": default} if default else {})))
    stage.plane.set("extension", [extension("x", {"@type": HTTP_RBAC})])
    stage.start()
    stage.sees(answer)
    assert "NFCF" in stage.log.wait(1)[0] if not default else True
    stage.plane.set("extension", [extension("x", stamp("2"))])
    stage.sees((200, "2"))


@pytest.mark.parametrize("default,answer", [(None, (500, None)), (stamp("d"), (200, "d"))], ids=["none", "default"])
def test_one_that_does_not_come_in_time(stage, default, answer):
    http(stage, discovered("x", HEADER_MUTATION, timeout="0.2s", **({"default_config": default} if default else {})))
    stage.start()
    stage.sees(answer)
    stage.sees_stats({".init_fetch_timeout": 1, ".config_fail": 1}, "extension_config_discovery.http_filter.x")
    stage.plane.set("extension", [extension("x", stamp("late"))])
    stage.sees((200, "late"))


def test_the_default_serves_at_once_when_told_so(stage):
    http(stage, discovered("x", HEADER_MUTATION, default_config=stamp("d"), apply_default_config_without_warming=True))
    stage.start()
    stage.sees((200, "d"))
    stage.plane.set("extension", [extension("x", stamp("1"))])
    stage.sees((200, "1"))


@pytest.mark.parametrize("default,answer", [(None, (500, None)), (stamp("d"), (200, "d"))], ids=["none", "default"])
def test_one_that_is_removed(stage, default, answer):
    """State of the world cannot say that one of several named resources is gone: there it serves on."""
    http(stage, discovered("x", HEADER_MUTATION, **({"default_config": default} if default else {})))
    stage.plane.set("extension", [extension("x", stamp("1"))])
    stage.start()
    stage.sees((200, "1"))
    stage.plane.set("extension", [])
    stage.sees(answer if stage.delta else (200, "1"))
    stage.plane.set("extension", [extension("x", stamp("2"))])
    stage.sees((200, "2"))


def test_it_serves_on_without_the_control_plane(stage):
    http(stage, discovered("x", HEADER_MUTATION))
    stage.plane.set("extension", [extension("x", stamp("1"))])
    stage.start()
    stage.plane.stop()
    wait_for(lambda: stage.proxy.stat("control_plane.connected_state") == 0, "the loss of the control plane")
    stage.sees((200, "1"))


def test_one_resource_in_two_places(stage):
    """Two listeners; the second comes later and takes what is known."""
    first = stage.hcm(http_filters=[discovered("x", HEADER_MUTATION), config.router()])
    stage.plane.set("listener", [config.listener("main", [first])])
    stage.plane.set("extension", [extension("x", stamp("1"))])
    stage.start()
    second = config.hcm(stat_prefix="second", http_filters=[discovered("x", HEADER_MUTATION), config.router()])
    stage.plane.set("listener", [config.listener("main", [first]), config.listener("second", [second])])

    def ask():
        return client.get(stage.proxy.port("second")).header("x-stamp")
    wait_for(lambda: ask() == "1", "the second listener")
    stage.plane.set("extension", [extension("x", stamp("2"))])
    stage.sees((200, "2"))
    wait_for(lambda: ask() == "2", "the second listener's new version")


def test_the_router_may_be_discovered(stage):
    stage.listener([stage.hcm(http_filters=[discovered("r", config.ROUTER)])])
    stage.plane.set("extension", [extension("r", {"@type": config.ROUTER})])
    stage.start()
    stage.sees((200, None))


def test_a_route_may_switch_it_off(stage):
    routes = [{"match": {"prefix": "/off"}, "route": {"cluster": "a"},
               "typed_per_filter_config": {"x": {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}}},
              config.route()]
    http(stage, discovered("x", HEADER_MUTATION), route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]})
    stage.plane.set("extension", [extension("x", stamp("1"))])
    stage.start()
    stage.sees((200, "1"))
    stage.sees((200, None), path="/off")


def test_a_network_filter(stage):
    stage.listener([discovered("n", NETWORK_RBAC), stage.hcm()])
    stage.plane.set("extension", [extension("n", ALLOW)])
    stage.start()
    stage.sees((200, None))
    with client.Client(stage.proxy.port()) as kept:
        assert kept.request().status == 200
        stage.plane.set("extension", [extension("n", DENY)])
        stage.sees("closed")
        assert kept.request().status == 200  # a connection keeps its filters
    stage.plane.set("extension", [extension("n", ALLOW)])
    stage.sees((200, None))
    stage.sees_stats({".config_reload": 3}, "extension_config_discovery.network_filter.n")


def test_a_missing_network_filter_closes_the_connection(stage):
    stage.listener([discovered("n", NETWORK_RBAC, timeout="0.2s"), stage.hcm()])
    stage.start()
    stage.proxy.port()
    assert stage.ask() == "closed"
    stage.sees_stats({"127.0.0.1_0.network_extension_config_missing": 1, "127.0.0.1_0.downstream_cx_total": 1}, r"listener\.127")
    stage.plane.set("extension", [extension("n", ALLOW)])
    stage.sees((200, None))


def test_the_connection_manager_may_be_discovered(stage):
    stage.listener([discovered("hcm", config.HCM)])
    stage.plane.set("extension", [extension("hcm", stage.hcm(server_name="one")["typed_config"])])
    stage.start()
    stage.sees((200, "one"), header="server")
    stage.plane.set("extension", [extension("hcm", stage.hcm(server_name="two")["typed_config"])])
    stage.sees((200, "two"), header="server")


def test_a_listener_filter(stage):
    stage.listener(listener_filters=[discovered("t", TLS_INSPECTOR)])
    stage.plane.set("extension", [extension("t", {"@type": TLS_INSPECTOR})])
    stage.start()
    stage.sees((200, None))
    stage.sees_stats({".config_reload": 1}, "extension_config_discovery.tcp_listener_filter.t")


def test_a_missing_listener_filter_closes_the_connection(stage):
    stage.listener(listener_filters=[discovered("t", TLS_INSPECTOR, timeout="0.2s")])
    stage.start()
    stage.proxy.port()
    assert stage.ask() == "closed"
    stage.sees_stats({"127.0.0.1_0.extension_config_missing": 1}, r"listener\.127")
    stage.plane.set("extension", [extension("t", {"@type": TLS_INSPECTOR})])
    stage.sees((200, None))


def test_from_a_file(stage):
    path = os.path.join(stage.directory, "ecds.json")
    write_file(path, EXTENSION, "1", [extension("x", stamp("1"))])
    http(stage, discovered("x", HEADER_MUTATION, source={"path_config_source": {"path": path}, "resource_api_version": "V3"}))
    stage.start()
    stage.sees((200, "1"))
    write_file(path, EXTENSION, "2", [extension("x", stamp("2"))])
    stage.sees((200, "2"))


def test_config_dump(stage):
    stage.listener([discovered("n", NETWORK_RBAC), stage.hcm(http_filters=[discovered("x", HEADER_MUTATION), config.router()])],
                   listener_filters=[discovered("t", TLS_INSPECTOR)])
    stage.plane.set("extension", [extension("x", stamp("1")), extension("n", ALLOW), extension("t", {"@type": TLS_INSPECTOR})])
    stage.start()

    def entry(name, typed_config):
        return {"version_info": "1", "ecds_filter": {"@type": EXTENSION, "name": name, "typed_config": typed_config}}
    sections = [section["ecds_filters"] for section in stage.dump("EcdsConfigDump")]
    assert sections == [[entry("x", stamp("1"))], [entry("n", ALLOW)], [entry("t", {"@type": TLS_INSPECTOR})]]
    only = stage.dump("EcdsConfigDump", name_regex="x")
    assert [section.get("ecds_filters", []) for section in only if section.get("ecds_filters")] == [[entry("x", stamp("1"))]]
    found = stage.proxy.admin_json("/config_dump?resource=ecds_filters&mask=version_info")["configs"]
    assert [{k: v for k, v in one.items() if k != "@type"} for one in found] == [{"version_info": "1"}]


def test_over_a_stream_of_its_own(stage):
    http(stage, discovered("x", HEADER_MUTATION, source=separate(stage.delta)))
    stage.plane.set("extension", [extension("x", stamp("1"))])
    stage.start()
    stage.sees((200, "1"))
    stage.plane.set("extension", [extension("x", stamp("2"))])
    stage.sees((200, "2"))

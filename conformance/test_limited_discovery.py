"""rate_limit_settings of a control plane: requests wait for tokens, and nothing is lost. Both proxies, both variants."""
import pytest

from discovery import Stage
from harness import config
from harness.controlplane import ADS
from harness.wait import wait_for


@pytest.fixture(params=["envoy-sotw", "envoy-delta", "skiff-sotw", "skiff-delta"])
def stage(request, envoy_binary, skiff_binary, concurrency):
    who, how = request.param.split("-")
    made = Stage(envoy_binary if who == "envoy" else skiff_binary, how == "delta", concurrency)
    yield made
    made.stop()


def start(stage, **limits):
    names = [f"c{n}" for n in range(8)]
    stage.plane.set("cluster", [{"name": n, "type": "EDS", "connect_timeout": "5s", "eds_cluster_config": {"eds_config": ADS}} for n in names])
    stage.plane.set("endpoint", [config.assignment(n, [stage.up.port]) for n in names])
    stage.plane.set("listener", [config.listener("main", [stage.hcm(routes=[config.route(cluster="c7")])])])
    api = {"api_type": "DELTA_GRPC" if stage.delta else "GRPC", "transport_api_version": "V3",
           "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}], **limits}
    stage.start(dynamic_resources={"ads_config": api, "lds_config": ADS, "cds_config": ADS})
    for version in range(5):
        stage.plane.set("endpoint", [config.assignment(n, [stage.up.port] if n != "c0" else [stage.up.port + 1 + version]) for n in names])
        stage.plane.wait_ack("endpoint")


def enforced(stage):
    return stage.proxy.stat("control_plane.rate_limit_enforced")


@pytest.mark.parametrize("limits", [{"max_tokens": 1, "fill_rate": 20}, {"max_tokens": 2, "fill_rate": 8.5}])
def test_requests_wait_for_tokens(stage, limits):
    start(stage, rate_limit_settings=limits)
    wait_for(lambda: enforced(stage) > 0, "a request that waited")
    stage.sees((200, None))


@pytest.mark.parametrize("limits", [{}, {"rate_limit_settings": {}}])
def test_no_limit_and_the_default_one(stage, limits):
    """The default is a hundred tokens."""
    start(stage, **limits)
    assert enforced(stage) == 0

"""Services that extensions call by their address (google_grpc), while the control plane changes who names them."""
import pytest
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2  # noqa: F401 the control plane packs it
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2  # noqa: F401
from envoy.service.auth.v3 import external_auth_pb2 as auth

from harness import config
from harness.client import Client
from harness.controlplane import ads_bootstrap
from harness.grpc_server import GrpcServer
from harness.wait import wait_for

pytestmark = pytest.mark.threads
METHOD = "/envoy.service.auth.v3.Authorization/Check"
AUTHZ = config.TYPE + "extensions.filters.http.ext_authz.v3.ExtAuthz"


def listener(name, peer):
    service = {"google_grpc": {"target_uri": f"127.0.0.1:{peer.port}", "stat_prefix": "authz"}, "timeout": "20s"}
    authz = {"name": "authz", "typed_config": {"@type": AUTHZ, "grpc_service": service, "transport_api_version": "V3"}}
    reply = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    return config.listener(name, [config.hcm([reply], stat_prefix=name, http_filters=[authz, config.router()])])


def peers(proxy):
    """The clusters that were made for peers."""
    text = proxy.admin("/clusters").text
    return {line.split("::")[0] for line in text.splitlines() if line.startswith("google_grpc.")}


def test_a_peer_lives_as_long_as_a_listener_names_it(control_plane, skiff):
    yes, no = (GrpcServer({METHOD: ("unary_unary", lambda request, context, code=code: auth.CheckResponse(
        status={"code": code}).SerializeToString())}) for code in (0, 7))
    plane = control_plane()
    plane.set("cluster", [])
    plane.set("listener", [listener("main", yes)])
    proxy = skiff(ads_bootstrap(plane.port), args=["--drain-time-s", "1"])

    def status(name="main"):
        with Client(proxy.port(name)) as client:
            return client.request().status
    assert status() == 200
    plane.set("cluster", [config.cluster("a", [])])  # a list of clusters without it changes nothing
    plane.wait_ack("cluster")
    for round in range(3):
        plane.set("listener", [listener("main", no), listener("other", yes)])
        plane.wait_ack("listener")
        wait_for(lambda: status() == 403, "the other peer")
        assert status("other") == 200
        assert len(peers(proxy)) == 2
        plane.set("listener", [listener("main", yes)])
        plane.wait_ack("listener")
        wait_for(lambda: status() == 200, "the first peer")
        wait_for(lambda: len(peers(proxy)) == 1, "the other peer's cluster to go")
        proxy.forget_ports()
    plane.set("listener", [])
    plane.wait_ack("listener")
    wait_for(lambda: not peers(proxy), "the last cluster to go")
    for peer in (yes, no):
        peer.stop()

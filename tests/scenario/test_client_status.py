"""The client status API (CSDS) on the admin address: POST /v3/discovery:client_status."""
import json

import pytest
from google.protobuf import json_format

from envoy.service.status.v3 import csds_pb2
from harness import client, config
from harness.controlplane import ADS, URL, ControlPlane, ads_bootstrap
from harness.pki import Pki
from harness.wait import wait_for


@pytest.fixture
def plane():
    made = ControlPlane()
    yield made
    made.stop()


def ask(proxy, question=None):
    answer = proxy.admin("/v3/discovery:client_status", method="POST", body=json.dumps(question or {}).encode())
    assert answer.status == 200, answer
    return json_format.Parse(answer.text, csds_pb2.ClientStatusResponse())


def items(proxy, **question):
    """{(kind, name): item} of the one client."""
    (one,) = ask(proxy, question).config
    kinds = {url: kind for kind, url in URL.items()}
    return {(kinds[i.type_url], i.name): i for i in one.generic_xds_configs}


def state(item):
    return csds_pb2.ConfigStatus.Name(item.config_status), type(item).DESCRIPTOR.fields_by_name["client_status"].enum_type.values_by_number[item.client_status].name


def eds(name):
    return {"name": name, "type": "EDS", "connect_timeout": "5s", "eds_cluster_config": {"eds_config": {**ADS, "initial_fetch_timeout": "0.5s"}}}


def test_every_state(skiff, upstream, plane):
    a = upstream("a")
    plane.set("cluster", [eds("a"), eds("late")])
    plane.set("endpoint", [config.assignment("a", [a.port])])
    plane.set("listener", [config.listener("main", [config.hcm(rds={"route_config_name": "web", "config_source": {**ADS, "initial_fetch_timeout": "0s"}})])])
    proxy = skiff(ads_bootstrap(plane.port), wait=False)
    wait_for(lambda: ("route", "web") in items(proxy), "the question for the routes")
    found = items(proxy)
    assert state(found["route", "web"]) == ("NOT_SENT", "REQUESTED")
    plane.set("route", [{"name": "web", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [config.route()]}]}], version="r1")
    assert client.get(proxy.port()).text == "a"
    plane.set("route", [{"name": "web", "virtual_hosts": [{"name": "v", "domains": []}]}], version="r2")
    text = plane.wait_nack("route", "r2")
    found = items(proxy)
    for key in (("cluster", "a"), ("endpoint", "a"), ("listener", "main")):
        assert state(found[key]) == ("SYNCED", "ACKED") and not found[key].HasField("error_state")
    assert found["cluster", "a"].version_info == plane.version("cluster") and found["cluster", "a"].last_updated.seconds > 0
    assert state(found["endpoint", "late"]) == ("NOT_SENT", "TIMEOUT")
    broken = found["route", "web"]
    assert state(broken) == ("ERROR", "NACKED") and broken.version_info == "r1"
    assert broken.error_state.version_info == "r2" and broken.error_state.details in text
    assert broken.xds_config.type_url == URL["route"] and broken.error_state.failed_configuration.type_url == URL["route"]
    assert found["cluster", "xds"].is_static_resource and found["cluster", "xds"].xds_config.value
    bare = items(proxy, exclude_resource_contents=True)
    assert bare.keys() == found.keys() and not any(i.HasField("xds_config") for i in bare.values())


def test_what_delta_says_is_not_there(skiff, plane):
    plane.set("cluster", [])
    plane.set("endpoint", [])
    body = ads_bootstrap(plane.port, delta=True)
    plane.set("cluster", [{**eds("a"), "eds_cluster_config": {"eds_config": {**ADS, "initial_fetch_timeout": "0s"}}}])
    proxy = skiff(body, wait=False)
    wait_for(lambda: state(items(proxy)["endpoint", "a"]) == ("NOT_SENT", "DOES_NOT_EXIST"), "the answer that it is not there")


@pytest.mark.parametrize("matchers, found", [
    ([], True), ([{"node_id": {"exact": "test-node"}}], True), ([{"node_id": {"prefix": "other"}}], False),
    ([{"node_id": {"prefix": "other"}}, {"node_id": {"suffix": "node"}}], True),
    ([{"node_metadatas": [{"path": [{"key": "colour"}], "value": {"string_match": {"exact": "blue"}}}]}], True),
    ([{"node_metadatas": [{"path": [{"key": "colour"}], "value": {"string_match": {"exact": "red"}}}]}], False),
    ([{"node_id": {"exact": "test-node"}, "node_metadatas": [{"path": [{"key": "no"}], "value": {"present_match": True}}]}], False)])
def test_whom_it_means(skiff, plane, matchers, found):
    plane.set("cluster", [])
    plane.set("listener", [])
    proxy = skiff(ads_bootstrap(plane.port))
    answer = ask(proxy, {"node_matchers": matchers})
    assert len(answer.config) == found and (not found or answer.config[0].node.id == "test-node")


@pytest.mark.parametrize("body, text", [
    (b"nonsense", "JSON"), (b'{"node_matchers": [{"node_id": {"safe_regex": {"regex": "("}}}]}', "node_matchers[0]"),
    (b'{"node_matchers": [{"node_metadatas": [{}]}]}', "node_matchers[0].node_metadatas[0]")])
def test_wrong_questions(skiff, body, text):
    proxy = skiff(config.bootstrap([], []))
    answer = proxy.admin("/v3/discovery:client_status", method="POST", body=body)
    assert answer.status == 400 and text in answer.text, answer
    assert proxy.admin("/v3/discovery:client_status").status == 405


def test_secrets_are_hidden(skiff, tmp_path):
    leaf = Pki(tmp_path).issue("one", "DNS:one.example")
    body = config.bootstrap([], [])
    body["static_resources"]["secrets"] = [{"name": "s", "tls_certificate": leaf.inline()}]
    answer = skiff(body).admin("/v3/discovery:client_status", method="POST", body=b"{}")
    assert "[redacted]" in answer.text and "PRIVATE KEY" not in answer.text

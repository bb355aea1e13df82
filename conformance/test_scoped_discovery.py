"""Scoped routes: a key from the request's headers chooses the route table. On the real Envoy and on Skiff, inline and SRDS."""
import os
import threading

import pytest

from discovery import ON_DEMAND, Stage, write_file
from harness import client, config
from harness.controlplane import ADS, separate
from harness.wait import wait_for

SCOPE = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration"
ELEMENT = {"name": "x-scope", "element_separator": ";", "element": {"separator": "=", "key": "k"}}
INDEX = {"name": "x-two", "element_separator": ",", "index": 1}
WHOLE = {"name": "x-scope", "index": 0}


@pytest.fixture(params=["envoy-sotw", "envoy-delta", "skiff-sotw", "skiff-delta"])
def stage(request, envoy_binary, skiff_binary, concurrency):
    who, how = request.param.split("-")
    made = Stage(envoy_binary if who == "envoy" else skiff_binary, how == "delta", concurrency)
    yield made
    made.stop()


def table(name):
    return {"name": name, "virtual_hosts": [{"name": name, "domains": ["*"], "response_headers_to_add": [
        {"header": {"key": "x-stamp", "value": name}}], "routes": [{"name": name, **config.route()}]}]}


def scope(name, routes, *keys, **over):
    where = {"route_configuration_name": routes} if isinstance(routes, str) else {"route_configuration": routes}
    return {"name": name, "key": {"fragments": [{"string_key": key} for key in keys]}, **where, **over}


def hcm(stage, *extractors, on_demand=False, **scoped):
    filters = [{"name": "envoy.filters.http.on_demand", "typed_config": {"@type": ON_DEMAND}}] if on_demand else []
    out = stage.hcm(rds={}, http_filters=[*filters, config.router()])
    del out["typed_config"]["rds"]
    out["typed_config"]["scoped_routes"] = {
        "name": "scopes", "rds_config_source": ADS, **scoped,
        "scope_key_builder": {"fragments": [{"header_value_extractor": one} for one in (extractors or [WHOLE])]}}
    return out


SRDS = {"scoped_rds": {"scoped_rds_config_source": ADS}}


def begin(stage, *scopes, tables=("t1", "t2"), **over):
    stage.listener([hcm(stage, **SRDS, **over)])
    stage.plane.set("scoped_route", list(scopes))
    stage.plane.set("route", [table(name) for name in tables])
    return stage.start()


def headers(scope_header=None, two=None):
    return [(name, value) for name, value in (("x-scope", scope_header), ("x-two", two)) if value is not None]


KEYS = [
    ("k=a", "x,b", "t1"), ("j=1;k=c;z", "x,d,e", "t2"), ("k=a", "x", None), ("k=a", None, None), (None, "x,b", None), (None, None, None),
    ("k=", "x,b", None), ("k", "x,b", None), ("k=a=b", "x,b", None), ("k=a", "x, b", None), ("k=a;k=c", "x,b", "t1"), ("K=a", "x,b", None),
    ("k=zz", "x,b", None), (";;k=a", ",b", "t1"), ("kk=a;k=a", "b,b,b", "t1"),
]


@pytest.mark.parametrize("way", ["inline", "srds"])
def test_the_key_of_a_request(stage, way):
    if way == "inline":
        scopes = [scope("s1", table("t1"), "a", "b"), scope("s2", table("t2"), "c", "d")]
        stage.listener([hcm(stage, ELEMENT, INDEX, scoped_route_configurations_list={"scoped_route_configurations": scopes})])
    else:
        stage.listener([hcm(stage, ELEMENT, INDEX, **SRDS)])
        stage.plane.set("scoped_route", [scope("s1", "t1", "a", "b"), scope("s2", "t2", "c", "d")])
        stage.plane.set("route", [table("t1"), table("t2")])
    stage.start()
    for one, two, wanted in KEYS:
        expected = (200, wanted) if wanted else (404, None)
        assert stage.ask(headers=headers(one, two)) == expected, (one, two)


def test_only_the_first_value_of_a_header_counts(stage):
    begin(stage, scope("s1", "t1", "a"), scope("s2", "t2", "b"))
    assert stage.ask(headers=[("x-scope", "a"), ("x-scope", "b")]) == (200, "t1")


def test_the_listener_waits_for_scopes_and_their_tables(stage):
    stage.listener([hcm(stage, **SRDS)])
    stage.start(wait=False)
    stage.plane.wait_subscribed("scoped_route")
    assert stage.proxy.admin("/ready").status == 503
    stage.plane.set("scoped_route", [scope("s1", "t1", "a")])
    stage.plane.wait_subscribed("route", ["t1"])
    assert stage.proxy.admin("/ready").status == 503
    stage.plane.set("route", [table("t1")])
    stage.proxy.wait_ready()
    stage.sees((200, "t1"), headers=headers("a"))


def test_scopes_come_change_and_go(stage):
    begin(stage, scope("s1", "t1", "a"))
    with client.Client(stage.proxy.port()) as kept:
        assert kept.request(headers=headers("a")).header("x-stamp") == "t1"
        stage.plane.set("scoped_route", [scope("s1", "t2", "a"), scope("s2", "t1", "b")])
        wait_for(lambda: kept.request(headers=headers("a")).header("x-stamp") == "t2", "the other table")
        wait_for(lambda: kept.request(headers=headers("b")).header("x-stamp") == "t1", "the new scope")
        stage.plane.set("scoped_route", [scope("s2", "t1", "b")])
        wait_for(lambda: kept.request(headers=headers("a")).status == 404, "the scope to go")
        assert kept.request(headers=headers("b")).header("x-stamp") == "t1"
    assert stage.proxy.stat("listener_manager.listener_modified") == 0


def test_a_table_changes(stage):
    begin(stage, scope("s1", "t1", "a"))
    changed = table("t1")
    changed["virtual_hosts"][0]["response_headers_to_add"][0]["header"]["value"] = "new"
    stage.plane.set("route", [changed])
    stage.sees((200, "new"), headers=headers("a"))


def test_a_scope_may_have_its_table_inside(stage):
    begin(stage, scope("s1", table("inside"), "a"), scope("s2", "t1", "b"))
    stage.sees((200, "inside"), headers=headers("a"))
    stage.plane.set("scoped_route", [scope("s1", table("other"), "a"), scope("s2", table("more"), "b")])
    stage.sees((200, "other"), headers=headers("a"))
    stage.sees((200, "more"), headers=headers("b"))


def test_two_scopes_with_one_key_are_refused(stage):
    begin(stage, scope("s1", "t1", "a"), scope("s2", "t2", "b"))
    stage.plane.set("scoped_route", [scope("s1", "t1", "a"), scope("s3", "t2", "a")])
    text = stage.plane.wait_nack("scoped_route")
    assert "scope key conflict found, first scope is 's1', second scope is 's3'" in text
    assert stage.ask(headers=headers("a")) == (200, "t1")
    stage.plane.set("scoped_route", [scope("s4", "t2", "a")])
    stage.sees((200, "t2"), headers=headers("a"))
    if not stage.delta:  # Envoy's delta has forgotten the removal that came with the refused scope
        stage.sees((404, None), headers=headers("b"))


@pytest.mark.parametrize("bad,text", [
    ({"name": "b", "key": {"fragments": [{"string_key": "x"}]}}, "route_configuration_name is empty."),
    ({"name": "b", "route_configuration_name": "t1"}, "value is required"),
    (scope("b", {"name": "n", "virtual_hosts": [{"name": "v", "domains": ["*", "*"]}]}, "x"), "Only a single wildcard domain is permitted in route n"),
], ids=["table", "key", "inside"])
def test_a_bad_scope_is_refused(stage, bad, text):
    begin(stage, scope("s1", "t1", "a"))
    stage.plane.set("scoped_route", [scope("s1", "t1", "a"), bad])
    assert text in stage.plane.wait_nack("scoped_route")
    assert stage.ask(headers=headers("a")) == (200, "t1")


def test_a_table_on_demand(stage):
    stage.plane.answer_unknown = False
    begin(stage, scope("s1", "t1", "a"), scope("s2", "t2", "b", on_demand=True), tables=["t1"], on_demand=True)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(stage.ask(headers=headers("b"))), daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    stage.plane.wait_subscribed_name("route", "t2")
    assert not answers
    stage.plane.set("route", [table("t1"), table("t2")])
    for thread in threads:
        thread.join(60)
    assert answers == [(200, "t2")] * 4
    assert stage.ask(headers=headers("nobody")) == (404, None)


def test_a_table_on_demand_without_the_filter(stage):
    begin(stage, scope("s1", "t1", "a"), scope("s2", "t2", "b", on_demand=True), tables=["t1"])
    assert stage.ask(headers=headers("b")) == (404, None)


def test_it_serves_on_without_the_control_plane(stage):
    begin(stage, scope("s1", "t1", "a"))
    stage.plane.stop()
    wait_for(lambda: stage.proxy.stat("control_plane.connected_state") == 0, "the loss of the control plane")
    assert stage.ask(headers=headers("a")) == (200, "t1")


def test_from_a_file(stage):
    path = os.path.join(stage.directory, "srds.json")
    source = {"path_config_source": {"path": path}, "resource_api_version": "V3"}
    write_file(path, SCOPE, "1", [scope("s1", table("one"), "a")])
    stage.listener([hcm(stage, scoped_rds={"scoped_rds_config_source": source})])
    stage.start()
    stage.sees((200, "one"), headers=headers("a"))
    write_file(path, SCOPE, "2", [scope("s1", table("two"), "a")])
    stage.sees((200, "two"), headers=headers("a"))


def test_statistics(stage):
    begin(stage, scope("s1", "t1", "a"), scope("s2", "t2", "b", on_demand=True), scope("s3", table("x"), "c"))
    stage.sees_stats({"scopes.all_scopes": 3, "scopes.active_scopes": 1, "scopes.on_demand_scopes": 1, "scopes.config_reload": 1,
                      "scopes.update_success": 1, "scopes.update_rejected": 0, "scopes.update_empty": 0, "scopes.init_fetch_timeout": 0},
                     r"http\.main\.scoped_rds")
    stage.sees_stats({"rds.t1.update_success": 1, "rds.t1.config_reload": 1}, r"http\.main\.rds")


def test_config_dump(stage):
    scopes = [scope("s1", "t1", "a"), scope("s2", "t2", "b")]
    begin(stage, *scopes)
    expected = [{"name": "scopes", "version_info": "1", "scoped_route_configs": [{"@type": SCOPE, **one} for one in scopes]}]
    [section] = stage.dump("ScopedRoutesConfigDump")
    assert section["dynamic_scoped_route_configs"] == expected
    [section] = stage.dump("ScopedRoutesConfigDump", name_regex="nothing")
    assert section["dynamic_scoped_route_configs"] == [{"name": "scopes", "version_info": "1"}]
    found = stage.proxy.admin_json("/config_dump?resource=dynamic_scoped_route_configs&mask=name,version_info")["configs"]
    assert [{k: v for k, v in one.items() if k != "@type"} for one in found] == [{"name": "scopes", "version_info": "1"}]


def test_config_dump_of_inline_scopes(stage):
    scopes = [scope("s1", table("t1"), "a"), scope("s2", table("t2"), "b")]
    stage.listener([hcm(stage, scoped_route_configurations_list={"scoped_route_configurations": scopes})])
    stage.start()
    [section] = stage.dump("ScopedRoutesConfigDump")
    assert section["inline_scoped_route_configs"] == [
        {"name": "scopes", "scoped_route_configs": [{"@type": SCOPE, **one} for one in scopes]}]


def test_over_a_stream_of_its_own(stage):
    source = separate(stage.delta)
    stage.listener([hcm(stage, scoped_rds={"scoped_rds_config_source": source}, rds_config_source=source)])
    stage.plane.set("scoped_route", [scope("s1", "t1", "a")])
    stage.plane.set("route", [table("t1"), table("t2")])
    stage.start()
    stage.sees((200, "t1"), headers=headers("a"))
    stage.plane.set("scoped_route", [scope("s1", "t2", "a")])
    stage.sees((200, "t2"), headers=headers("a"))

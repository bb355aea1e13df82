"""envoy.filters.http.ext_authz on Skiff and on the real Envoy: what the service is asked, what becomes of the request and the answer, log, statistics."""
import json
import os

import grpc
import pytest
from envoy.config.core.v3 import base_pb2 as core
from envoy.service.auth.v3 import external_auth_pb2 as auth
from google.protobuf import text_format

from harness import client, config
from harness.grpc_server import GrpcServer
from harness.proxy import Proxy
from harness.upstream import Upstream, closed_port
from harness.wait import wait_for

AUTHZ = config.TYPE + "extensions.filters.http.ext_authz.v3."
NAME = "envoy.filters.http.ext_authz"
METHOD = "/envoy.service.auth.v3.Authorization/Check"
HTTP2 = {"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
    "@type": config.TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}}}
LOG = {"code": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%", "details": "%RESPONSE_CODE_DETAILS%", "route": "%ROUTE_NAME%", "sent": "%BYTES_SENT%",
       "metadata": "%DYNAMIC_METADATA(envoy.filters.http.ext_authz)%", "cluster": "%UPSTREAM_CLUSTER%"}


def option(key, value, append=None, action=None):
    out = core.HeaderValueOption(header=core.HeaderValue(key=key, value=value))
    if append is not None:
        out.append.value = append
    if action:
        out.append_action = core.HeaderValueOption.HeaderAppendAction.Value(action)
    return out


def every_way(prefix):
    """Headers that exist (x-have) and that do not, set in every way."""
    out = []
    for at, (append, action) in enumerate([(None, None), (True, None), (False, None), (None, "ADD_IF_ABSENT"), (None, "OVERWRITE_IF_EXISTS"),
                                           (None, "OVERWRITE_IF_EXISTS_OR_ADD"), (None, "APPEND_IF_EXISTS_OR_ADD")]):
        out += [option(f"{prefix}-have-{at}", "new", append, action), option(f"{prefix}-new-{at}", "new", append, action)]
    return out


def answer(code=None, metadata=None, **more):
    out = auth.CheckResponse(**more)
    if code is not None:
        out.status.code = code
    if metadata:
        out.dynamic_metadata.update(metadata)
    return out.SerializeToString()


def ok(**more):
    return answer(0, ok_response=auth.OkHttpResponse(**more))


def denied(status=0, **more):
    out = auth.DeniedHttpResponse(**more)
    if status:
        out.status.code = status
    return answer(7, denied_response=out)


def fail(code):
    def run(context):
        context.abort(code, "as asked")
    return run


OPEN = {"failure_mode_allow": True}
BODY = {"with_request_body": {"max_request_bytes": 20}}
PARTIAL = {"with_request_body": {"max_request_bytes": 20, "allow_partial_message": True}}
BYTES = {"with_request_body": {"max_request_bytes": 20, "allow_partial_message": True, "pack_as_bytes": True}}
HAVE = [(f"x-have-{i}", "old") for i in range(7)]
# name: (what the service answers, fields of the filter, the request: method, path, headers, body; more: cluster, per route)
CASES = {
    "ok": (answer(), {}),
    "ok_response": (ok(), {}),
    "headers": (ok(headers=every_way("x")), {}, {"headers": HAVE}),
    "remove": (ok(headers_to_remove=["x-have-1", "X-Have-2", "host", ":path", "missing"]), {}, {"headers": HAVE}),
    "response_headers": (ok(response_headers_to_add=every_way("y")), {}),
    "query": (ok(query_parameters_to_set=[core.QueryParameter(key="b", value="9"), core.QueryParameter(key="n", value="1")],
                 query_parameters_to_remove=["a", "zz"]), {}, {"path": "/x?a=1&b=2&c=3&a=4"}),
    "query_new": (ok(query_parameters_to_set=[core.QueryParameter(key="n", value="1")]), {}, {"path": "/x"}),
    "metadata": (answer(0, {"user": "me", "n": 1}), {}),
    "metadata_ignored": (answer(0, {"user": "me"}), {"enable_dynamic_metadata_ingestion": False}),
    "denied": (answer(7), {}),
    "denied_metadata": (answer(7, {"why": "so"}), {}),
    "denied_status": (denied(401, body="who are you?", headers=[option("www-authenticate", "Basic"), option("x-a", "1"), option("x-a", "2", True)]), {}),
    "denied_redirect": (denied(302, headers=[option("location", "https://login/")]), {}),
    "denied_uncharged": (denied(418), {"charge_cluster_response_stats": False}),
    "error": (fail(grpc.StatusCode.INTERNAL), {}),
    "error_status": (fail(grpc.StatusCode.UNAVAILABLE), {"status_on_error": {"code": "ServiceUnavailable"}}),
    "error_open": (fail(grpc.StatusCode.UNAVAILABLE), OPEN),
    "error_open_told": (fail(grpc.StatusCode.UNAVAILABLE), {**OPEN, "failure_mode_allow_header_add": True}),
    "denied_though_open": (denied(403), OPEN),
    "garbage": (b"\xff\xff", {}),
    "no_cluster": (answer(), {}, {}, "nobody"),
    "dead": (answer(), {}, {}, "dead"),
    "dead_open": (answer(), OPEN, {}, "dead"),
    "late": (answer(), {"timeout": "0.1s"}, {}, "silent"),
    "body": (answer(), BODY, {"method": "POST", "body": b"twelve bytes"}),
    "body_full": (answer(), BODY, {"method": "POST", "body": b"x" * 20}),
    "body_too_large": (answer(), BODY, {"method": "POST", "body": b"x" * 21}),
    "body_partial": (answer(), PARTIAL, {"method": "POST", "body": b"abcdefghijklmnopqrstuvwxyz"}),
    "body_partial_all": (answer(), PARTIAL, {"method": "POST", "body": b"abc"}),
    "body_bytes": (answer(), BYTES, {"method": "POST", "body": b"\xff\x00raw"}),
    "body_none": (answer(), BODY, {"method": "GET"}),
    "body_denied": (denied(403), PARTIAL, {"method": "POST", "body": b"abc"}),
    "allowed": (answer(), {"allowed_headers": {"patterns": [{"prefix": "x-have-1"}, {"exact": "x-have-3", "ignore_case": True}]}}, {"headers": HAVE}),
    "disallowed": (answer(), {"disallowed_headers": {"patterns": [{"prefix": "x-have"}]}}, {"headers": HAVE}),
    "doubled": (answer(), {}, {"headers": [("x-d", "1"), ("X-D", "2"), ("cookie", "a=b"), ("cookie", "c=d")]}),
    "named": (denied(403), {"stat_prefix": "named"}),
    "disabled_fraction": (denied(403), {"filter_enabled": {"default_value": {"numerator": 0}}}),
    "deny_at_disable": (answer(), {"filter_enabled": {"default_value": {"numerator": 0}},
                                   "deny_at_disable": {"default_value": True, "runtime_key": "k"}}),
    "route_disabled": (denied(403), {}, {}, "authz", {"disabled": True}),
    "route_context": (answer(), {}, {}, "authz", {"check_settings": {"context_extensions": {"a": "1", "b": "2"}}}),
    "route_no_body": (answer(), BODY, {"method": "POST", "body": b"x" * 30}, "authz", {"check_settings": {"disable_request_body_buffering": True}}),
    "route_body": (answer(), {}, {"method": "POST", "body": b"abc"}, "authz", {"check_settings": {"with_request_body": {"max_request_bytes": 10}}}),
    "grpc_denied": (denied(403, body="no"), {}, {"method": "POST", "headers": [("content-type", "application/grpc")]}),
    "route_metadata": (answer(), {"route_metadata_context_namespaces": ["r"], "metadata_context_namespaces": ["r"]}),
    "clear_route": (ok(headers=[option("x-go", "there")]), {"clear_route_cache": True}),
    "keep_route": (ok(headers=[option("x-go", "there")]), {}),
}

# An HTTP service: name: (its answer as harness/upstream.py plays it, fields of HttpService, fields of the filter, the request)
PLAIN = {
    "http_ok": ({"headers": {"x-up": "1", "x-other": "2"}}, {}),
    "http_denied": ({"status": 401, "headers": {"www-authenticate": "Basic", "x-other": "2"}, "body": "who?"}, {}),
    "http_redirect": ({"status": 302, "headers": {"location": "https://login/"}, "body": ""}, {}),
    "http_error": ({"status": 503, "body": "later"}, {}),
    "http_error_open": ({"status": 500}, {}, OPEN),
    "http_cut": ({"close": True}, {}),
    "http_too_large": ({"status": 403, "body": "n" * 3000}, {}),
    "http_upstream": ({"headers": {"x-have-1": "new", "x-have-2": "more", "x-new": "n", "x-no": "0"}}, {"authorization_response": {
        "allowed_upstream_headers": {"patterns": [{"exact": "x-have-1"}, {"exact": "x-new"}]},
        "allowed_upstream_headers_to_append": {"patterns": [{"exact": "x-have-2"}]}}}, {}, {"headers": HAVE}),
    "http_client_ok": ({"headers": {"x-c": "1", "x-no": "0"}}, {"authorization_response": {
        "allowed_client_headers_on_success": {"patterns": [{"exact": "x-c"}]}}}),
    "http_client": ({"status": 403, "headers": {"x-c": "1", "x-no": "0", "www-authenticate": "Basic"}}, {"authorization_response": {
        "allowed_client_headers": {"patterns": [{"exact": "x-c"}]}}}),
    "http_remove": ({"headers": {"x-envoy-auth-headers-to-remove": "x-have-1, x-have-2,missing"}}, {}, {}, {"headers": HAVE}),
    "http_prefix": ({}, {"path_prefix": "/check"}, {}, {"path": "/a?b=c"}),
    "http_add": ({}, {"authorization_request": {"headers_to_add": [{"key": "x-added", "value": "%REQ(x-have-1)%"}]}}, {}, {"headers": HAVE}),
    "http_allowed": ({}, {}, {"allowed_headers": {"patterns": [{"prefix": "x-have-1"}]}}, {"headers": [*HAVE, ("authorization", "Bearer t"), ("cookie", "a=b")]}),
    "http_body": ({}, {}, BODY, {"method": "POST", "body": b"twelve bytes"}),
    "http_body_partial": ({}, {}, {**PARTIAL, "allowed_headers": {"patterns": [{"exact": "x-envoy-auth-partial-body"}]}}, {"method": "POST", "body": b"x" * 40}),
    "http_metadata": ({"headers": {"x-user": "me", "x-no": "0"}}, {"authorization_response": {
        "dynamic_metadata_from_headers": {"patterns": [{"exact": "x-user"}]}}}),
}


class Side:
    def __init__(self, binary, folder, concurrency):
        self.asked, self.folder = {}, folder
        os.makedirs(folder, exist_ok=True)
        self.service = GrpcServer({METHOD: ("unary_unary", self.check)})
        self.upstream, self.silent = Upstream("a"), Upstream("silent", handler=lambda connection: connection.hang())
        self.sock, dead = closed_port()
        clusters = [config.cluster("a", [self.upstream.port]), config.cluster("authz", [self.service.port], **HTTP2),
                    config.cluster("dead", [dead], **HTTP2), config.cluster("silent", [self.silent.port], **HTTP2)]
        self.plain = Upstream("plain")
        clusters.append(config.cluster("plain", [self.plain.port]))
        listeners = [self.listener(name, *case[1:]) for name, case in CASES.items()]
        listeners += [self.listener(name, case[2] if len(case) > 2 else {}, http={"server_uri": {"uri": "http://authz.test", "cluster": "plain", "timeout": "20s"},
                                                                                **case[1]}) for name, case in PLAIN.items()]
        self.proxy = Proxy(binary, config.bootstrap(listeners, clusters), concurrency=concurrency)

    def listener(self, name, fields, request=None, cluster="authz", per_route=None, http=None):
        del request
        fields = dict(fields)
        service = {"envoy_grpc": {"cluster_name": cluster}, "timeout": fields.pop("timeout", "20s"), "initial_metadata": [{"key": "x-case", "value": name}]}
        service = {"http_service": http} if http else {"grpc_service": service}
        authz = {"name": NAME, "typed_config": {"@type": AUTHZ + "ExtAuthz", "transport_api_version": "V3", **service, **fields}}
        route = {"name": "here", **config.route(), "metadata": {"filter_metadata": {"r": {"k": "v"}}}}
        if per_route:
            route["typed_per_filter_config"] = {NAME: {"@type": AUTHZ + "ExtAuthzPerRoute", **per_route}}
        there = {"name": "there", "match": {"prefix": "/", "headers": [{"name": "x-go", "string_match": {"exact": "there"}}]}, "route": {"cluster": "a"}}
        adds = [{"header": {"key": f"y-have-{i}", "value": "old"}} for i in range(7)]
        host = {"name": "all", "domains": ["*"], "routes": [there, route]}
        upstream_adds = {"name": "adds", "typed_config": {"@type": config.TYPE + "extensions.filters.http.header_mutation.v3.HeaderMutation", "mutations": {
            "response_mutations": [{"append": add} for add in adds]}}}
        return config.listener(name, [config.hcm(vhosts=[host], stat_prefix=name, http_filters=[authz, upstream_adds, config.router()],
                                                 access_log=[config.file_log(f"{self.folder}/{name}.log", LOG)])])

    def check(self, request, context):
        name = dict(context.invocation_metadata())["x-case"]
        self.asked.setdefault(name, []).append(request)
        what = CASES[name][0]
        return what(context) if callable(what) else what

    def stop(self):
        self.proxy.stop()
        for server in (self.service, self.upstream, self.silent, self.plain):
            server.stop()
        self.sock.close()


@pytest.fixture(scope="module")
def sides(skiff_binary, envoy_binary, concurrency, tmp_path_factory):
    folder = tmp_path_factory.mktemp("http_authz")
    made = [Side(binary, str(folder / name), n) for name, binary, n in (("skiff", skiff_binary, concurrency), ("envoy", envoy_binary, 1))]
    yield made
    for side in made:
        side.stop()


def stats(side, name):
    text = side.proxy.admin(f"/stats?filter=^(http.{name}.ext_authz|cluster.a.ext_authz|cluster.a.(external.)?upstream_rq_[0-9c]|cluster.authz.*upstream_rq_[0-9t])").text
    pairs = dict(line.split(": ", 1) for line in text.splitlines())
    return {k: int(v) for k, v in pairs.items() if v.isdigit()}


def plain(request):
    """The question without what differs between two proxies and two runs."""
    message = auth.CheckRequest.FromString(request)
    http = message.attributes.request.http
    message.attributes.request.ClearField("time")
    http.id = "id"
    for key in ("x-request-id",):
        if key in http.headers:
            http.headers[key] = "id"
    for peer in (message.attributes.source, message.attributes.destination):
        peer.address.socket_address.port_value = 1
    return text_format.MessageToString(message)


def seen(side, name):
    if name in PLAIN:
        request = dict(PLAIN[name][3]) if len(PLAIN[name]) > 3 else {}
        side.plain.play(PLAIN[name][0])
    else:
        request = dict(CASES[name][2]) if len(CASES[name]) > 2 else {}
        side.plain.play()
    side.upstream.play()
    before = stats(side, name)
    with client.Client(side.proxy.port(name)) as c:
        got = c.request(request.get("method", "GET"), request.get("path", "/path"), request.get("headers", []), request.get("body"))
    log = f"{side.folder}/{name}.log"
    wait_for(lambda: os.path.exists(log) and open(log, encoding="utf-8").read().endswith("}\n"), "the log")
    with open(log, encoding="utf-8") as file:
        line = json.loads(file.read().splitlines()[-1])
    if line["metadata"] and "ext_authz_duration" in line["metadata"]:
        line["metadata"]["ext_authz_duration"] = "a number"
    after = stats(side, name)
    dropped = {"date", "x-envoy-upstream-service-time", "server"}
    if name == "body_too_large":
        dropped.add("connection")  # whether the body had arrived when it was refused
    told = [sorted((k, v) for k, v in r.headers if k not in ("x-request-id", "x-forwarded-for", "x-envoy-expected-rq-timeout-ms")) for r in side.upstream.requests]
    plainly = [(r.method, r.path, r.body, sorted((k, v) for k, v in r.headers if k not in ("x-request-id", "x-forwarded-for"))) for r in side.plain.requests]
    return {"plainly": plainly, "status": got.status, "body": got.text, "headers": sorted((k, v) for k, v in got.headers if k not in dropped), "log": line,
            "upstream": [(r.method, r.path, r.body) for r in side.upstream.requests], "told": told, "asked": [plain(r) for r in side.asked.get(name, [])],
            "stats": {k: v - before.get(k, 0) for k, v in after.items() if v != before.get(k, 0)}}


def leaves(path, a, b):
    """What differs, leaf by leaf."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            yield from leaves(f"{path}.{key}", a.get(key), b.get(key))
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, pair in enumerate(zip(a, b)):
            yield from leaves(f"{path}[{i}]", *pair)
    elif isinstance(a, str) and isinstance(b, str) and "\n" in a and "\n" in b:
        yield from leaves(path + ":", [x for x in a.split("\n") if x not in b.split("\n")], [x for x in b.split("\n") if x not in a.split("\n")])
    elif a != b:
        yield path, a, b


@pytest.mark.parametrize("name", [*CASES, *PLAIN])
def test_as_envoy(sides, name):
    skiff, envoy = (seen(side, name) for side in sides)
    assert not list(leaves("", skiff, envoy))
    sides[0].proxy.check_health()


BAD = {
    "line break": ok(headers=[option("x-a", "1\r\nx-b: 2")]), "no name": ok(headers=[option("", "1")]), "space": ok(headers=[option("x a", "1")]),
    "host": ok(headers=[option("host", "else")]), "length": ok(headers=[option("content-length", "0")]),
    "chunked": ok(headers=[option("transfer-encoding", "chunked")]), "pseudo": ok(headers=[option(":path", "/admin")]),
    "response": ok(response_headers_to_add=[option("x-a", "1\n")]), "denial": denied(403, headers=[option("content-length", "1")]),
}


@pytest.mark.parametrize("name", BAD)
def test_answers_that_could_not_be_sent(sides, name, monkeypatch):
    """By our security rules the whole answer is refused; Envoy takes some of these."""
    monkeypatch.setitem(CASES, "ok", (BAD[name], {}))
    sides[0].upstream.play()
    with client.Client(sides[0].proxy.port("ok")) as c:
        answer = c.request()
    assert (answer.status, answer.text, sides[0].upstream.requests) == (500, "", [])


def test_nothing_slips_through(sides):
    for name in ("denied", "error", "garbage", "no_cluster", "dead", "late", "denied_though_open", "deny_at_disable"):
        side = sides[0]
        side.upstream.play()
        with client.Client(side.proxy.port(name)) as c:
            assert c.request().status in (403, 503), name
        assert not side.upstream.requests, name

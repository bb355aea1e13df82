"""envoy.filters.network.ext_authz on Skiff and on the real Envoy: what the service is asked, what becomes of the connection, the log and the statistics."""
import json
import os
import re
import socket
import ssl

import grpc
import pytest
from envoy.service.auth.v3 import external_auth_pb2 as auth
from google.protobuf import text_format

from harness import config
from harness.grpc_server import GrpcServer
from harness.pki import Pki
from harness.proxy import Proxy
from harness.upstream import Upstream, closed_port
from harness.wait import wait_for

NET = config.TYPE + "extensions.filters.network."
TLS = config.TYPE + "extensions.transport_sockets.tls.v3.DownstreamTlsContext"
METHOD = "/envoy.service.auth.v3.Authorization/Check"
HTTP2 = {"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
    "@type": config.TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}}}
LOG = {"flags": "%RESPONSE_FLAGS%", "details": "%CONNECTION_TERMINATION_DETAILS%", "code": "%RESPONSE_CODE_DETAILS%",
       "metadata": "%DYNAMIC_METADATA(envoy.filters.network.ext_authz)%", "rx": "%BYTES_RECEIVED%", "tx": "%BYTES_SENT%",
       **{how: f"%FILTER_STATE(envoy.filters.network.ext_authz{how})%" for how in ("", ":PLAIN", ":FIELD:check_result", ":FIELD:status_code")}}
SHADOW = {"name": "envoy.filters.network.rbac", "typed_config": {
    "@type": NET + "rbac.v3.RBAC", "stat_prefix": "shadow", "shadow_rules": {"action": "ALLOW", "policies": {
        "all": {"permissions": [{"any": True}], "principals": [{"any": True}]}}}}}


def enabled_by(word):
    return {"filter_enabled_metadata": {"filter": "envoy.filters.network.rbac", "path": [{"key": "shadow_engine_result"}],
                                        "value": {"string_match": {"exact": word}}}}


def answer(code=None, metadata=None, **more):
    out = auth.CheckResponse(**more)
    if code is not None:
        out.status.code = code
    if metadata:
        out.dynamic_metadata.update(metadata)
    return out.SerializeToString()


def fail(code, text):
    def run(context):
        context.abort(code, text)
    return run


LABELS = {"app": "web", "number": 3}
SSL = {"ssl_credentials": {"root_certs": {"filename": "{ca}"}}}
SHADOWED = {"shadow_mode": True}
OPEN, DENIED = {"failure_mode_allow": True}, auth.DeniedHttpResponse(body="no")
# name: (what the service answers, fields of the filter, cluster, more filters before)
CASES = {
    "ok": (answer(), {}),
    "ok_with_status": (answer(0), {}),
    "ok_with_denied_response": (answer(0, denied_response=DENIED), {}),
    "ok_with_metadata": (answer(0, {"user": "me", "level": 3, "list": [1, "a", None, True], "in": {"x": {"y": False}}}), {}),
    "denied": (answer(7), {}),
    "denied_otherwise": (answer(16), {}),
    "denied_with_metadata": (answer(7, {"why": "because"}), {}),
    "denied_response": (answer(7, denied_response=DENIED), {}),
    "error_response": (answer(7, error_response=DENIED), {}),
    "denied_though_open": (answer(7), OPEN),
    "error_response_open": (answer(13, error_response=DENIED), OPEN),
    "aborted": (fail(grpc.StatusCode.UNAVAILABLE, "later"), {}),
    "aborted_open": (fail(grpc.StatusCode.PERMISSION_DENIED, "no"), OPEN),
    "garbage": (b"\xff\xff\xff", {}),
    "garbage_open": (b"\xff\xff\xff", OPEN),
    "too_late": (answer(), {"timeout": "0.1s"}, "silent"),
    "too_late_open": (answer(), {"timeout": "0.1s", **OPEN}, "silent"),
    "too_late_by_default": (answer(), {"timeout": None}, "silent"),
    "no_cluster": (answer(), {}, "nobody"),
    "no_cluster_open": (answer(), OPEN, "nobody"),
    "no_host": (answer(), {}, "empty"),
    "refused": (answer(), {}, "dead"),
    "refused_open": (answer(), OPEN, "dead"),
    "metadata_asked": (answer(), {"metadata_context_namespaces": ["envoy.filters.network.rbac", "missing"]}, "authz", [SHADOW]),
    "enabled": (answer(7), enabled_by("allowed"), "authz", [SHADOW]),
    "disabled": (answer(7), enabled_by("denied"), "authz", [SHADOW]),
    "tls_certificate": (answer(), {"include_peer_certificate": True}),
    "tls_session": (answer(), {"include_tls_session": True}),
    "tls_plain": (answer(7), {}),
    "session_without_tls": (answer(), {"include_tls_session": True, "include_peer_certificate": True}),
    "shadow": (answer(7), SHADOWED),
    "shadow_ok": (answer(), SHADOWED),
    "shadow_metadata": (answer(16, {"why": "because"}), SHADOWED),
    "shadow_denied": (answer(7, denied_response=auth.DeniedHttpResponse(status={"code": 401})), SHADOWED),
    "shadow_error": (answer(13, error_response=auth.DeniedHttpResponse(status={"code": 401})), SHADOWED),
    "shadow_error_bare": (answer(13, error_response=DENIED), SHADOWED),
    "shadow_aborted": (fail(grpc.StatusCode.UNAVAILABLE, "later"), {**SHADOWED, **OPEN}),
    "labels": (answer(), {"bootstrap_metadata_labels_key": "labels"}),
    "labels_unknown": (answer(), {"bootstrap_metadata_labels_key": "others"}),
    "google": (answer(), {"google": {"target_uri": "127.0.0.1:{port}"}}),
    "google_denied": (answer(7), {"google": {"target_uri": "ipv4:127.0.0.1:{port}"}}),
    "google_name": (answer(), {"google": {"target_uri": "dns:///localhost:{port}"}}),
    "google_unix": (answer(), {"google": {"target_uri": "unix://{socket}", "channel_credentials": {"local_credentials": {}}}}),
    "google_unix_plain": (answer(), {"google": {"target_uri": "unix:{socket}"}}),
    "google_dead": (answer(), {"google": {"target_uri": "127.0.0.1:{dead}"}}),
    "google_tls": (answer(), {"google": {"target_uri": "localhost:{secure}", "channel_credentials": SSL}}),
    "google_token": (answer(), {"google": {"target_uri": "127.0.0.1:{secure}", "channel_credentials": SSL,
                                           "call_credentials": [{"access_token": "a 100% secret"}]}}),
    "google_other_name": (answer(), {"google": {"target_uri": "127.0.0.2:{secure}", "channel_credentials": SSL}}),
    "small": (answer(0, {"much": "x" * 200}), {"most": 100}),
}


class Side:
    def __init__(self, binary, folder, pki, concurrency):
        self.asked, self.folder, self.pki = {}, folder, pki
        os.makedirs(folder, exist_ok=True)
        self.service = GrpcServer({METHOD: ("unary_unary", self.check)}, unix=f"{folder}/s")
        with open(pki.grpc.key, "rb") as key, open(pki.grpc.cert, "rb") as cert:
            self.secure = GrpcServer({METHOD: ("unary_unary", self.check)}, credentials=grpc.ssl_server_credentials([(key.read(), cert.read())]))
        self.echo, self.silent = Upstream("echo", handler=echo), Upstream("silent", handler=lambda connection: connection.hang())
        self.sock, dead = closed_port()
        self.words = {"port": self.service.port, "secure": self.secure.port, "dead": dead, "ca": pki.ca.cert,
                      "socket": self.service.unix}
        clusters = [config.cluster("echo", [self.echo.port]), config.cluster("authz", [self.service.port], **HTTP2),
                    config.cluster("dead", [dead], **HTTP2), config.cluster("empty", [], **HTTP2),
                    config.cluster("silent", [self.silent.port], **HTTP2)]
        listeners = [self.listener(name, *case[1:]) for name, case in CASES.items()]
        self.proxy = Proxy(binary, config.bootstrap(listeners, clusters, node={"id": "n", "cluster": "c", "metadata": {"labels": LABELS}}), concurrency=concurrency)

    def listener(self, name, fields, cluster="authz", before=()):
        fields = dict(fields)
        service = {"envoy_grpc": {"cluster_name": cluster}, "timeout": "20s",
                   "initial_metadata": [{"key": "x-case", "value": name}, {"key": "x-from", "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% 100%%"}]}
        if "timeout" in fields:
            service["timeout"] = fields.pop("timeout")
        if "most" in fields:
            service["envoy_grpc"]["max_receive_message_length"] = fields.pop("most")
        service = {k: v for k, v in service.items() if v}
        if "google" in fields:
            text = json.dumps({"stat_prefix": "authz", **fields.pop("google")})
            for word, value in self.words.items():
                text = text.replace("{%s}" % word, str(value))
            del service["envoy_grpc"]
            service["google_grpc"] = json.loads(text)
        authz = {"name": "envoy.filters.network.ext_authz", "typed_config": {
            "@type": NET + "ext_authz.v3.ExtAuthz", "stat_prefix": name, "transport_api_version": "V3", "grpc_service": service, **fields}}
        tcp = {"name": "envoy.filters.network.tcp_proxy", "typed_config": {
            "@type": NET + "tcp_proxy.v3.TcpProxy", "stat_prefix": name, "cluster": "echo",
            "access_log": [config.file_log(f"{self.folder}/{name}.log", LOG)]}}
        out = config.listener(name, [*before, authz, tcp])
        if name.startswith("tls"):
            out["filter_chains"][0]["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": {
                "@type": TLS, "common_tls_context": {
                    "tls_certificates": [{"certificate_chain": {"filename": self.pki.server.cert}, "private_key": {"filename": self.pki.server.key}}],
                    "validation_context": {"trusted_ca": {"filename": self.pki.ca.cert}}}}}
        return out

    def check(self, request, context):
        sent = dict(context.invocation_metadata())
        name = sent["x-case"]
        self.asked.setdefault(name, []).append((sent, context.time_remaining(), request))
        what = CASES[name][0]
        return what(context) if callable(what) else what

    def stop(self):
        self.proxy.stop()
        self.service.stop()
        self.secure.stop()
        self.echo.stop()
        self.silent.stop()
        self.sock.close()


def echo(connection):
    while data := connection.sock.recv(65536):
        connection.sock.sendall(data)
    connection.sock.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def sides(skiff_binary, envoy_binary, concurrency, tmp_path_factory):
    folder = tmp_path_factory.mktemp("authz")
    pki = Pki(str(folder))
    pki.server = pki.issue("server", "DNS:server.example")
    pki.grpc = pki.issue("grpc", "DNS:localhost,IP:127.0.0.1")
    pki.client = pki.issue("client", "DNS:client.example,URI:spiffe://here/client")
    made = [Side(binary, str(folder / name), pki, n) for name, binary, n in (("skiff", skiff_binary, concurrency), ("envoy", envoy_binary, 1))]
    yield made
    for side in made:
        side.stop()


def talk(side, name):
    """What a client hears that says ping and then its end."""
    sock = socket.create_connection(("127.0.0.1", side.proxy.port(name)), 60)
    if name.startswith("tls"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(side.pki.ca.cert)
        context.load_cert_chain(side.pki.client.cert, side.pki.client.key)
        sock = context.wrap_socket(sock, server_hostname="server.example")
    got = b""
    with sock:
        try:
            sock.sendall(b"ping")
            while len(got) < 4 and (data := sock.recv(100)):
                got += data
        except OSError:
            pass
    return got


def stats(side, name):
    text = side.proxy.admin(f"/stats?filter=^(ext_authz.{name}|cluster.(authz|dead|empty|silent)|http.async)[.]").text
    pairs = dict(line.split(": ", 1) for line in text.splitlines())
    return {k: int(v) for k, v in pairs.items() if v.isdigit() and not re.search(r"_cx_|\.http2\.|_cx$|_ms|flow_control|rq_pending|circuit|bytes", k)}


def seen(side, name):
    before = stats(side, name)
    heard = talk(side, name)

    def over():
        log = f"{side.folder}/{name}.log"
        now = stats(side, name)
        quiet = now[f"ext_authz.{name}.active"] == 0 and now["cluster.authz.upstream_rq_active"] == 0
        return quiet and os.path.exists(log) and open(log, encoding="utf-8").read().endswith("}\n")
    wait_for(over, f"{name} to be over")
    after = stats(side, name)
    with open(f"{side.folder}/{name}.log", encoding="utf-8") as file:
        line = json.loads(file.read().splitlines()[-1])
    if line["metadata"] and "ext_authz_duration" in line["metadata"]:
        line["metadata"]["ext_authz_duration"] = "a number"
    asked = []
    for sent, left, request in side.asked.get(name, []):
        sent.pop("user-agent", None)
        text = text_format.MessageToString(auth.CheckRequest.FromString(request))
        text = text.replace(f"port_value: {side.proxy.port(name)}\n", "port_value: LISTENER\n")
        text = re.sub(r"(source \{\n(?:.*\n)*?.*port_value: )\d+", r"\1CLIENT", text)
        asked.append((sent, left is not None and left < 1000, text))
    return {"heard": heard, "log": line, "asked": asked, "stats": {k: v - before.get(k, 0) for k, v in after.items() if v != before.get(k, 0)}}


@pytest.mark.parametrize("name", CASES)
def test_as_envoy(sides, name):
    skiff, envoy = (seen(side, name) for side in sides)
    assert skiff == envoy
    sides[0].proxy.check_health()


def test_nothing_slips_through(sides):
    """The rows above compare; these figures hold by themselves."""
    for name in ("denied", "aborted", "garbage", "too_late", "no_cluster", "refused", "no_host", "denied_though_open", "error_response"):
        assert talk(sides[0], name) == b"", name

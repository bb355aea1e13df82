"""What starts Envoy starts Skiff: the command lines, the bootstraps' oddities and the admin requests of Envoy Gateway, Consul, Kuma
and Istio, in the forms that their launchers use."""
import contextlib
import http.client
import json
import os
import re
import socket
import stat
import subprocess
import threading

import pytest
from udpa.type.v1 import typed_struct_pb2  # noqa: F401  for the control plane's JSON

from harness import client, config
from harness.controlplane import ControlPlane
from harness.proxy import SANITIZER_ENV, validate
from harness.wait import wait_for

TYPED = "type.googleapis.com/"


class UnixHttp(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("admin", timeout=30)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self.path)


def http_over(path, method, target):
    """One request over a Unix socket: (status, body)."""
    with contextlib.closing(UnixHttp(path)) as connection:
        connection.request(method, target)
        response = connection.getresponse()
        return response.status, response.read()


class Launched:
    """A process started with exactly these arguments; ended by SIGTERM, which must end it well."""

    def __init__(self, argv, directory):
        self.log_path, self.admin_path = str(directory / "log"), str(directory / "admin-address")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=log, env={**os.environ, **SANITIZER_ENV})

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.process.terminate()
        code = self.process.wait(60)
        assert kind or code == 0, self.log()

    def log(self):
        with open(self.log_path, encoding="utf-8") as file:
            return file.read()

    def wait(self, look, what):
        """What `look` gives, once it gives something; a refused connection is not yet."""
        def tried():
            assert self.process.poll() is None, self.log()
            try:
                return look()
            except (OSError, ValueError):
                return None
        return wait_for(tried, what)

    def admin_port(self):
        """From the file that --admin-address-path names."""
        def read():
            with open(self.admin_path, encoding="ascii") as file:
                return int(file.read().rsplit(":", 1)[1])
        return self.wait(read, "the file of the admin address")


def ports_of(body):
    """{listener: port} of /listeners?format=json."""
    return {s["name"]: s["local_address"]["socket_address"]["port_value"] for s in json.loads(body)["listener_statuses"]}


@contextlib.contextmanager
def stopping(*things):
    try:
        yield
    finally:
        for thing in things:
            thing.stop()


class Socket:
    """A Unix socket before a TCP server: the agents of Istio and Kuma stand before their control plane like this."""

    def __init__(self, path, port):
        self.port, self.live = port, []
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(path)
        self.server.listen(16)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.server.accept()
                far = socket.create_connection(("127.0.0.1", self.port), 30)
            except OSError:
                return
            self.live += [near, far]
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self.pump, args=(a, b), daemon=True).start()

    @staticmethod
    def pump(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def stop(self):
        self.server.close()
        for sock in self.live:
            sock.close()


# --- Envoy Gateway ---------------------------------------------------------------------------------------------------

GATEWAY_TAGS = [{"tag_name": "ir_code", "regex": r"^envoy_response_code=((\d)xx)"},
                {"tag_name": "ir_route", "regex": r"^vhost\.((.*?)\.)"}]


def test_envoy_gateway(skiff_binary, upstream, tmp_path):
    """Node and configuration by flags alone, admin port 0, its address in a file, and what stands behind `--` ignored."""
    a = upstream("a")
    body = {
        "admin": {"access_log": [config.file_log("/dev/null")], "address": config.address(0)},
        "layered_runtime": {"layers": [{"name": "global_config", "static_layer": {
            "envoy.restart_features.use_eds_cache_for_ads": True, "re2.max_program_size.error_level": 4294967295}}]},
        "statsConfig": {"stats_tags": GATEWAY_TAGS},
        "deferredStatOptions": {"enableDeferredCreationStats": True},
        "overload_manager": {"refresh_interval": "0.25s", "resource_monitors": [{
            "name": "envoy.resource_monitors.global_downstream_max_connections",
            "typed_config": {"@type": TYPED + "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                             "max_active_downstream_connections": 50000}}]},
        "static_resources": {"listeners": [config.listener("main")], "clusters": [config.cluster("a", [a.port])]},
    }
    with Launched(
            [skiff_binary, "--service-cluster", "default/eg", "--service-node", "envoy-default-eg-1", "--config-yaml", json.dumps(body),
             "--log-level", "warn", "--cpuset-threads", "--drain-strategy", "immediate", "--concurrency", "2",
             "--component-log-level", "misc:error", "--drain-time-s", "60", "--admin-address-path", str(tmp_path / "admin-address"),
             "--", "--run-id", "1699"], tmp_path) as proxy:
        port = proxy.admin_port()
        proxy.wait(lambda: client.get(port, "/ready").text == "LIVE\n", "LIVE")
        assert client.get(port, "/config_dump?include_eds").status == 200
        door = ports_of(client.get(port, "/listeners?format=json").body)["main"]
        assert client.get(door).text == "a"
        info = json.loads(client.get(port, "/server_info").body)
        assert (info["node"]["id"], info["node"]["cluster"]) == ("envoy-default-eg-1", "default/eg")
        # In Kubernetes: two slashes ahead of the page, and the way to a graceful end.
        assert "stats" in json.loads(client.get(port, "//stats?filter=downstream_cx_active&format=json").body)
        assert client.get(port, "/healthcheck/fail", method="POST").status == 200
        assert client.get(port, "/drain_listeners?graceful&skip_exit", method="POST").status == 200
        assert client.get(door).text == "a", "skip_exit: listeners stay open"


# --- Consul ----------------------------------------------------------------------------------------------------------

CONSUL_TAGS = [
    (r"^cluster\.(?:passthrough~)?((?:([^.]+)~)?(?:[^.]+\.)?[^.]+\.[^.]+\.(?:[^.]+\.)?[^.]+\.[^.]+\.consul\.)", "consul.destination.custom_hash"),
    (r"^cluster\.(?:passthrough~)?((?:[^.]+~)?(?:([^.]+)\.)?[^.]+\.[^.]+\.(?:[^.]+\.)?[^.]+\.[^.]+\.consul\.)", "consul.destination.service_subset"),
    (r"^cluster\.(?:passthrough~)?((?:[^.]+~)?(?:[^.]+\.)?([^.]+)\.[^.]+\.(?:[^.]+\.)?[^.]+\.[^.]+\.consul\.)", "consul.destination.service"),
    (r"^(?:tcp|http)\.upstream\.(([^.]+)(?:\.[^.]+)?(?:\.[^.]+)?\.[^.]+\.)", "consul.upstream.service"),
]
CONSUL_LOG = {"start_time": "%START_TIME%", "method": "%REQ(:METHOD)%", "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
              "protocol": "%PROTOCOL%", "response_code": "%RESPONSE_CODE%", "response_flags": "%RESPONSE_FLAGS%",
              "response_code_details": "%RESPONSE_CODE_DETAILS%", "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
              "bytes_received": "%BYTES_RECEIVED%", "bytes_sent": "%BYTES_SENT%", "duration": "%DURATION%",
              "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%", "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
              "user_agent": "%REQ(USER-AGENT)%", "request_id": "%REQ(X-REQUEST-ID)%", "authority": "%REQ(:AUTHORITY)%",
              "upstream_host": "%UPSTREAM_HOST%", "upstream_cluster": "%UPSTREAM_CLUSTER%",
              "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%", "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
              "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%", "requested_server_name": "%REQUESTED_SERVER_NAME%",
              "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%", "route_name": "%ROUTE_NAME%"}


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_consul(skiff_binary, upstream, tmp_path):
    """The bootstrap comes once through a FIFO; a static listener turns /metrics into the statistics of the proxy itself."""
    fifo, admin_log = str(tmp_path / "bootstrap.json"), str(tmp_path / "admin.log")
    os.mkfifo(fifo)
    admin_port = free_port()  # the cluster self_admin must know it, as in Consul's bootstrap
    metrics = config.hcm([{"match": {"path": "/metrics"}, "route": {"cluster": "self_admin", "prefix_rewrite": "/stats/prometheus"}},
                          {"match": {"prefix": "/"}, "direct_response": {"status": 404}}], stat_prefix="envoy_metrics", codec_type="HTTP1")
    body = config.bootstrap(
        [config.listener("main"), config.listener("envoy_metrics_listener", [metrics])],
        [config.cluster("a", [upstream("a").port]), config.cluster("self_admin", [admin_port], http_protocol_options={})],
        admin={"access_log": [config.file_log(admin_log, json_format=CONSUL_LOG)], "address": config.address(admin_port)},
        node={"cluster": "web", "id": "web-sidecar-proxy", "metadata": {"namespace": "default", "partition": "default"}},
        layered_runtime={"layers": [{"name": "base", "static_layer": {"re2.max_program_size.error_level": 1048576}}]},
        stats_config={"stats_tags": [{"regex": regex, "tag_name": name} for regex, name in CONSUL_TAGS]
                      + [{"tag_name": "local_cluster", "fixed_value": "web"}], "use_all_default_tags": True})
    with Launched([skiff_binary, "--config-path", fifo, "--disable-hot-restart", "--log-level", "warning"], tmp_path) as proxy:
        with open(fifo, "w", encoding="utf-8") as pipe:
            pipe.write(json.dumps(body))
        proxy.wait(lambda: client.get(admin_port, "/ready").status == 200, "the proxy to be ready")
        ports = ports_of(client.get(admin_port, "/listeners?format=json").body)
        assert client.get(ports["main"]).text == "a"
        text = client.get(ports["envoy_metrics_listener"], "/metrics").text
        assert re.search(r'^envoy_server_live\{local_cluster="web"\} 1$', text, re.M), text[:500]
        # consul troubleshoot
        dump = json.loads(client.get(admin_port, "/config_dump").body)
        assert any(c["@type"].endswith("ClustersConfigDump") for c in dump["configs"])
        assert "cluster_statuses" in json.loads(client.get(admin_port, "/clusters?format=json").body)
        assert json.loads(client.get(admin_port, "/certs?format=json").body) in ({}, {"certificates": []})
        found = json.loads(client.get(admin_port, "/stats?format=json&filter=upstream_rq_total&type=Counters").body)
        assert found["stats"] and all(set(s) == {"name", "value"} for s in found["stats"])

        def logged():
            with open(admin_log, encoding="utf-8") as file:
                return [json.loads(line) for line in file if '"/ready"' in line]
        assert set(proxy.wait(logged, "the admin log")[0]) == set(CONSUL_LOG)


# --- Kuma ------------------------------------------------------------------------------------------------------------

def test_kuma(skiff_binary, upstream, tmp_path):
    """The version is asked for first; camelCase; admin on a Unix socket that only the owner may use, behind a listener."""
    line = next(text for text in subprocess.run([skiff_binary, "--version"], capture_output=True, text=True, timeout=60,
                                                check=True).stdout.splitlines() if "version:" in text)
    assert re.fullmatch(r".*version: [0-9a-f]+/\d+\.\d+\.\d+/[^/]+/[^/]+/[^/]+", line), line
    admin = str(tmp_path / "kuma-admin.sock")
    prefixes = ("/ready", "/stats", "/healthcheck/fail", "/drain_listeners")
    through = config.hcm([{"match": {"prefix": p}, "route": {"cluster": "system_envoy_admin"}} for p in prefixes], stat_prefix="admin")
    body = {
        "node": {"id": "default.web-1", "cluster": "web", "metadata": {
            "dataplane.admin.port": "9901", "dataplane.proxyType": "dataplane", "version": {"kumaDp": {"version": "2.12.0"}}}},
        "admin": {"address": {"pipe": {"path": admin, "mode": 0o600}},
                  "accessLog": [{"name": "envoy.access_loggers.file", "typedConfig": {"@type": config.FILE_LOG, "path": "/dev/null"}}]},
        "defaultRegexEngine": {"name": "envoy.regex_engines.google_re2", "typedConfig": {
            "@type": TYPED + "envoy.extensions.regex_engines.v3.GoogleRE2"}},
        "layeredRuntime": {"layers": [{"name": "kuma", "staticLayer": {"re2.max_program_size.error_level": 4294967295}}]},
        "statsConfig": {"statsTags": [{"regex": r"^grpc\.((.+)\.)", "tagName": "name"},
                                      {"regex": "(worker_([0-9]+).)", "tagName": "worker"}]},
        "staticResources": {
            "secrets": [{"name": "cp_validation_ctx", "validationContext": {"trustedCa": {"inlineBytes": ""},
                         "matchTypedSubjectAltNames": [{"sanType": "DNS", "matcher": {"exact": "localhost"}}]}}],
            "listeners": [config.listener("main"), config.listener("kuma:envoy:admin", [through])],
            "clusters": [config.cluster("a", [upstream("a").port]),
                         config.cluster("system_envoy_admin", [{"endpoint": {"address": {"pipe": {"path": admin}}}}],
                                        alt_stat_name="kuma_envoy_admin")]},
    }
    path = tmp_path / "bootstrap.yaml"
    path.write_text(json.dumps(body))
    with Launched(
            [skiff_binary, "--config-path", str(path), "--drain-time-s", "30", "--drain-strategy", "immediate", "--disable-hot-restart",
             "--log-level", "warning", "--component-log-level", "upstream:error", "--cpuset-threads"], tmp_path) as proxy:
        proxy.wait(lambda: http_over(admin, "GET", "/ready") == (200, b"LIVE\n"), "LIVE on the socket")
        assert stat.S_IMODE(os.stat(admin).st_mode) == 0o600
        ports = ports_of(http_over(admin, "GET", "/listeners?format=json")[1])
        assert client.get(ports["main"]).text == "a"
        door = ports["kuma:envoy:admin"]
        assert client.get(door, "/ready").text == "LIVE\n"
        assert "server.state: 0" in client.get(door, "/stats?filter=server.state").text
        assert "cluster.kuma_envoy_admin.upstream_rq_total" in client.get(door, "/stats").text
        assert client.get(door, "/healthcheck/fail", method="POST").status == 200
        assert client.get(door, "/ready").status == 503
        assert client.get(door, "/drain_listeners?inboundonly&graceful&skip_exit", method="POST").status == 200


# --- Istio -----------------------------------------------------------------------------------------------------------

ISTIO_TAGS = [
    ("cluster_name", r"^cluster\.((.+?(\..+?\.svc\.cluster\.local)?)\.)"),
    ("tcp_prefix", r"^tcp\.((.*?)\.)\w+?$"),
    ("response_code", r"(response_code=\.=(.+?);\.;)|_rq(_(\.d{3}))$"),
    ("response_code_class", r"_rq(_(\dxx))$"),
    ("http_conn_manager_listener_prefix", r"^listener(?=\.).*?\.http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)"),
    ("listener_address", r"^listener\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)"),
    ("reporter", r"(reporter=\.=(.*?);\.;)"),
    ("destination_service", r"(destination_service=\.=(.*?);\.;)"),
]


def istio_bootstrap(xds, sds, listeners, clusters):
    h2 = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": TYPED + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}}

    def agent(name, path):
        return config.cluster(name, [{"endpoint": {"address": {"pipe": {"path": path}}}}], typed_extension_protocol_options=h2,
                              alt_stat_name=name + ";", connect_timeout="1s")
    return {
        "application_log_config": {"log_format": {"text_format": "%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t"}},
        "node": {"id": "sidecar~10.0.0.1~web-1.default~default.svc.cluster.local", "cluster": "web.default",
                 "metadata": {"ISTIO_VERSION": "1.28.0", "PROXY_CONFIG": {"discoveryAddress": "istiod:15012"}, "ENVOY_STATUS_PORT": 15021}},
        "layered_runtime": {"layers": [
            {"name": "global config", "static_layer": {"overload.global_downstream_max_connections": "2147483647",
                                                       "re2.max_program_size.error_level": "32768"}},
            {"name": "admin", "admin_layer": {}}]},
        "bootstrap_extensions": [{"name": "envoy.bootstrap.internal_listener", "typed_config": {
            "@type": TYPED + "udpa.type.v1.TypedStruct",
            "type_url": TYPED + "envoy.extensions.bootstrap.internal_listener.v3.InternalListener", "value": {"buffer_size_kb": 64}}}],
        "stats_config": {"use_all_default_tags": False, "stats_tags": [{"tag_name": n, "regex": r} for n, r in ISTIO_TAGS],
                         "stats_matcher": {"inclusion_list": {"patterns": [
                             {"prefix": "reporter="}, {"prefix": "cluster_manager"}, {"prefix": "listener_manager"}, {"prefix": "server"},
                             {"prefix": "cluster.xds-grpc"}, {"suffix": "ssl_context_update_by_sds"}, {"suffix": "downstream_cx_active"}]}}},
        "admin": {"access_log": [config.file_log("/dev/null")], "profile_path": "/var/lib/istio/data/envoy.prof",
                  "address": config.address(0)},
        "dynamic_resources": {
            "lds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
            "cds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
            "ads_config": {"api_type": "GRPC", "set_node_on_first_message_only": True, "transport_api_version": "V3",
                           "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}]}},
        "static_resources": {"clusters": [agent("sds-grpc", sds), agent("xds-grpc", xds), *clusters], "listeners": listeners},
    }


ISTIO_FILTERS = [
    {"name": "istio.metadata_exchange", "typed_config": {"@type": TYPED + "udpa.type.v1.TypedStruct",
     "type_url": TYPED + "io.istio.http.peer_metadata.Config", "value": {
         "upstream_discovery": [{"istio_headers": {}}, {"workload_discovery": {}}], "upstream_propagation": [{"istio_headers": {}}]}}},
    {"name": "istio.alpn", "typed_config": {"@type": TYPED + "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",
     "alpn_override": [{"alpn_override": ["istio-http/1.0", "istio", "http/1.0"]},
                       {"upstream_protocol": "HTTP11", "alpn_override": ["istio-http/1.1", "istio", "http/1.1"]}]}},
    {"name": "istio.stats", "typed_config": {"@type": TYPED + "udpa.type.v1.TypedStruct", "type_url": TYPED + "stats.PluginConfig",
                                             "value": {"disable_host_header_fallback": True}}},
]


def test_istio(skiff_binary, upstream, tmp_path):
    """The agent's sockets, its readiness probe, and the filters that only Istio has: accepted, and said once."""
    a = upstream("a")
    plane = ControlPlane()
    xds, sds, admin = str(tmp_path / "XDS"), str(tmp_path / "SDS"), str(tmp_path / "admin-address")
    agent = Socket(xds, plane.port)
    web = config.listener("virtualInbound", [config.hcm(stat_prefix="inbound", http_filters=[*ISTIO_FILTERS, config.router()])],
                          traffic_direction="INBOUND")
    tcp = config.listener("tcp", [
        {"name": "istio.metadata_exchange", "typed_config": {
            "@type": TYPED + "envoy.tcp.metadataexchange.config.MetadataExchange", "protocol": "istio-peer-exchange"}},
        {"name": "istio.stats", "typed_config": {"@type": TYPED + "stats.PluginConfig"}},
        {"name": "envoy.filters.network.tcp_proxy", "typed_config": {
            "@type": TYPED + "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "t", "cluster": "a"}}])
    exchange = {"@type": TYPED + "udpa.type.v1.TypedStruct",
                "type_url": TYPED + "envoy.tcp.metadataexchange.config.MetadataExchange", "value": {"protocol": "istio-peer-exchange"}}
    plane.set("cluster", [config.cluster("dynamic", [a.port], filters=[{"name": "istio.metadata_exchange", "typed_config": exchange}])])
    body = istio_bootstrap(xds, sds, [web, tcp], [config.cluster("a", [a.port])])
    (tmp_path / "envoy-rev.json").write_text(json.dumps(body))
    argv = [skiff_binary, "-c", str(tmp_path / "envoy-rev.json"), "--drain-time-s", "45", "--drain-strategy", "immediate",
            "--local-address-ip-version", "v4", "--file-flush-interval-msec", "1000", "--disable-hot-restart",
            "--allow-unknown-static-fields", "-l", "warning", "--component-log-level", "misc:error", "--skip-deprecated-logs",
            "--concurrency", "1", "--enable-core-dump", "--file-flush-min-size-kb", "64", "--admin-address-path",
            str(tmp_path / "admin-address")]
    with stopping(agent, plane), Launched(argv, tmp_path) as proxy:
        port = proxy.admin_port()
        plane.wait_ack("cluster")
        plane.set("listener", [])
        plane.wait_ack("listener")
        proxy.wait(lambda: client.get(port, "/ready").text == "LIVE\n", "LIVE")
        assert plane.requests[0].node.metadata["ISTIO_VERSION"] == "1.28.0"
        # the agent's readiness probe
        text = client.get(port, r"/stats?usedonly&filter=^(server\.state|listener_manager\.workers_started)").text
        assert "server.state: 0\n" in text and "listener_manager.workers_started: 1\n" in text
        text = client.get(port, r"/stats?usedonly&filter=^(cluster_manager\.cds|listener_manager\.lds)\.(update_success|update_rejected)$").text
        assert "cluster_manager.cds.update_success: 1\n" in text and "listener_manager.lds.update_success: 1\n" in text
        ports = ports_of(client.get(port, "/listeners?format=json").body)
        for _ in range(2):
            assert client.get(ports["virtualInbound"]).text == "a"
        assert client.get(ports["tcp"]).text == "a"
        assert "downstream_cx_active" in client.get(port, "/stats?usedonly&filter=downstream_cx_active$").text
        assert "cluster.xds-grpc;." in client.get(port, "/stats?filter=xds-grpc").text
        log = proxy.log()
        for said in ("istio.stats: Istio's own metrics are not kept", "peer metadata is neither sent nor looked up", "istio.alpn:",
                     "no metadata is exchanged"):
            assert said in log, log
        # the end of a pod
        assert client.get(port, "/drain_listeners?inboundonly&graceful&skip_exit", method="POST").status == 200
        assert client.get(port, "/drain_listeners?graceful&skip_exit", method="POST").status == 200


@pytest.mark.parametrize("name", ["istio.stats", "istio.alpn"])
def test_without_a_type_istio_filters_are_refused(skiff_binary, name):
    body = config.bootstrap([config.listener("main", [config.hcm([config.route()], http_filters=[{"name": name}, config.router()])])],
                            [config.cluster("a", [1])])
    code, output = validate(skiff_binary, json.dumps(body))
    assert code == 1 and "http_filters[0]" in output, output


def test_other_filters_on_upstream_connections_are_refused(skiff_binary):
    echo = {"name": "echo", "typed_config": {"@type": TYPED + "envoy.extensions.filters.network.echo.v3.Echo"}}
    body = config.bootstrap([], [config.cluster("a", [1], filters=[echo])])
    code, output = validate(skiff_binary, json.dumps(body))
    assert code == 1 and "clusters[0].filters[0]" in output, output

"""A random world for chaos: listeners, clusters, tables, secrets and filters, right and wrong, from a seed.

Everything named "good" always works: listener good, table good, cluster good. All else comes, goes and changes its kind.
"""
import importlib

from harness import config
from harness.controlplane import ADS, encode, tree
from harness.tcp import tcp

for _module in (  # what the control plane packs must be known to protobuf's registry
        "filters.http.cors.v3.cors", "filters.http.buffer.v3.buffer", "filters.http.compressor.v3.compressor", "filters.http.fault.v3.fault",
        "filters.http.csrf.v3.csrf", "filters.http.local_ratelimit.v3.local_rate_limit", "filters.http.ext_authz.v3.ext_authz",
        "filters.http.grpc_stats.v3.config", "filters.http.health_check.v3.health_check", "filters.http.dynamic_forward_proxy.v3.dynamic_forward_proxy",
        "filters.http.header_mutation.v3.header_mutation", "filters.http.rbac.v3.rbac", "filters.http.on_demand.v3.on_demand",
        "compression.gzip.compressor.v3.gzip", "filters.network.echo.v3.echo", "filters.network.connection_limit.v3.connection_limit",
        "filters.network.local_ratelimit.v3.local_rate_limit", "filters.network.sni_cluster.v3.sni_cluster", "filters.network.rbac.v3.rbac",
        "filters.network.ext_authz.v3.ext_authz", "filters.network.direct_response.v3.config", "filters.listener.http_inspector.v3.http_inspector",
        "filters.listener.tls_inspector.v3.tls_inspector", "filters.listener.proxy_protocol.v3.proxy_protocol",
        "filters.listener.original_dst.v3.original_dst", "filters.udp.udp_proxy.v3.udp_proxy", "filters.udp.udp_proxy.v3.route", "clusters.dynamic_forward_proxy.v3.cluster",
        "common.dynamic_forward_proxy.v3.dns_cache", "transport_sockets.raw_buffer.v3.raw_buffer", "transport_sockets.proxy_protocol.v3.upstream_proxy_protocol",
        "transport_sockets.tls.v3.tls", "access_loggers.stream.v3.stream", "network.dns_resolver.cares.v3.cares_dns_resolver"):
    importlib.import_module("envoy.extensions." + _module + "_pb2")

EXT = "envoy.extensions."
CLUSTERS, LISTENERS, TABLES, SECRETS, FILTERS, SCOPES = 6, 6, 3, 3, 2, 3
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def typed(name, short, **value):
    return {"name": name, "typed_config": tree(EXT + short, value)}


def seconds(value):
    return f"{value:.3f}s"


class World:
    """make(kind, name) gives a new random resource; `upstreams` are the ports of servers, [0] of one that behaves."""

    def __init__(self, rng, upstreams, dead, leaf, log_path, dns, delta=False):
        self.rng, self.upstreams, self.dead, self.leaf, self.delta = rng, upstreams, dead, leaf, delta
        self.log_path, self.dns = log_path, dns
        self.names, self.udp_ports = ["localhost", "a.test", "b.test", "gone.test"], []

    def some(self, chance):
        return self.rng.random() < chance

    def pick(self, *options):
        return self.rng.choice(options)

    def name(self, kind):
        """Any name of the kind that may exist, now and then one that never does."""
        if self.some(0.03):
            return "nobody"
        prefix, count = {"cluster": ("c", CLUSTERS), "listener": ("l", LISTENERS), "route": ("t", TABLES), "secret": ("s", SECRETS),
                         "extension": ("e", FILTERS), "scoped_route": ("scope", SCOPES), "endpoint": ("c", CLUSTERS),
                         "virtual_host": ("v", 3), "runtime": ("rtds", 1)}[kind]
        number = self.rng.randrange(count)
        return prefix if kind == "runtime" else f"{prefix}{number}"

    def any_cluster(self):
        return "good" if self.some(0.3) else self.name("cluster")

    def make(self, kind, name):
        return getattr(self, kind)(name)

    # --- clusters ---

    def endpoints(self, name, udp=False):
        groups = []
        for priority in range(self.pick(1, 1, 2)):
            for region in range(self.pick(1, 1, 2)):
                ports = [self.pick(*self.upstreams, *self.upstreams, self.dead) for _ in range(self.rng.randrange(4))]
                some = [config.endpoint(port, health_status=self.pick("HEALTHY", "HEALTHY", "UNKNOWN", "UNHEALTHY", "DRAINING"),
                                        load_balancing_weight=self.rng.randint(1, 5)) for port in dict.fromkeys(ports)]
                groups.append({"priority": priority, "locality": {"region": f"r{region}"}, "load_balancing_weight": self.rng.randint(1, 3),
                               "lb_endpoints": some})
        return {"cluster_name": name, "endpoints": groups}

    def endpoint(self, name):
        if name == "good":
            return config.assignment("good", [self.upstreams[0]] * 1)
        return self.endpoints(name)

    def secret_source(self):
        return {"name": self.name("secret"), "sds_config": ADS}

    def upstream_tls(self, broken=True):
        common = {}
        if broken and self.some(0.2):
            common["validation_context_sds_secret_config"] = {"name": "ca", "sds_config": ADS}
        if broken and self.some(0.2):
            common["tls_certificate_sds_secret_configs"] = [self.secret_source()]
        if self.some(0.5):
            common["alpn_protocols"] = self.pick(["h2"], ["http/1.1"], ["h2", "http/1.1"])
        body = {"common_tls_context": common, "max_session_keys": self.pick(0, 1, 4)}
        if self.some(0.5):
            body["sni"] = "a.example"
        socket = typed("envoy.transport_sockets.tls", "transport_sockets.tls.v3.UpstreamTlsContext", **body)
        if broken and self.some(0.1):
            socket = typed("envoy.transport_sockets.upstream_proxy_protocol", "transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
                           config={"version": "V2"}, transport_socket=socket)
        return socket

    def protocol(self, good=False):
        kind = self.pick("http1", "http2", "http1", "downstream") if good else self.pick("http1", "http2", "auto", "downstream", None)
        if kind is None:
            return {}
        one = {"max_concurrent_streams": self.pick(1, 2, 100)} if self.some(0.3) and not good else {}
        body = {"http1": {"explicit_http_config": {"http_protocol_options": {}}}, "http2": {"explicit_http_config": {"http2_protocol_options": one}},
                "auto": {"auto_config": {"http_protocol_options": {}, "http2_protocol_options": one}},
                "downstream": {"use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": one}}}[kind]
        if self.some(0.3):
            body["common_http_protocol_options"] = {"max_requests_per_connection": self.pick(1, 2, 10), "idle_timeout": seconds(self.pick(0.05, 1))}
            if not good and self.some(0.3):
                body["common_http_protocol_options"]["max_stream_duration"] = seconds(self.pick(0.02, 0.5))
        return {"typed_extension_protocol_options": {OPTIONS: tree(OPTIONS, body)}}

    def cluster(self, name):
        if name == "good":
            return self.good_cluster()
        kind = self.pick("STATIC", "STATIC", "EDS", "EDS", "STRICT_DNS", "LOGICAL_DNS", "ORIGINAL_DST", "DFP")
        out = {"name": name, "connect_timeout": seconds(self.pick(0.05, 0.5, 2)), **self.protocol()}
        if kind == "DFP":
            out["lb_policy"] = "CLUSTER_PROVIDED"
            out["cluster_type"] = typed("envoy.clusters.dynamic_forward_proxy", "clusters.dynamic_forward_proxy.v3.ClusterConfig", dns_cache_config=self.dns_cache())
        elif kind == "ORIGINAL_DST":
            out.update(type=kind, lb_policy="CLUSTER_PROVIDED", cleanup_interval="0.1s")
            if self.some(0.5):
                out["original_dst_lb_config"] = {"use_http_header": True}
        else:
            out.update(type=kind, lb_policy=self.pick("ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH", "MAGLEV"))
            if out["lb_policy"] == "RING_HASH":
                out["ring_hash_lb_config"] = {"minimum_ring_size": 16}
            if out["lb_policy"] == "MAGLEV":
                out["maglev_lb_config"] = {"table_size": 61}
            if kind == "EDS":
                out["eds_cluster_config"] = {"eds_config": {**ADS, "initial_fetch_timeout": seconds(self.pick(0.1, 1))}}
            elif kind.endswith("DNS"):
                one = config.endpoint(self.pick(*self.upstreams), self.pick(*self.names))
                out["load_assignment"] = config.assignment(name, [one] if kind == "LOGICAL_DNS" or self.some(0.5) else [one, config.endpoint(self.dead, self.pick(*self.names))])
                out.update(dns_refresh_rate=seconds(self.pick(0.005, 0.1, 5)), dns_lookup_family=self.pick("V4_ONLY", "AUTO", "ALL"),
                           typed_dns_resolver_config=self.resolver())
            else:
                out["load_assignment"] = self.endpoints(name)
            if self.some(0.2):
                out["common_lb_config"] = {"locality_weighted_lb_config": {}}
            if self.some(0.2):
                out["preconnect_policy"] = {"per_upstream_preconnect_ratio": 2.0}
        self.more_of_cluster(out)
        options = out.get("typed_extension_protocol_options", {}).get(OPTIONS, {})
        if "auto_config" in options and "transport_socket" not in out:
            options["explicit_http_config"] = {"http2_protocol_options": options.pop("auto_config")["http2_protocol_options"]}
        return out

    def more_of_cluster(self, out):
        if self.some(0.3):
            out["transport_socket"] = self.upstream_tls()
        elif self.some(0.1):
            out["transport_socket_matches"] = [{"name": "m", "match": {}, "transport_socket": self.upstream_tls()}]
        if self.some(0.3):
            out["circuit_breakers"] = {"thresholds": [{"max_connections": self.pick(1, 2, 50), "max_pending_requests": self.pick(1, 3, 50),
                                                      "max_requests": self.pick(1, 5, 50), "max_retries": self.pick(0, 1, 3)}]}
        if self.some(0.2):
            out["per_connection_buffer_limit_bytes"] = self.pick(1, 1000, 32768)
        if self.some(0.2):
            out["close_connections_on_host_health_failure"] = True

    def good_cluster(self):
        out = {"name": "good", "connect_timeout": seconds(self.rng.randint(5, 50)), "lb_policy": self.pick("ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"),
               **self.protocol(good=True)}
        if self.some(0.5):
            out.update(type="EDS", eds_cluster_config={"eds_config": ADS})
        else:
            out.update(type="STATIC", load_assignment=config.assignment("good", [self.upstreams[0]]))
        if self.some(0.4):
            out["transport_socket"] = self.upstream_tls(broken=False)
            out["transport_socket"]["typed_config"]["common_tls_context"].pop("alpn_protocols", None)
        return out

    def dns_cache(self):
        return {"name": "cache", "dns_lookup_family": "V4_ONLY", "host_ttl": "0.5s", "dns_refresh_rate": "5s", "max_hosts": 20,
                "typed_dns_resolver_config": self.resolver()}

    def resolver(self):
        return typed("cares", "network.dns_resolver.cares.v3.CaresDnsResolverConfig", resolvers=[config.address(self.dns.port)],
                     dns_resolver_options={"no_default_search_domain": True})

    # --- routes ---

    def headers_to_add(self):
        return [{"header": {"key": "x-chaos", "value": self.pick("1", "%PROTOCOL%", "%UPSTREAM_HOST%", "%DOWNSTREAM_REMOTE_ADDRESS%", "%START_TIME%")}}]

    def action(self):
        out = {"timeout": seconds(self.pick(0, 0.05, 0.5, 5))}
        if self.some(0.2):
            out["weighted_clusters"] = {"clusters": [{"name": self.any_cluster(), "weight": self.rng.randint(1, 9)} for _ in range(self.rng.randint(1, 3))]}
        elif self.some(0.1):
            out["cluster_header"] = "x-cluster"
        else:
            out["cluster"] = self.any_cluster()
        if self.some(0.4):
            out["retry_policy"] = {"retry_on": self.pick("5xx", "connect-failure,refused-stream,reset", "retriable-4xx,gateway-error,5xx,reset"), "num_retries": self.pick(1, 3),
                                   "retry_back_off": {"base_interval": "0.002s", "max_interval": "0.01s"}, "per_try_timeout": seconds(self.pick(0, 0.03, 0.3))}
        if self.some(0.2):
            out["request_mirror_policies"] = [{"cluster": self.any_cluster()}]
        if self.some(0.5):
            out["upgrade_configs"] = [{"upgrade_type": "websocket"}]
        if self.some(0.3):
            out["hash_policy"] = [{"header": {"header_name": "x-hash"}}, {"cookie": {"name": "stick", "ttl": "1s"}}]
        if self.some(0.2):
            out["idle_timeout"] = seconds(self.pick(0.02, 0.5))
        if self.some(0.1):
            out["max_stream_duration"] = {"max_stream_duration": seconds(self.pick(0.02, 0.3))}
        if self.some(0.1):
            out["internal_redirect_policy"] = {"max_internal_redirects": 2}
        if self.some(0.2):
            out["host_rewrite_literal"] = "localhost:%d" % self.pick(*self.upstreams)
        if self.some(0.1):
            out["prefix_rewrite"] = "/rewritten"
        return out

    def route_entry(self):
        if self.some(0.1):
            return {"match": {"connect_matcher": {}}, "route": {"cluster": self.any_cluster(), "upgrade_configs": [
                {"upgrade_type": "CONNECT", **({"connect_config": {}} if self.some(0.7) else {})}]}}
        match = self.pick({"prefix": "/"}, {"prefix": "/a"}, {"path": "/b"}, {"safe_regex": {"regex": "/c.*"}}, {"path_separated_prefix": "/d"})
        out = {"match": dict(match)}
        if self.some(0.1):
            out["direct_response"] = {"status": self.pick(200, 404, 503), "body": {"inline_string": "x" * self.pick(0, 10, 4000)}}
        elif self.some(0.1):
            out["redirect"] = {"host_redirect": "other", "response_code": "FOUND"}
        else:
            out["route"] = self.action()
        if self.some(0.2):
            out["request_headers_to_add"] = self.headers_to_add()
        if self.some(0.2):
            out["response_headers_to_add"] = self.headers_to_add()
        if self.some(0.2):
            out["request_body_buffer_limit"] = self.pick(10, 1000, 100000)
        return out

    def host(self, name, domains):
        return {"name": name, "domains": domains, "routes": [self.route_entry() for _ in range(self.rng.randint(1, 5))]}

    def virtual_host(self, name):
        return self.host(name, [f"{name}.com"])

    def route(self, name):
        good = {"match": {"path": "/good"}, "route": {"cluster": "good", "timeout": "60s"}}
        if name == "good":
            host = self.host("all", ["*"])
            host["routes"] = [good] + [r for r in host["routes"] if "connect_matcher" not in r["match"]]
            return {"name": "good", "virtual_hosts": [host]}
        out = {"name": name, "virtual_hosts": [self.host("all", ["*"]), self.host("other", ["test", "*.com"])]}
        if self.delta and self.some(0.3):
            out = {"name": name, "virtual_hosts": [self.host("other", ["test"])], "vhds": {"config_source": ADS}}
        if self.some(0.3):
            out["validate_clusters"] = False
        return out

    def scoped_route(self, name):
        return {"name": name, "key": {"fragments": [{"string_key": {"scope0": "test", "scope1": "a.com"}.get(name, "v1.com")}]},
                "route_configuration_name": self.name("route"), "on_demand": self.some(0.5)}

    # --- secrets, runtime ---

    def secret(self, name):
        if name == "ca":
            return {"name": name, "validation_context": {"trusted_ca": {"inline_string": self.leaf.issuer.text()}}}
        out = {"name": name, "tls_certificate": self.leaf.inline()}
        if self.some(0.15):
            out["tls_certificate"]["certificate_chain"] = {"inline_string": "-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n"}
        return out

    def runtime(self, name):
        return {"name": name, "layer": {"upstream": {"healthy_panic_threshold": self.rng.randrange(100)}, "chaos": {"on": self.rng.randrange(100)},
                                        "overload": {"global_downstream_max_connections": 100000}}}

    # --- filters ---

    def http_filter_config(self, name):
        return self.pick(
            ("header_mutation", "filters.http.header_mutation.v3.HeaderMutation", {"mutations": {"response_mutations": [{"append": {"header": {"key": "x-m", "value": name}}}]}}),
            ("cors", "filters.http.cors.v3.Cors", {}),
            ("buffer", "filters.http.buffer.v3.Buffer", {"max_request_bytes": self.pick(1000, 1000000)}),
            ("compressor", "filters.http.compressor.v3.Compressor", {"compressor_library": typed("gzip", "compression.gzip.compressor.v3.Gzip")}),
            ("fault", "filters.http.fault.v3.HTTPFault", {"delay": {"fixed_delay": "0.01s", "percentage": {"numerator": self.pick(0, 30)}}}),
            ("grpc_stats", "filters.http.grpc_stats.v3.FilterConfig", {"emit_filter_state": True}),
            ("health_check", "filters.http.health_check.v3.HealthCheck", {"pass_through_mode": False, "headers": [{"name": ":path", "string_match": {"exact": "/healthz"}}]}),
            ("rbac", "filters.http.rbac.v3.RBAC", {}),
            ("local_ratelimit", "filters.http.local_ratelimit.v3.LocalRateLimit", {
                "stat_prefix": "lrl", "token_bucket": {"max_tokens": 1000000, "tokens_per_fill": 1000000, "fill_interval": "1s"},
                "filter_enabled": {"default_value": {"numerator": 100}}, "filter_enforced": {"default_value": {"numerator": 100}}}),
            ("on_demand", "filters.http.on_demand.v3.OnDemand", {}),
            ("ext_authz", "filters.http.ext_authz.v3.ExtAuthz", {
                "transport_api_version": "V3", "failure_mode_allow": True, "stat_prefix": "az", "with_request_body": {"max_request_bytes": 100, "allow_partial_message": True},
                "grpc_service": {"envoy_grpc": {"cluster_name": self.pick("authz", self.name("cluster"))}, "timeout": seconds(self.pick(0.01, 0.2))}}))

    def http_filters(self, wild=True):
        out = []
        for number in range(self.rng.randrange(4)):
            short, message, body = self.http_filter_config(f"f{number}")
            out.append(typed(f"envoy.filters.http.{short}", message, **body))
        if self.some(0.2):
            name = self.name("extension")
            out.append({"name": name, "config_discovery": {
                "config_source": {**ADS, "initial_fetch_timeout": "0.2s"}, "default_config": tree(EXT + "filters.http.header_mutation.v3.HeaderMutation", {}),
                "type_urls": ["type.googleapis.com/" + EXT + m for m in EXTENSION_TYPES]}})
        if wild and self.some(0.15):
            out.append(typed("envoy.filters.http.dynamic_forward_proxy", "filters.http.dynamic_forward_proxy.v3.FilterConfig", dns_cache_config=self.dns_cache()))
        return [*out, config.router()]

    def extension(self, name):
        short, body = self.pick(*EXTENSION_TYPES.items())
        return {"name": name, "typed_config": tree(EXT + short, body)}

    def hcm(self, name):
        over = {"http_filters": self.http_filters(), "http2_protocol_options": {"allow_connect": True}}
        if self.some(0.15):
            over["scoped_routes"] = {"name": "scopes", "rds_config_source": ADS, "scoped_rds": {"scoped_rds_config_source": ADS},
                                     "scope_key_builder": {"fragments": [{"header_value_extractor": {"name": ":authority", "index": 0}}]}}
        elif self.some(0.6):
            over["rds"] = {"route_config_name": "good" if self.some(0.2) else self.name("route"), "config_source": {**ADS, "initial_fetch_timeout": "0.3s"}}
        else:
            over["route_config"] = {"virtual_hosts": [self.host("inline", ["*"])], "name": "inline", "validate_clusters": False}
        if self.some(0.7):
            over["upgrade_configs"] = [{"upgrade_type": "websocket"}, {"upgrade_type": "CONNECT"}]
        over["codec_type"] = self.pick("AUTO", "AUTO", "HTTP1", "HTTP2")
        if self.some(0.3):
            over["access_log"] = [config.file_log(self.log_path)]
        if self.some(0.3):
            over["common_http_protocol_options"] = {"idle_timeout": seconds(self.pick(0.02, 0.3)), "max_connection_duration": seconds(self.pick(0.05, 1)),
                                                    "max_requests_per_connection": self.pick(1, 3, 100)}
        if self.some(0.3):
            over.update(stream_idle_timeout=seconds(self.pick(0.02, 0.3)), request_timeout=seconds(self.pick(0.02, 0.5)), drain_timeout=seconds(self.pick(0.001, 0.2)),
                        request_headers_timeout=seconds(self.pick(0.02, 0.5)), delayed_close_timeout=seconds(self.pick(0.01, 0.5)))
        out = config.hcm(stat_prefix=name, **({"rds": {}} if "route_config" not in over else {}))
        if "rds" not in over and "rds" in out["typed_config"]:
            del out["typed_config"]["rds"]
        out["typed_config"] = config.merge(out["typed_config"], over)
        return out

    def tcp_filter(self, name):
        over = {"cluster": self.any_cluster()}
        if self.some(0.3):
            over["tunneling_config"] = {"hostname": "tunnel:1", "use_post": self.some(0.3), "propagate_response_headers": self.some(0.5)}
        if self.some(0.3):
            over["idle_timeout"] = seconds(self.pick(0.03, 0.5))
        if self.some(0.2):
            over["max_downstream_connection_duration"] = seconds(self.pick(0.03, 0.3))
        if self.some(0.2):
            over["max_connect_attempts"] = 3
        if self.some(0.2):
            over["access_log"] = [config.file_log(self.log_path, text="%BYTES_SENT% %UPSTREAM_HOST% %RESPONSE_FLAGS%\n")]
        return tcp(name, **over)

    def network_filters(self, name):
        out = []
        if self.some(0.15):
            out.append(typed("envoy.filters.network.connection_limit", "filters.network.connection_limit.v3.ConnectionLimit", stat_prefix="cl",
                             max_connections=self.pick(1, 5, 1000), delay=seconds(self.pick(0.001, 0.1))))
        if self.some(0.15):
            out.append(typed("envoy.filters.network.local_ratelimit", "filters.network.local_ratelimit.v3.LocalRateLimit", stat_prefix="nl",
                             token_bucket={"max_tokens": self.pick(1, 1000), "tokens_per_fill": 1000, "fill_interval": "0.1s"}))
        if self.some(0.1):
            out.append(typed("envoy.filters.network.sni_cluster", "filters.network.sni_cluster.v3.SniCluster"))
        if self.some(0.15):
            out.append(typed("envoy.filters.network.ext_authz", "filters.network.ext_authz.v3.ExtAuthz", stat_prefix="na", transport_api_version="V3", failure_mode_allow=True,
                             grpc_service={"envoy_grpc": {"cluster_name": self.pick("authz", self.name("cluster"))}, "timeout": "0.1s"}))
        last = self.pick("hcm", "hcm", "hcm", "tcp", "tcp", "echo", "direct")
        if last == "hcm":
            out.append(self.hcm(name))
        elif last == "tcp":
            out.append(self.tcp_filter(name))
        elif last == "echo":
            out.append(typed("envoy.filters.network.echo", "filters.network.echo.v3.Echo"))
        else:
            out.append(typed("envoy.filters.network.direct_response", "filters.network.direct_response.v3.Config", response={"inline_string": "hello"}))
        return out

    # --- listeners ---

    def downstream_tls(self):
        common = {"tls_certificate_sds_secret_configs": [self.secret_source()]} if self.some(0.6) else {"tls_certificates": [self.leaf.inline()]}
        if self.some(0.7):
            common["alpn_protocols"] = self.pick(["h2", "http/1.1"], ["http/1.1"], ["h2"])
        body = {"common_tls_context": common, "require_client_certificate": self.some(0.1)}
        if self.some(0.1):
            body["disable_stateless_session_resumption"] = True
        if self.some(0.1):
            common["validation_context_sds_secret_config"] = {"name": "ca", "sds_config": ADS}
        return typed("envoy.transport_sockets.tls", "transport_sockets.tls.v3.DownstreamTlsContext", **body)

    def chain(self, name):
        out = {"filters": self.network_filters(name)}
        if self.some(0.35):
            out["transport_socket"] = self.downstream_tls()
        if self.some(0.1):
            out["transport_socket_connect_timeout"] = seconds(self.pick(0.01, 0.3))
        return out

    def listener(self, name):
        if name == "good":
            return self.good_listener()
        if name == "l5" and self.udp_ports:
            return self.udp_listener(name)
        out = {"name": name, "address": config.address(0), "filter_chains": [], "stat_prefix": name}
        for number in range(self.pick(1, 1, 2)):
            chain = self.chain(name)
            chain["name"] = f"chain{number}"
            if number:
                chain["filter_chain_match"] = self.pick({"server_names": ["a.example"]}, {"transport_protocol": "tls"}, {"application_protocols": ["h2c"]},
                                                        {"source_prefix_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]})
            out["filter_chains"].append(chain)
        if self.some(0.2):
            out["default_filter_chain"] = self.chain(name)
            for chain in out["filter_chains"]:
                chain.setdefault("filter_chain_match", {"destination_port": 1})
        inspectors = []
        if self.some(0.4):
            inspectors.append(typed("envoy.filters.listener.tls_inspector", "filters.listener.tls_inspector.v3.TlsInspector"))
        if self.some(0.2):
            inspectors.append(typed("envoy.filters.listener.http_inspector", "filters.listener.http_inspector.v3.HttpInspector"))
        if self.some(0.1):
            inspectors.append(typed("envoy.filters.listener.proxy_protocol", "filters.listener.proxy_protocol.v3.ProxyProtocol", allow_requests_without_proxy_protocol=True))
        if self.some(0.1):
            inspectors.append(typed("envoy.filters.listener.original_dst", "filters.listener.original_dst.v3.OriginalDst"))
        if inspectors:
            out.update(listener_filters=inspectors, listener_filters_timeout=seconds(self.pick(0.02, 1)), continue_on_listener_filters_timeout=self.some(0.5))
        if self.some(0.2):
            out["per_connection_buffer_limit_bytes"] = self.pick(1, 1000, 32768)
        if self.some(0.2):
            out["enable_reuse_port"] = False
        if self.some(0.1):
            out["connection_balance_config"] = {"exact_balance": {}}
        if self.some(0.1):
            out["access_log"] = [config.file_log(self.log_path)]
        if self.some(0.1):
            out["drain_type"] = "MODIFY_ONLY"
        return out

    def good_listener(self):
        over = {"http_filters": self.http_filters(wild=False), "server_name": f"name-{self.rng.randrange(1000)}", "codec_type": "AUTO",
                "rds": {"route_config_name": "good", "config_source": ADS}}
        if self.some(0.3):
            over["access_log"] = [config.file_log(self.log_path)]
        return config.listener("good", [config.hcm(stat_prefix="good", **over)])

    def udp_listener(self, name):
        body = {"stat_prefix": "u", "matcher": {"on_no_match": {"action": typed("route", "filters.udp.udp_proxy.v3.Route", cluster="udp")}},
                "idle_timeout": seconds(self.pick(0.02, 1)), "use_per_packet_load_balancing": self.some(0.3)}
        if self.some(0.5):
            body["matcher"]["on_no_match"]["action"]["typed_config"]["cluster"] = self.any_cluster()
        return {"name": name, "address": config.merge(config.address(self.pick(*self.udp_ports)), {"socket_address": {"protocol": "UDP"}}),
                "listener_filters": [typed("envoy.filters.udp_listener.udp_proxy", "filters.udp.udp_proxy.v3.UdpProxyConfig", **body)]}

    # --- wrong ones ---

    def broken(self, kind, name):
        """Bytes of a resource with some of them changed, cut or doubled; its name (first field) stays."""
        data = bytearray(encode(kind, self.make(kind, name)).value)
        keep = len(name) + 2
        for _ in range(self.rng.randint(1, 4)):
            if len(data) <= keep:
                break
            at = self.rng.randrange(keep, len(data))
            how = self.rng.randrange(4)
            if how == 0:
                data[at] = self.rng.randrange(256)
            elif how == 1:
                del data[at:]
            elif how == 2:
                data[at:at] = data[keep:at][:200]
            else:
                data[at] ^= 1 << self.rng.randrange(8)
        return bytes(data)


EXTENSION_TYPES = {
    "filters.http.header_mutation.v3.HeaderMutation": {"mutations": {"response_mutations": [{"append": {"header": {"key": "x-e", "value": "1"}}}]}},
    "filters.http.buffer.v3.Buffer": {"max_request_bytes": 100000},
    "filters.http.cors.v3.Cors": {},
    "filters.http.fault.v3.HTTPFault": {"delay": {"fixed_delay": "0.005s", "percentage": {"numerator": 50}}},
}

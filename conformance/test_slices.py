"""Our slices against the published descriptors (PyPI xds-protos): nothing renamed, renumbered, retyped or left out.

Runs under pytest with a Python that has xds-protos; without it the module is skipped, which ./dev test counts aloud.
"""
import importlib
import os
import pkgutil
import subprocess

import pytest

pytest.importorskip("envoy.config.core.v3.base_pb2", reason="xds-protos is not installed")

from google.protobuf import descriptor_pb2, descriptor_pool  # noqa: E402

F = descriptor_pb2.FieldDescriptorProto
SLICES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "proto")
OURS_ALONE = ("skiff/", "validate/", "istio/")  # Istio publishes no descriptors
# Fields of Envoy 1.40's API (go-control-plane envoy/v1.40.0) that the descriptors on PyPI do not know yet.
NEWER = {
    "envoy.config.bootstrap.v3.Bootstrap": {43: "enable_worker_cpu_affinity"},
    "envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget": {3: "budget_interval"},
    "envoy.config.cluster.v3.Cluster": {60: "per_connection_buffer_high_watermark_timeout", 61: "stats_matcher", 62: "queuing_policies"},
    "envoy.config.cluster.v3.Cluster.PreconnectPolicy": {3: "preconnect_enabled_metadata"},
    "envoy.config.cluster.v3.OutlierDetection": {26: "detect_degraded_hosts"},
    "envoy.config.core.v3.BindConfig": {7: "validate_network_namespaces"},
    "envoy.config.core.v3.HealthCheck": {27: "name"},
    "envoy.config.core.v3.HealthCheck.HttpHealthCheck": {15: "use_alpn_protocol"},
    "envoy.config.core.v3.Http2ProtocolOptions": {18: "enable_huffman_encoding", 19: "max_header_field_size_kb", 20: "disallow_obs_text", 21: "stream_reset_burst", 22: "stream_reset_rate"},
    "envoy.config.core.v3.Http3ProtocolOptions": {9: "disallow_obs_text"},
    "envoy.config.core.v3.HttpProtocolOptions": {8: "max_connection_duration_jitter"},
    "envoy.config.core.v3.HttpService": {3: "formatters"},
    "envoy.config.core.v3.PathConfigSource": {3: "poll_interval"},
    "envoy.config.core.v3.SocketOption": {8: "ip_version"},
    "envoy.config.core.v3.WatchedDirectory": {2: "watch_modify"},
    "envoy.config.endpoint.v3.Endpoint": {5: "observability_name"},
    "envoy.config.listener.v3.AdditionalAddress": {3: "tcp_keepalive"},
    "envoy.config.listener.v3.Listener": {37: "tcp_keepalive", 38: "per_connection_buffer_high_watermark_timeout", 39: "stats_matcher"},
    "envoy.config.metrics.v3.StatsConfig": {5: "allow_default_tag_overrides"},
    "envoy.config.route.v3.RateLimit": {7: "x_ratelimit_option"},
    "envoy.config.route.v3.RateLimit.Action.GenericKey": {3: "default_value"},
    "envoy.config.route.v3.RateLimit.Action.HeaderValueMatch": {5: "default_value"},
    "envoy.config.route.v3.RateLimit.Action.QueryParameterValueMatch": {5: "default_value"},
    "envoy.config.route.v3.RateLimit.HitsAddend": {3: "is_negative_hits"},
    "envoy.config.route.v3.RetryPolicy": {14: "refresh_cluster_on_retry"},
    "envoy.config.route.v3.Route": {21: "route_specifiers"},
    "envoy.config.route.v3.RouteConfiguration": {19: "route_specifiers"},
    "envoy.config.route.v3.RouteMatch": {17: "cookies"},
    "envoy.config.route.v3.VirtualHost": {26: "route_specifiers"},
    "envoy.extensions.clusters.dns.v3.DnsCluster": {10: "dns_min_refresh_rate"},
    "envoy.extensions.filters.http.fault.v3.FaultAbort": {6: "response_body"},
    "envoy.extensions.filters.http.header_mutation.v3.Mutations": {6: "formatters"},
    "envoy.extensions.filters.http.jwt_authn.v3.JwtClaimToHeader": {3: "claim_path"},
    "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit": {19: "enable_retry_after_header"},
    "envoy.extensions.filters.http.router.v3.Router": {10: "reject_connect_request_early_data"},
    "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol.KeyValuePair": {3: "value_string_encoding"},
    "envoy.extensions.filters.network.ext_authz.v3.ExtAuthz": {12: "shadow_mode"},
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager": {61: "forward_proto_config", 62: "drain_timeout_jitter", 63: "record_route_resolution_stats"},
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.SetCurrentClientCertDetails": {7: "format", 8: "issuer"},
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.Tracing": {13: "no_context_propagation"},
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy": {23: "proxy_protocol_tlv_merge_policy", 24: "check_drain_close"},
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.TcpAccessLogOptions": {3: "flush_access_log_on_start"},
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.TunnelingConfig": {10: "formatters"},
    "envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig.UdpTunnelingConfig": {12: "formatters"},
    "envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost": {2: "selected_host_key"},
    "envoy.extensions.matching.common_inputs.network.v3.FilterStateInput": {2: "field"},
    "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig": {12: "qcache_max_ttl"},
    "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext": {18: "suppress_client_ca_list"},
    "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig.TrustDomain": {3: "workload_trust_domain"},
    "envoy.extensions.transport_sockets.tls.v3.TlsCertificate": {9: "tls_params"},
    "envoy.type.matcher.v3.AddressMatcher": {2: "invert_match"},
    "envoy.type.tracing.v3.CustomTag": {7: "value_type"},
}
NEWER_ENUMS = {  # whole enums and values of enums
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.ForwardClientCertFormat": {("TEXT", 0), ("JSON", 1)},
    "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol.KeyValuePair.ValueStringEncoding": {
        ("UNSPECIFIED", 0), ("SANITIZED_UTF8", 1), ("BASE64", 2)},
    "envoy.extensions.filters.network.tcp_proxy.v3.ProxyProtocolTlvMergePolicy": {
        ("ADD_IF_ABSENT", 0), ("OVERWRITE_BY_TYPE_IF_EXISTS_OR_ADD", 1), ("APPEND_IF_EXISTS_OR_ADD", 2)},
    "envoy.extensions.transport_sockets.tls.v3.TlsParameters.CompliancePolicy": {("CNSA2_202603", 1), ("CNSA1_202603", 2)},
}
TLS = "envoy.extensions.transport_sockets.tls."
NEWER_MESSAGES = ("envoy.config.route.v3.CookieMatcher", TLS + "cert_mappers.sni.v3.SNI", TLS + "cert_mappers.static_name.v3.StaticName",
                  TLS + "cert_selectors.on_demand_secret.v3.Config")
WELL_KNOWN = "any duration empty field_mask struct timestamp wrappers descriptor".split()


def import_published():
    """Every published module, so that the default pool knows every type."""
    for root in ("envoy", "xds", "udpa", "validate", "google.rpc"):
        package = importlib.import_module(root)
        for module in pkgutil.walk_packages(package.__path__, root + "."):
            if module.name.endswith("_pb2"):
                try:
                    importlib.import_module(module.name)
                except Exception:  # pylint: disable=broad-except
                    pass  # its own imports are not published; a slice that needs it fails below
    return descriptor_pool.Default()


def read_slices(folder):
    """The FileDescriptorSet of our slices."""
    known = descriptor_pb2.FileDescriptorSet()
    for name in WELL_KNOWN:
        importlib.import_module(f"google.protobuf.{name}_pb2").DESCRIPTOR.CopyToProto(known.file.add())
    (folder / "known.desc").write_bytes(known.SerializeToString())
    names = [os.path.relpath(os.path.join(at, n), SLICES) for at, _, ns in os.walk(SLICES) for n in ns
             if n.endswith(".proto")]
    subprocess.run(["protoc", f"--descriptor_set_in={folder / 'known.desc'}", f"-I{SLICES}", "-o",
                    str(folder / "slices.desc"), *names], check=True)
    return descriptor_pb2.FileDescriptorSet.FromString((folder / "slices.desc").read_bytes())


def walk(prefix, messages):
    for message in messages:
        name = f"{prefix}.{message.name}"
        if name in NEWER_MESSAGES:
            continue
        yield name, message
        yield from walk(name, message.nested_type)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    pool = import_published()  # first: it teaches the parser the rules' extension
    files = read_slices(tmp_path_factory.mktemp("slices"))
    return pool, [f for f in files.file if not f.name.startswith(OURS_ALONE)]


def published_message(pool, name):
    proto = descriptor_pb2.DescriptorProto()
    pool.FindMessageTypeByName(name).CopyToProto(proto)
    return proto


def type_of(field):
    return (field.type, field.type_name) if field.type_name else (field.type, None)


def compare_field(pool, where, ours, theirs):
    """What differs between two FieldDescriptorProtos of one number."""
    out = []
    for part in ("name", "label"):
        if getattr(ours, part) != getattr(theirs, part):
            out.append(f"{where}: {part} {getattr(ours, part)} is {getattr(theirs, part)} upstream")
    left_out = ours.type_name == ".skiff.Unsupported" and theirs.type == F.TYPE_MESSAGE
    if type_of(ours) != type_of(theirs) and not left_out:
        out.append(f"{where}: type {type_of(ours)} is {type_of(theirs)} upstream")
    if ours.options.deprecated != theirs.options.deprecated:
        out.append(f"{where}: deprecated differs")
    rules = pool.FindExtensionByName("validate.rules")
    if ours.options.Extensions[rules] != theirs.options.Extensions[rules]:
        out.append(f"{where}: rules differ")
    return out


def oneofs(message):
    """The sets of numbers that exclude each other; a proto3 `optional` is our oneof of one."""
    groups = {}
    for field in message.field:
        if field.HasField("oneof_index"):
            groups.setdefault(field.oneof_index, set()).add(field.number)
    return sorted(map(sorted, groups.values()))


def compare_message(pool, name, ours):
    theirs = published_message(pool, name)
    mine, upstream = ({f.number: f for f in m.field} for m in (ours, theirs))
    out = [f"{name}: field {upstream[n].name} = {n} is missing" for n in upstream.keys() - mine.keys()]
    newer = NEWER.get(name, {})
    out += [f"{name}: field {mine[n].name} = {n} does not exist upstream" for n in mine.keys() - upstream.keys()
            if newer.get(n) != mine[n].name]
    for number in mine.keys() & upstream.keys():
        out += compare_field(pool, f"{name}.{upstream[number].name}", mine[number], upstream[number])
    if not out and oneofs(ours) != oneofs(theirs):
        out.append(f"{name}: oneofs differ")
    required = pool.FindExtensionByName("validate.required")
    if not out and (sum(o.options.Extensions[required] for o in ours.oneof_decl)
                    != sum(o.options.Extensions[required] for o in theirs.oneof_decl)):
        out.append(f"{name}: required oneofs differ")
    return out


def declares_fields(pool, name, ours):
    """A message that only houses nested ones that we use may be empty here."""
    return ours.field or not published_message(pool, name).field


def test_every_message_is_whole(world):
    pool, files = world
    wrong, houses = [], []
    for file in files:
        for name, message in walk(file.package, file.message_type):
            if declares_fields(pool, name, message):
                wrong += compare_message(pool, name, message)
            else:
                houses.append(name)
    assert not wrong, "\n".join(wrong)
    used = {f.type_name[1:] for file in files for _, m in walk(file.package, file.message_type) for f in m.field}
    assert not used & set(houses), "a message without fields is used as a type"


def published_values(pool, name):
    try:
        return {(v.name, v.number) for v in pool.FindEnumTypeByName(name).values}
    except KeyError:
        assert name in NEWER_ENUMS, name
        return set()


def test_every_enum_is_whole(world):
    pool, files = world
    wrong = []
    for file in files:
        found = [(f"{file.package}.{e.name}", e) for e in file.enum_type]
        for name, message in walk(file.package, file.message_type):
            found += [(f"{name}.{e.name}", e) for e in message.enum_type]
        for name, enum in found:
            theirs = published_values(pool, name) | NEWER_ENUMS.get(name, set())
            mine = {(v.name, v.number) for v in enum.value}
            if mine != theirs:
                wrong.append(f"{name}: {sorted(mine ^ theirs)}")
    assert not wrong, "\n".join(wrong)


def test_paths_and_packages_are_upstreams(world):
    pool, files = world
    for file in files:
        if file.message_type and not list(walk(file.package, file.message_type)):
            continue  # all of it is newer
        theirs = pool.FindFileByName(file.name)
        assert theirs.package == file.package
        for name, _ in walk(file.package, file.message_type):
            assert pool.FindMessageTypeByName(name).file.name == file.name


def test_newer_fields_are_still_unknown_there(world):
    """What PyPI knows by now is compared with it and leaves the list."""
    pool, _ = world
    known = set()
    for name, fields in NEWER.items():
        published = {f.number for f in published_message(pool, name).field}
        known |= {(name, number) for number in fields if number in published}
    assert not known

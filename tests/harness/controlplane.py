"""An xDS control plane for tests: ADS, state of the world and delta, resources given as dicts in the JSON mapping.

    plane = ControlPlane()
    plane.set("cluster", [config.cluster("a", [port])])     # a new version, pushed to every stream that wants it
    plane.wait_ack("cluster")                               # the proxy took that version
    plane.nacks                                             # [(type, version, message)]

Messages are those of PyPI xds-protos. Every request is kept in `requests`, delta ones in `delta_requests`. A proxy
speaks delta when its bootstrap says so (`ads_bootstrap(…, delta=True)`); then only what changed is sent. Kind
"virtual_host" (delta only) is named `<route table>/<name>`; `aliases` tells by which other names it may be asked for.
"""
import threading
from concurrent import futures

import grpc
from google.protobuf import any_pb2, json_format, symbol_database

from harness.wait import LONG, wait_for

# All the types that tests put into an Any must be known to protobuf's registry.
from envoy.config.bootstrap.v3 import bootstrap_pb2  # noqa: F401
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2, scoped_route_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2  # noqa: F401
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2  # noqa: F401
from envoy.extensions.filters.http.on_demand.v3 import on_demand_pb2  # noqa: F401
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2  # noqa: F401
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401
from envoy.extensions.filters.listener.proxy_protocol.v3 import proxy_protocol_pb2  # noqa: F401
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2  # noqa: F401
from envoy.extensions.filters.network.direct_response.v3 import config_pb2 as direct_response_pb2  # noqa: F401
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2  # noqa: F401
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2  # noqa: F401
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2  # noqa: F401
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2  # noqa: F401
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2  # noqa: F401
from envoy.service.runtime.v3 import rtds_pb2
from envoy.service.secret.v3 import sds_pb2_grpc

KINDS = {
    "listener": listener_pb2.Listener,
    "cluster": cluster_pb2.Cluster,
    "route": route_pb2.RouteConfiguration,
    "endpoint": endpoint_pb2.ClusterLoadAssignment,
    "runtime": rtds_pb2.Runtime,
    "secret": secret_pb2.Secret,
    "extension": extension_pb2.TypedExtensionConfig,
    "scoped_route": scoped_route_pb2.ScopedRouteConfiguration,
    "virtual_host": route_components_pb2.VirtualHost,
}
ORDER = ("cluster", "endpoint", "secret", "listener", "extension", "scoped_route", "route", "virtual_host", "runtime")
# Services of one type each: (name, state of the world, delta).
SEPARATE = [(f"envoy.service.{package}.v3.{name}", f"Stream{what}", f"Delta{what}") for package, name, what in (
    ("cluster", "ClusterDiscoveryService", "Clusters"), ("route", "RouteDiscoveryService", "Routes"),
    ("route", "ScopedRoutesDiscoveryService", "ScopedRoutes"), ("route", "VirtualHostDiscoveryService", "VirtualHosts"),
    ("extension", "ExtensionConfigDiscoveryService", "ExtensionConfigs"))]
PREFIX = "type.googleapis.com/"
URL = {kind: PREFIX + message.DESCRIPTOR.full_name for kind, message in KINDS.items()}
KIND = {url: kind for kind, url in URL.items()}


def encode(kind, resource):
    """An Any of a resource: a dict in the JSON mapping, or the raw bytes of the message."""
    out = any_pb2.Any(type_url=URL[kind])
    if isinstance(resource, bytes):
        out.value = resource
    else:
        message = KINDS[kind]()
        json_format.ParseDict(resource, message)
        out.value = message.SerializeToString(deterministic=True)
    return out


def name_of(resource):
    return resource.get("cluster_name") or resource["name"]


def tree(message_name, value):
    """A dict as an Any's JSON form (for tests that build typed_config from Python)."""
    return {"@type": PREFIX + message_name, **value}


class Stream:
    """One ADS stream: what it asked for, what it was sent last."""

    def __init__(self):
        self.wanted = {}   # kind -> set of names, or None for all
        self.sent = {}     # kind -> version
        self.acked = {}
        self.nonce = 0
        self.have = {}     # delta: kind -> {name: bytes} as the proxy knows them
        self.asked = {}    # delta: kind -> names that have had no answer yet


class ControlPlane(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):
    def __init__(self, port=0, version=0, credentials=None):
        self.changed = threading.Condition()
        self.resources = {kind: {} for kind in KINDS}
        self.versions = {kind: version for kind in KINDS}
        self.served = {kind: False for kind in KINDS}
        self.requests, self.nacks, self.acks, self.streams = [], [], [], 0
        self.delta_requests, self.aliases, self.answer_unknown = [], {}, True
        self.live, self.stopping, self.muted = set(), False, False
        self.server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(self, self.server)
        secrets = sds_pb2_grpc.SecretDiscoveryServiceServicer()
        secrets.StreamSecrets = self.StreamAggregatedResources
        sds_pb2_grpc.add_SecretDiscoveryServiceServicer_to_server(secrets, self.server)
        for service, sotw, delta in SEPARATE:
            self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {
                sotw: grpc.stream_stream_rpc_method_handler(
                    self.StreamAggregatedResources, discovery_pb2.DiscoveryRequest.FromString, discovery_pb2.DiscoveryResponse.SerializeToString),
                delta: grpc.stream_stream_rpc_method_handler(
                    self.DeltaAggregatedResources, discovery_pb2.DeltaDiscoveryRequest.FromString,
                    discovery_pb2.DeltaDiscoveryResponse.SerializeToString)}),))
        where = f"127.0.0.1:{port}"
        self.port = self.server.add_secure_port(where, credentials) if credentials else self.server.add_insecure_port(where)
        assert self.port, f"port {port} is not free"
        self.server.start()

    # --- what tests say ---

    def set(self, kind, resources, version=None):
        """Serves these (dicts) from now on, as a new version."""
        with self.changed:
            self.resources[kind] = {name_of(r): encode(kind, r) for r in resources}
            self.bump(kind, version)

    def set_virtual_hosts(self, table, hosts, aliases=None):
        """{name: dict, or None for "there is none"} of a route table; aliases {name: [domains that mean it]}."""
        with self.changed:
            self.resources["virtual_host"] = {f"{table}/{name}": host and encode("virtual_host", host) for name, host in hosts.items()}
            self.aliases = {f"{table}/{name}": [f"{table}/{one}" for one in more] for name, more in (aliases or {}).items()}
            for name in [f"{table}/{name}" for name, host in hosts.items() if not host]:
                self.aliases.setdefault(name, [name])  # an empty resource with an alias means "there is none"
            self.bump("virtual_host", None)

    def set_raw(self, kind, resources, version=None):
        """{name: bytes} served as they are, right or wrong."""
        with self.changed:
            self.resources[kind] = {name: encode(kind, data) for name, data in resources.items()}
            self.bump(kind, version)

    def bump(self, kind, version):
        self.versions[kind] = version if version is not None else self.versions[kind] + 1
        self.served[kind] = True
        self.changed.notify_all()

    def mute(self, muted=True):
        """Answers nothing while muted."""
        with self.changed:
            self.muted = muted
            self.changed.notify_all()

    def version(self, kind):
        return str(self.versions[kind])

    def wait_ack(self, kind, version=None, seconds=LONG):
        version = version or self.version(kind)
        wait_for(lambda: (kind, version) in self.acks, f"an ACK of {kind} {version}; nacks: {self.nacks}", seconds)

    def wait_nack(self, kind, version=None, seconds=LONG):
        """The text of the refusal of this version."""
        version = version or self.version(kind)

        def find():
            return [text for k, v, text in self.nacks if (k, v) == (kind, version)]
        return wait_for(find, f"a NACK of {kind} {version}", seconds)[0]

    def wait_subscribed(self, kind, names=None, seconds=LONG):
        def find():
            with self.changed:
                for stream in self.live:
                    wanted = stream.wanted.get(kind, ())
                    if kind in stream.wanted and (names is None or (wanted is not None and set(names) <= wanted)):
                        return True
            return False
        wait_for(find, f"a subscription to {kind} {names}", seconds)

    def wait_subscribed_name(self, kind, name, seconds=LONG):
        """Until a request said this name, beside whatever else is subscribed."""
        def find():
            with self.changed:
                return any(KIND.get(r.type_url) == kind and name in r.resource_names_subscribe for r in self.delta_requests) or \
                    any(KIND.get(r.type_url) == kind and name in r.resource_names for r in self.requests)
        wait_for(find, f"a subscription to {kind} {name}", seconds)

    def stop(self, grace=None):
        with self.changed:
            self.stopping = True
            self.changed.notify_all()
        self.server.stop(grace).wait()

    # --- gRPC ---

    def StreamAggregatedResources(self, requests, context):
        yield from self.serve(requests, context, self.on_request, self.next_answer)

    def DeltaAggregatedResources(self, requests, context):
        yield from self.serve(requests, context, self.on_delta_request, self.next_delta)

    def serve(self, requests, context, on_request, next_answer):
        stream = Stream()
        with self.changed:
            self.streams += 1
            self.live.add(stream)

        def read():
            try:
                for request in requests:
                    on_request(stream, request)
            except grpc.RpcError:
                pass
            finally:
                with self.changed:
                    self.live.discard(stream)
                    self.changed.notify_all()
        threading.Thread(target=read, daemon=True).start()
        while True:
            with self.changed:
                answer = None
                while not answer:
                    if self.stopping or stream not in self.live or not context.is_active():
                        return
                    answer = None if self.muted else next_answer(stream)
                    if not answer:
                        self.changed.wait(1)
            yield answer

    def on_request(self, stream, request):
        kind = KIND.get(request.type_url)
        with self.changed:
            self.requests.append(request)
            if kind:
                names = set(request.resource_names) or None
                if stream.wanted.get(kind, ()) != names:
                    stream.wanted[kind] = names
                    stream.sent.pop(kind, None)
                if request.error_detail.message:
                    self.nacks.append((kind, self.version_of(stream, kind, request.response_nonce), request.error_detail.message))
                elif request.response_nonce:
                    self.acks.append((kind, request.version_info))
            self.changed.notify_all()

    def version_of(self, stream, kind, nonce):
        return stream.acked.get(nonce) or self.version(kind)

    def next_answer(self, stream):
        for kind in ORDER:
            if kind not in stream.wanted or not self.served[kind]:
                continue
            if stream.sent.get(kind) == self.versions[kind]:
                continue
            wanted = stream.wanted[kind]
            found = [r for n, r in self.resources[kind].items() if wanted is None or n in wanted]
            if wanted is not None and not found:
                continue
            stream.sent[kind] = self.versions[kind]
            stream.nonce += 1
            nonce = f"{kind}-{stream.nonce}"
            stream.acked[nonce] = self.version(kind)
            return discovery_pb2.DiscoveryResponse(version_info=self.version(kind), type_url=URL[kind], nonce=nonce, resources=found)
        return None

    # --- delta ---

    def on_delta_request(self, stream, request):
        kind = KIND.get(request.type_url)
        with self.changed:
            self.delta_requests.append(request)
            if not kind:
                return
            names, known = set(request.resource_names_subscribe), kind in stream.wanted
            if not known:
                stream.wanted[kind] = set() if names and "*" not in names else None
                stream.have[kind] = dict.fromkeys(request.initial_resource_versions)  # from a stream before: told anew, or removed
                stream.asked[kind] = set()
            if "*" in names:
                stream.wanted[kind] = None
            elif stream.wanted[kind] is not None:
                stream.wanted[kind] |= names
            stream.asked[kind] |= names - {"*"}
            for name in request.resource_names_unsubscribe:
                stream.have[kind].pop(name, None)
                stream.asked[kind].discard(name)
                if stream.wanted[kind]:
                    stream.wanted[kind].discard(name)
            if request.error_detail.message:
                self.nacks.append((kind, self.version_of(stream, kind, request.response_nonce), request.error_detail.message))
            elif request.response_nonce:
                self.acks.append((kind, stream.acked.get(request.response_nonce, "")))
            self.changed.notify_all()

    def wants(self, stream, kind, name):
        """Virtual hosts: all of a table that is subscribed, unless the test serves them on demand only."""
        wanted = stream.wanted[kind]
        if wanted is None or name in wanted:
            return True
        if kind != "virtual_host":
            return False
        return bool(wanted & set(self.aliases.get(name, ())))

    def next_delta(self, stream):
        for kind in ORDER:
            if kind not in stream.wanted or not self.served[kind]:
                continue
            have, resources, removed = stream.have[kind], [], []
            asked, stream.asked[kind] = stream.asked[kind], set()
            for name, any_resource in self.resources[kind].items():
                data = (any_resource and any_resource.value, tuple(self.aliases.get(name, ())))
                mine = {name, *self.aliases.get(name, ())} & asked
                if not self.wants(stream, kind, name) or (have.get(name) == data and not mine):
                    continue
                asked -= mine
                have[name] = data
                resources.append(discovery_pb2.Resource(name=name, version=self.version(kind), resource=any_resource,
                                                        aliases=self.aliases.get(name, ())))
            for name in [n for n in have if n not in self.resources[kind]]:
                del have[name]
                removed.append(name)
            removed += sorted(asked - set(removed)) if self.answer_unknown else []
            first = stream.sent.get(kind) is None
            stream.sent[kind] = self.versions[kind]
            if not resources and not removed and not first:
                continue
            stream.nonce += 1
            nonce = f"{kind}-{stream.nonce}"
            stream.acked[nonce] = self.version(kind)
            return discovery_pb2.DeltaDiscoveryResponse(system_version_info=self.version(kind), type_url=URL[kind], nonce=nonce,
                                                        resources=resources, removed_resources=removed)
        return None


def grpc_cluster(port, name="xds"):
    """The bootstrap's cluster of the control plane: HTTP/2."""
    return {
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {
            "socket_address": {"address": "127.0.0.1", "port_value": port}}}}]}]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": PREFIX + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}}}},
    }


def ads_bootstrap(port, clusters=(), listeners=(), node="test-node", layers=None, delta=False, **over):
    """A bootstrap that takes everything over ADS."""
    out = {
        "node": {"id": node, "cluster": "test-cluster", "metadata": {"colour": "blue", "count": 3}},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "dynamic_resources": {
            "ads_config": {"api_type": "DELTA_GRPC" if delta else "GRPC", "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]},
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
            "cds_config": {"ads": {}, "resource_api_version": "V3"}},
        "static_resources": {"clusters": [grpc_cluster(port), *clusters], "listeners": list(listeners)},
    }
    if layers:
        out["layered_runtime"] = {"layers": layers}
    out.update(over)
    return out


ADS = {"ads": {}, "resource_api_version": "V3"}


def separate(delta=False):
    """A config source with a stream of its own, to the cluster of the control plane."""
    return {"resource_api_version": "V3", "api_config_source": {
        "api_type": "DELTA_GRPC" if delta else "GRPC", "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]}}


assert symbol_database  # the registry that json_format asks for Any types

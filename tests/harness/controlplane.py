"""An xDS control plane for tests: state of the world over ADS, resources given as dicts in the JSON mapping.

    plane = ControlPlane()
    plane.set("cluster", [config.cluster("a", [port])])     # a new version, pushed to every stream that wants it
    plane.wait_ack("cluster")                               # the proxy took that version
    plane.nacks                                             # [(type, version, message)]

Messages are those of PyPI xds-protos. Every request is kept in `requests`.
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
from envoy.config.route.v3 import route_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2  # noqa: F401
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2  # noqa: F401
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2  # noqa: F401
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from envoy.service.runtime.v3 import rtds_pb2

KINDS = {
    "listener": listener_pb2.Listener,
    "cluster": cluster_pb2.Cluster,
    "route": route_pb2.RouteConfiguration,
    "endpoint": endpoint_pb2.ClusterLoadAssignment,
    "runtime": rtds_pb2.Runtime,
}
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


class ControlPlane(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):
    def __init__(self, port=0, version=0):
        self.changed = threading.Condition()
        self.resources = {kind: {} for kind in KINDS}
        self.versions = {kind: version for kind in KINDS}
        self.served = {kind: False for kind in KINDS}
        self.requests, self.nacks, self.acks, self.streams = [], [], [], 0
        self.live, self.stopping, self.muted = set(), False, False
        self.server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(self, self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        assert self.port, f"port {port} is not free"
        self.server.start()

    # --- what tests say ---

    def set(self, kind, resources, version=None):
        """Serves these (dicts) from now on, as a new version."""
        with self.changed:
            self.resources[kind] = {name_of(r): encode(kind, r) for r in resources}
            self.bump(kind, version)

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

    def stop(self, grace=None):
        with self.changed:
            self.stopping = True
            self.changed.notify_all()
        self.server.stop(grace).wait()

    # --- gRPC ---

    def StreamAggregatedResources(self, requests, context):
        stream = Stream()
        with self.changed:
            self.streams += 1
            self.live.add(stream)

        def read():
            try:
                for request in requests:
                    self.on_request(stream, request)
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
                    answer = None if self.muted else self.next_answer(stream)
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
        for kind in ("cluster", "endpoint", "listener", "route", "runtime"):
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


def ads_bootstrap(port, clusters=(), listeners=(), node="test-node", layers=None, **over):
    """A bootstrap that takes everything over ADS."""
    out = {
        "node": {"id": node, "cluster": "test-cluster", "metadata": {"colour": "blue", "count": 3}},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "dynamic_resources": {
            "ads_config": {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]},
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
            "cds_config": {"ads": {}, "resource_api_version": "V3"}},
        "static_resources": {"clusters": [grpc_cluster(port), *clusters], "listeners": list(listeners)},
    }
    if layers:
        out["layered_runtime"] = {"layers": layers}
    out.update(over)
    return out


ADS = {"ads": {}, "resource_api_version": "V3"}
assert symbol_database  # the registry that json_format asks for Any types

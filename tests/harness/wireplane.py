"""A control plane that speaks all four variants of xDS on the level of messages, and lies on demand.

    plane = WirePlane("delta")                      # one of VARIANTS
    plane.set("cluster", {"a": {...}})              # served truly: whole, or what changed, by variant
    plane.inject(plane.message("cluster", [...]))   # any message, or bytes, on every stream that carries the type
    plane.wait_answer("cluster", "nonce-7")         # the request that answers it

Requests are kept whole, in order, with the method of their stream.
"""
import queue
import threading
import time
from concurrent import futures

import grpc
from google.protobuf import any_pb2

from envoy.service.discovery.v3 import discovery_pb2
from harness.controlplane import KIND, KINDS, URL, encode, grpc_cluster
from harness.wait import LONG, wait_for

VARIANTS = ("ads-sotw", "ads-delta", "sotw", "delta")
SERVICE = {"listener": ("listener", "ListenerDiscoveryService", "Listeners"),
           "cluster": ("cluster", "ClusterDiscoveryService", "Clusters"),
           "route": ("route", "RouteDiscoveryService", "Routes"),
           "endpoint": ("endpoint", "EndpointDiscoveryService", "Endpoints"),
           "runtime": ("runtime", "RuntimeDiscoveryService", "Runtime")}
METHODS = {"/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources": (None, False),
           "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources": (None, True)}
for _kind, (_package, _service, _what) in SERVICE.items():
    METHODS[f"/envoy.service.{_package}.v3.{_service}/Stream{_what}"] = (_kind, False)
    METHODS[f"/envoy.service.{_package}.v3.{_service}/Delta{_what}"] = (_kind, True)


class Stream:
    def __init__(self, method, kind, delta):
        self.method, self.kind, self.delta = method, kind, delta
        self.out = queue.Queue()
        self.wanted = {}    # kind -> set of names; "*" for all
        self.sent = {}      # kind -> {name: version} that the peer has
        self.open = True


class WirePlane(grpc.GenericRpcHandler):
    def __init__(self, variant, port=0):
        self.variant, self.delta, self.ads = variant, variant.endswith("delta"), variant.startswith("ads")
        self.lock = threading.RLock()
        self.resources = {kind: {} for kind in KINDS}   # name -> (version, Any)
        first = time.monotonic_ns()  # a successor's versions are others
        self.served, self.version, self.nonce = set(), {kind: first for kind in KINDS}, 0
        self.requests, self.streams, self.identifier = [], [], ""
        self.resend = False  # answers a NACK with the same response at once, as go-control-plane does
        options = [("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]
        self.server = grpc.server(futures.ThreadPoolExecutor(64), options=options)
        self.server.add_generic_rpc_handlers([self])
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        assert self.port, f"port {port} is not free"
        self.server.start()

    def stop(self):
        with self.lock:
            for stream in self.streams:
                stream.out.put(None)
        self.server.stop(None).wait()

    # --- configuration for the proxy ---

    def api(self, first_only=False):
        return {"api_type": "DELTA_GRPC" if self.delta else "GRPC", "transport_api_version": "V3",
                "set_node_on_first_message_only": first_only, "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]}

    def source(self, **over):
        """A ConfigSource that means this control plane."""
        if self.ads:
            return {"ads": {}, "resource_api_version": "V3", **over}
        return {"api_config_source": self.api(), "resource_api_version": "V3", **over}

    def bootstrap(self, port=None, first_only=False, **over):
        dynamic = {"lds_config": self.source(), "cds_config": self.source()}
        if self.ads:
            dynamic["ads_config"] = self.api(first_only)
        return {"node": {"id": "test-node", "cluster": "test-cluster"},
                "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
                "dynamic_resources": dynamic, "static_resources": {"clusters": [grpc_cluster(port or self.port)]}, **over}

    # --- serving ---

    def set(self, kind, resources):
        """Serves exactly these {name: dict or bytes}; unchanged ones keep their version."""
        with self.lock:
            self.version[kind] += 1
            self.served.add(kind)
            now = {}
            for name, resource in resources.items():
                packed = encode(kind, resource)
                old = self.resources[kind].get(name)
                now[name] = old if old and old[1] == packed else (str(self.version[kind]), packed)
            self.resources[kind] = now
            for stream in self.streams:
                self.serve(stream, kind)

    def next_nonce(self, kind):
        self.nonce += 1
        return f"{kind}-{self.nonce}"

    def message(self, kind, items, removed=(), type_url=None, nonce=None, version=None):
        """A response of the plane's variant. items: Any, or (name, dict or bytes or Any), or Resource."""
        version = version or str(self.version[kind])
        out = discovery_pb2.DeltaDiscoveryResponse() if self.delta else discovery_pb2.DiscoveryResponse()
        out.type_url, out.nonce = URL[kind] if type_url is None else type_url, nonce if nonce is not None else self.next_nonce(kind)
        out.control_plane.identifier = self.identifier
        for item in items:
            if isinstance(item, discovery_pb2.Resource):
                if self.delta:
                    out.resources.append(item)
                else:
                    out.resources.add().Pack(item)
                continue
            name, body = item if isinstance(item, tuple) else ("", item)
            packed = body if isinstance(body, any_pb2.Any) else encode(kind, body)
            if self.delta:
                out.resources.add(name=name, version=version, resource=packed)
            else:
                out.resources.append(packed)
        if self.delta:
            out.system_version_info = version
            out.removed_resources.extend(removed)
        else:
            out.version_info = version
        return out

    def serve(self, stream, kind, again=False):
        """Sends what the stream wants of the kind and does not have (state of the world: all of it)."""
        if not stream.open or kind not in stream.wanted or kind not in self.served:
            return
        wanted = stream.wanted[kind]
        have = stream.sent.setdefault(kind, {})
        full = {n: v for n, v in self.resources[kind].items() if "*" in wanted or n in wanted}
        changed = {n: v for n, v in full.items() if have.get(n) != v[0]}
        gone = [n for n in have if n not in full]
        if not changed and not gone and not again:
            return
        if self.delta:
            items = [discovery_pb2.Resource(name=n, version=v, resource=body) for n, (v, body) in changed.items()]
            out = self.message(kind, items, removed=gone)
        else:
            if not full and "*" not in wanted:
                return
            out = self.message(kind, [body for _, body in full.values()])
        stream.sent[kind] = {n: v for n, (v, _) in full.items()}
        stream.out.put(out.SerializeToString())

    def inject(self, message, kind=None):
        """Sends a message (or bytes, then with its kind) on every live stream that carries its type."""
        data = message if isinstance(message, bytes) else message.SerializeToString()
        kind = kind or KIND[message.type_url]
        with self.lock:
            for stream in self.streams:
                if stream.open and kind in stream.wanted:
                    stream.out.put(data)

    def close_streams(self):
        with self.lock:
            for stream in self.streams:
                stream.out.put(None)

    # --- what the proxy said ---

    def of(self, kind):
        with self.lock:
            return [r for _, r in self.requests if r.type_url == URL[kind]]

    def wait_answer(self, kind, nonce, seconds=LONG):
        return wait_for(lambda: [r for r in self.of(kind) if r.response_nonce == nonce], f"an answer to {nonce}", seconds)[-1]

    def refusal(self, message, kind=None):
        """Injects it; the text of the NACK."""
        self.inject(message)
        kind = kind or KIND[message.type_url]
        self.wait_answer(kind, message.nonce)

        def texts():  # several streams may have got it
            return [r.error_detail.message for r in self.of(kind) if r.response_nonce == message.nonce and r.error_detail.message]
        return wait_for(texts, f"a refusal of {message.nonce}", 10)[0]

    def accepted(self, message):
        self.inject(message)
        answer = self.wait_answer(KIND[message.type_url], message.nonce)
        assert not answer.error_detail.message, answer.error_detail.message

    def sync(self, kind, seconds=LONG):
        """Until the last thing that set() served of the kind is acknowledged on every stream that wants it."""
        with self.lock:
            nonce = f"{kind}-sync-{self.next_nonce(kind)}"
            items = [body for _, body in self.resources[kind].values()]
            names = {n for s in self.streams if s.open for n in s.wanted.get(kind, ())}
            if not self.delta and "*" not in names:
                items = [body for n, (_, body) in self.resources[kind].items() if n in names]
            message = self.message(kind, () if self.delta else items, nonce=nonce)
        self.inject(message)
        return self.wait_answer(kind, nonce, seconds)

    # --- gRPC ---

    def service(self, call):
        if call.method not in METHODS:
            return None
        kind, delta = METHODS[call.method]
        return grpc.stream_stream_rpc_method_handler(lambda requests, context: self.run(requests, context, Stream(call.method, kind, delta)))

    def run(self, requests, context, stream):
        with self.lock:
            self.streams.append(stream)
        context.add_callback(lambda: stream.out.put(None))
        threading.Thread(target=self.read, args=(requests, stream), daemon=True).start()
        while (data := stream.out.get()) is not None:
            yield data
        with self.lock:
            stream.open = False
            self.streams.remove(stream)

    def read(self, requests, stream):
        kind_of_message = discovery_pb2.DeltaDiscoveryRequest if stream.delta else discovery_pb2.DiscoveryRequest
        try:
            for data in requests:
                request = kind_of_message.FromString(data)
                with self.lock:
                    self.requests.append((stream.method, request))
                    self.on_request(stream, request)
        except grpc.RpcError:
            pass
        stream.out.put(None)

    def on_request(self, stream, request):
        kind = KIND.get(request.type_url)
        if not kind:
            return
        before = stream.wanted.get(kind)
        if stream.delta:
            names = set(before or ())
            if before is None and not request.resource_names_subscribe:
                names.add("*")
            names = names | set(request.resource_names_subscribe)
            names -= set(request.resource_names_unsubscribe)
            have = stream.sent.setdefault(kind, {})
            have.update(request.initial_resource_versions)
            for name in request.resource_names_subscribe:
                if before is not None:
                    have.pop(name, None)  # asked for anew: told anew
        else:
            names = set(request.resource_names) or ({"*"} if kind in ("cluster", "listener") else set())
            if request.resource_names and before != names:
                stream.sent.pop(kind, None)
        stream.wanted[kind] = names
        if request.error_detail.message:
            if self.resend:
                stream.sent.pop(kind, None)
                self.serve(stream, kind)
        elif before != names:
            self.serve(stream, kind)

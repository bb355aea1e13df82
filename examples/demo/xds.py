"""A control plane in 130 lines: state-of-the-world ADS on Debian's python3-grpcio.

The messages are Skiff's own slices of the Envoy API (proto/), turned into Python by protoc at start: nothing from PyPI.
"""
import importlib
import subprocess
import tempfile
import threading
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

FILES = [
    "envoy/service/discovery/v3/discovery.proto",
    "envoy/config/cluster/v3/cluster.proto",
    "envoy/config/endpoint/v3/endpoint.proto",
    "envoy/config/listener/v3/listener.proto",
    "envoy/config/route/v3/route.proto",
    "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
    "envoy/extensions/filters/http/router/v3/router.proto",
    "envoy/extensions/access_loggers/stream/v3/stream.proto",
]
WELL_KNOWN = ("any", "duration", "empty", "field_mask", "struct", "timestamp", "wrappers", "descriptor")
PREFIX = "type.googleapis.com/"
TYPES = {
    "cluster": "envoy.config.cluster.v3.Cluster",
    "endpoint": "envoy.config.endpoint.v3.ClusterLoadAssignment",
    "listener": "envoy.config.listener.v3.Listener",
    "route": "envoy.config.route.v3.RouteConfiguration",
}
METHOD = "StreamAggregatedResources"
SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"


class Messages:
    """Message classes by name, from the .proto files of a folder."""

    def __init__(self, folder):
        known = descriptor_pb2.FileDescriptorSet()
        for name in WELL_KNOWN:
            importlib.import_module(f"google.protobuf.{name}_pb2").DESCRIPTOR.CopyToProto(known.file.add())
        with tempfile.NamedTemporaryFile() as ours, tempfile.NamedTemporaryFile() as out:
            ours.write(known.SerializeToString())
            ours.flush()
            subprocess.run(["protoc", f"--descriptor_set_in={ours.name}", f"-I{folder}", "--include_imports",
                            f"--descriptor_set_out={out.name}", *FILES], check=True)
            files = descriptor_pb2.FileDescriptorSet.FromString(out.read())
        self.pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            self.pool.Add(file)
        self.factory = message_factory.MessageFactory(self.pool)

    def type(self, name):
        return self.factory.GetPrototype(self.pool.FindMessageTypeByName(name))

    def encode(self, name, resource):
        """The bytes of a resource that is written in the JSON mapping."""
        message = self.type(name)()
        json_format.ParseDict(resource, message, descriptor_pool=self.pool)
        return message.SerializeToString(deterministic=True)


class ControlPlane:
    """Serves named resources; `set` makes a new version and pushes it to whoever asked."""

    def __init__(self, proto_folder, port=0):
        self.messages = Messages(proto_folder)
        self.changed = threading.Condition()
        self.resources = {kind: {} for kind in TYPES}
        self.versions = {kind: 0 for kind in TYPES}
        self.request = self.messages.type("envoy.service.discovery.v3.DiscoveryRequest")
        self.response = self.messages.type("envoy.service.discovery.v3.DiscoveryResponse")
        handler = grpc.stream_stream_rpc_method_handler(
            self.stream, request_deserializer=self.request.FromString, response_serializer=self.response.SerializeToString)
        self.server = grpc.server(futures.ThreadPoolExecutor(8))
        self.server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler})])
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        self.server.start()

    def set(self, kind, resources):
        encoded = {r.get("cluster_name") or r["name"]: self.messages.encode(TYPES[kind], r) for r in resources}
        with self.changed:
            self.resources[kind] = encoded
            self.versions[kind] += 1
            self.changed.notify_all()

    def stop(self):
        self.server.stop(None)

    def stream(self, requests, context):
        """One ADS stream: a thread reads what is asked for, this generator answers."""
        wanted, sent = {}, {}

        def read_one(request):
            with self.changed:
                kind = next((k for k, name in TYPES.items() if request.type_url == PREFIX + name), None)
                if request.error_detail.message:
                    print(f"control plane: {kind} refused: {request.error_detail.message}", flush=True)
                names = set(request.resource_names)
                if kind and wanted.get(kind) != names:
                    wanted[kind] = names
                    sent.pop(kind, None)
                self.changed.notify_all()

        def read():
            try:
                for request in requests:
                    read_one(request)
            except grpc.RpcError:
                pass  # the proxy left
        threading.Thread(target=read, daemon=True).start()
        while context.is_active():
            with self.changed:
                answer = self.next_answer(wanted, sent)
                if not answer:
                    self.changed.wait(1)
            if answer:
                yield answer

    def next_answer(self, wanted, sent):
        for kind in ("cluster", "endpoint", "listener", "route"):
            if kind in wanted and self.versions[kind] and sent.get(kind) != self.versions[kind]:
                sent[kind] = self.versions[kind]
                version = str(self.versions[kind])
                answer = self.response(version_info=version, type_url=PREFIX + TYPES[kind], nonce=f"{kind}-{version}")
                for name, value in self.resources[kind].items():
                    if not wanted[kind] or name in wanted[kind]:
                        answer.resources.add(type_url=PREFIX + TYPES[kind], value=value)
                return answer
        return None

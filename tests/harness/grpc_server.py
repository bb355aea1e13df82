"""A gRPC server in threads, for side calls: methods by name, bytes in, bytes out."""
import threading
from concurrent import futures

import grpc


class GrpcServer(grpc.GenericRpcHandler):
    """methods: {"/package.Service/Method": (kind, function(request or iterator, context))}; kind as in grpc's
    handlers: "unary_unary", "stream_stream" and so on. `calls` are the methods asked for, `metadata` what came with them."""

    def __init__(self, methods, credentials=None, options=(), unix=None):
        self.methods, self.lock = methods, threading.Lock()
        self.calls, self.metadata = [], []
        self.server = grpc.server(futures.ThreadPoolExecutor(32), options=[("grpc.max_receive_message_length", -1), *options])
        self.server.add_generic_rpc_handlers((self,))
        address = "127.0.0.1:0"
        self.port = self.server.add_secure_port(address, credentials) if credentials else self.server.add_insecure_port(address)
        self.unix = unix  # the path of a socket that serves it, too
        if unix:
            self.server.add_insecure_port("unix:" + unix)
        self.server.start()

    def service(self, handler_call_details):
        with self.lock:
            self.calls.append(handler_call_details.method)
            self.metadata.append(dict(handler_call_details.invocation_metadata))
        found = self.methods.get(handler_call_details.method)
        if not found:
            return None
        return getattr(grpc, f"{found[0]}_rpc_method_handler")(found[1])

    def stop(self):
        self.server.stop(0).wait()

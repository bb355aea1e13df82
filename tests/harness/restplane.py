"""A control plane that is polled by HTTP (ApiConfigSource REST): POST /v3/discovery:<kind>, JSON both ways.

    plane = RestPlane()
    plane.set("cluster", [config.cluster("a", [port])])   # from now on; a new version
    plane.fail("endpoint", 503)                           # answers so until the next set; or body=b"nonsense"
    plane.questions("route")                              # [(headers, message)] so far
"""
import http.server
import json
import threading

from harness.controlplane import URL, name_of
from harness.wait import LONG, wait_for

KINDS = {"listeners": "listener", "clusters": "cluster", "routes": "route", "endpoints": "endpoint", "secrets": "secret",
         "runtime": "runtime", "extension_configs": "extension", "scoped-routes": "scoped_route"}


class RestPlane:
    def __init__(self, not_modified=False):
        self.lock = threading.Condition()
        self.not_modified = not_modified  # 304 for the version that we have
        self.versions, self.resources, self.failing, self.log = {}, {}, {}, []
        self.stopping = threading.Event()
        plane = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                text = self.rfile.read(int(self.headers.get("content-length", 0)))
                status, body = plane.answer(self.path, dict(self.headers), json.loads(text))
                try:
                    self.send_response(status)
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    self.close_connection = True

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def set(self, kind, resources, version=None):
        with self.lock:
            self.resources[kind] = {name_of(r): {"@type": URL[kind], **r} for r in resources}
            self.versions[kind] = version or str(int(self.versions.get(kind, "0")) + 1)
            self.failing.pop(kind, None)

    def fail(self, kind, status=200, body=b"", hang=False):
        with self.lock:
            self.failing[kind] = (status, body, hang)

    def questions(self, kind, name=None):
        with self.lock:
            return [(headers, m) for k, headers, m in self.log if k == kind and (name is None or m.get("resource_names") == [name])]

    def wait_questions(self, kind, more, seconds=LONG):
        """Until that many questions more have come."""
        wanted = len(self.questions(kind)) + more
        wait_for(lambda: len(self.questions(kind)) >= wanted, f"{more} more questions of {kind}", seconds)

    def answer(self, path, headers, message):
        kind = KINDS[path.removeprefix("/v3/discovery:")]
        with self.lock:
            self.log.append((kind, {k.lower(): v for k, v in headers.items()}, message))
            failing = self.failing.get(kind)
            version, found = self.versions.get(kind), self.resources.get(kind, {})
        if failing:
            if failing[2]:
                self.stopping.wait(LONG)
            return failing[:2]
        if version is None:
            return 404, b""
        if self.not_modified and message.get("version_info") == version:
            return 304, b""
        names = message.get("resource_names")
        resources = [r for n, r in found.items() if names is None or n in names]
        return 200, json.dumps({"version_info": version, "resources": resources}).encode()

    def stop(self):
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()


def rest(cluster="rest", delay="0.1s", timeout="60s", **over):
    """A config source that polls."""
    return {"resource_api_version": "V3", "initial_fetch_timeout": timeout, "api_config_source": {
        "api_type": "REST", "transport_api_version": "V3", "cluster_names": [cluster], "refresh_delay": delay, **over}}

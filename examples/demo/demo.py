"""The demo of `./dev run`: a control plane steers Skiff, which splits requests between two versions of a service.

Everything runs on this machine, on loopback, and ends with Ctrl-C. Needs Debian's python3-grpcio, python3-protobuf,
python3-yaml and protoc.
"""
import argparse
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import yaml

import xds

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ADS = {"ads": {}, "resource_api_version": "V3"}
HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
WEIGHTS = """# Edit and save: the new weights are in force at once, without a failed request.
v1: 90
v2: 10
"""


class Service(http.server.BaseHTTPRequestHandler):
    """A tiny service; its version is the server's."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"hello from {self.server.version}, you asked for {self.path}\n".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.send_header("content-type", "text/plain")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def start_service(version):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.version = version
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(name):
    return {"name": name, "type": "EDS", "connect_timeout": "1s", "eds_cluster_config": {"eds_config": ADS}}


def endpoints(name, port):
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]}


def listener(port):
    manager = {"@type": HCM, "stat_prefix": "demo", "rds": {"route_config_name": "demo", "config_source": ADS},
               "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}]}
    return {"name": "demo", "address": address(port), "filter_chains": [{"filters": [
        {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]}


def routes(weights):
    """v2 for whoever asks for it by header, else by weight."""
    split = [{"name": name, "weight": weight} for name, weight in weights.items()]
    return {"name": "demo", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
        {"match": {"prefix": "/", "headers": [{"name": "x-version", "string_match": {"exact": "v2"}}]}, "route": {"cluster": "v2"}},
        {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": split}}}]}]}


class Plain(yaml.SafeDumper):
    """Writes what occurs twice twice, where YAML would make an alias."""

    def ignore_aliases(self, data):
        return True


def bootstrap(ads_port, admin_port):
    http2 = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}}}}
    return {
        "node": {"id": "demo", "cluster": "demo"},
        "admin": {"address": address(admin_port)},
        "dynamic_resources": {
            "ads_config": {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "ads"}}]},
            "cds_config": ADS, "lds_config": ADS},
        "static_resources": {"clusters": [{"name": "ads", "type": "STATIC", "connect_timeout": "1s",
                                           "typed_extension_protocol_options": http2, "load_assignment": endpoints("ads", ads_port)}]},
    }


def read_weights(path):
    """The weights in the file, or why they cannot be used."""
    with open(path, encoding="utf-8") as file:
        weights = yaml.safe_load(file)
    if not isinstance(weights, dict) or set(weights) != {"v1", "v2"}:
        raise ValueError("the file must have v1 and v2")
    if any(not isinstance(w, int) or w < 0 for w in weights.values()) or sum(weights.values()) == 0:
        raise ValueError("weights are whole numbers, not negative, not all 0")
    return weights


def watch_weights(path, plane):
    """Pushes new routes whenever the file changes."""
    seen = None
    while True:
        try:
            now = os.stat(path).st_mtime_ns
            if now != seen:
                seen = now
                weights = read_weights(path)
                plane.set("route", [routes(weights)])
                print(f"weights: {weights}", flush=True)
        except (OSError, ValueError, yaml.YAMLError) as error:
            print(f"weights not changed: {error}", flush=True)
        time.sleep(0.2)


def wait_until_ready(admin_path, process):
    """The ports of the admin page and of the listener, once Skiff has them; None if it ended."""
    for _ in range(600):
        if process.poll() is not None:
            return None
        try:
            with open(admin_path, encoding="ascii") as file:
                admin = int(file.read().rsplit(":", 1)[1])
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/listeners?format=json", timeout=5) as page:
                statuses = json.load(page).get("listener_statuses", [])
                if statuses:
                    return admin, statuses[0]["local_address"]["socket_address"]["port_value"]
        except (OSError, ValueError, IndexError):
            pass
        time.sleep(0.1)
    sys.exit("skiff did not get a listener within a minute")


def say_what_to_try(work, admin, port):
    print(f"""
Skiff serves two versions of a service, as a control plane tells it.

  try             curl http://127.0.0.1:{port}/anything
  a hundred       for i in $(seq 100); do curl -s http://127.0.0.1:{port}/; done | sort | uniq -c
  the new one     curl -H 'x-version: v2' http://127.0.0.1:{port}/
  edit weights    {work}/weights.yaml

  admin           curl http://127.0.0.1:{admin}/clusters
                  curl http://127.0.0.1:{admin}/stats/prometheus
                  curl http://127.0.0.1:{admin}/config_dump
  bootstrap       {work}/bootstrap.yaml
  log             {work}/skiff.log

Ctrl-C ends it.
""", flush=True)


def stop(process, plane):
    if process.poll() is None:
        process.terminate()
        process.wait()
    plane.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skiff", default=os.path.join(REPO, "build/release/skiff"))
    parser.add_argument("--port", type=int, default=0, help="the listener's port; default: one that is free")
    parser.add_argument("--admin-port", type=int, default=0)
    options = parser.parse_args()
    work = tempfile.mkdtemp(prefix="skiff-demo-")
    weights_path, admin_path = os.path.join(work, "weights.yaml"), os.path.join(work, "admin")
    with open(weights_path, "w", encoding="utf-8") as out:
        out.write(WEIGHTS)
    plane = xds.ControlPlane(os.path.join(REPO, "proto"))
    plane.set("cluster", [cluster("v1"), cluster("v2")])
    plane.set("endpoint", [endpoints(version, start_service(version)) for version in ("v1", "v2")])
    plane.set("listener", [listener(options.port)])
    config_path = os.path.join(work, "bootstrap.yaml")
    with open(config_path, "w", encoding="utf-8") as out:
        yaml.dump(bootstrap(plane.port, options.admin_port), out, Dumper=Plain, sort_keys=False)
    threading.Thread(target=watch_weights, args=(weights_path, plane), daemon=True).start()
    process = subprocess.Popen([options.skiff, "-c", config_path, "--admin-address-path", admin_path, "--concurrency", "1",
                                "--log-path", os.path.join(work, "skiff.log")])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        ports = wait_until_ready(admin_path, process)
        if ports:
            say_what_to_try(work, *ports)
        process.wait()
        sys.exit(f"skiff ended with {process.returncode}: see {work}/skiff.log")
    except KeyboardInterrupt:
        pass
    finally:
        stop(process, plane)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()

"""Every file of examples/ runs on Skiff and on the real Envoy, and both give the same answers."""
import os
import re
import shutil
import socket
import ssl
import subprocess

import pytest

from harness import client, http2
from harness.proxy import Proxy
from harness.relay import Relay
from harness.upstream import Upstream
from harness.wait import wait_for

EXAMPLES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "examples")
WANTED = ("location", "strict-transport-security", "www-authenticate", "grpc-status", "x-envoy-ratelimited")
TRIES = 11


def token(who):
    """A token that edge.yaml tells the reader to use."""
    with open(os.path.join(EXAMPLES, "bootstrap/edge.yaml"), encoding="utf-8") as file:
        return re.search(rf"^#   {who}\s+(\S+)$", file.read(), re.M)[1]


# --- servers ---

def named(name):
    return lambda: Upstream(name)


def silent(greeting):
    """A TCP server: says its name to whatever comes."""
    def handler(connection):
        connection.sock.recv(1)
        connection.sock.sendall(greeting)
    return lambda: Upstream("tcp", handler=handler)


def over_tls(certs):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{certs}/server.pem", f"{certs}/server.key")

    def handler(connection):
        connection.sock = context.wrap_socket(connection.sock, server_side=True)
        connection.sock.recv(1)
        connection.sock.sendall(b"app")
    return Upstream("app", handler=handler)


def grpc(name):
    return lambda: http2.Upstream2(name, script=[{"headers": {"content-type": "application/grpc"}, "trailers": {"grpc-status": "0"}}] * 9)


# --- what is done: each gives something that can be compared ---

def shown(response):
    return (response.status, sorted((k, v) for k, v in response.headers if k in WANTED), sorted(response.trailers), response.body)


def http(listener, path="/", **more):
    def do(proxy, _):
        return shown(client.get(proxy.port(listener), path, **more))
    return do


def https(path, *headers):
    def do(proxy, certs):
        context = ssl.create_default_context(cafile=f"{certs}/ca.pem")
        context.set_alpn_protocols(["h2"])
        wrap = lambda sock: context.wrap_socket(sock, server_hostname="localhost")  # noqa: E731
        with http2.Client(proxy.port("secure"), wrap=wrap) as c:
            return shown(c.request(path=path, more=headers, host="localhost", scheme="https"))
    return do


def bearer(who):
    return ("authorization", f"Bearer {token(who)}")


def call(path):
    def do(proxy, _):
        more = [("content-type", "application/grpc"), ("te", "trailers")]
        with http2.Client(proxy.port("grpc")) as c:
            return shown(c.request("POST", path, more=more, body=b"\0\0\0\0\0"))
    return do


def many(listener, count):
    def do(proxy, _):
        return [client.get(proxy.port(listener)).status for _ in range(count)]
    return do


def waits(proxy, _):
    """The state of a proxy whose control plane is not there."""
    return wait_for(lambda: os.path.exists(proxy.admin_path) and proxy.admin("/ready").text, "the admin page")


def tcp(listener, name=None):
    def do(proxy, certs):
        with socket.create_connection(("127.0.0.1", proxy.port(listener)), client.READ_SECONDS) as sock:
            if name:
                context = ssl.create_default_context(cafile=f"{certs}/ca.pem")
                try:
                    sock = context.wrap_socket(sock, server_hostname=name)
                except OSError:
                    return "closed"
            sock.sendall(b"x")
            return sock.recv(100)
    return do


# --- the table: servers by the port in the file, then rows: what is done, and how it must begin on Envoy, too ---

TABLE = {
    "bootstrap/proxy.yaml": ({8001: named("app"), 8002: named("app")}, [
        (http("web"), 200), (http("web", "/old/x"), 301)]),
    "bootstrap/canary.yaml": ({8001: named("stable"), 8002: named("new")}, [
        (http("web", headers={"x-canary": "yes"}), 200)]),
    "bootstrap/resilience.yaml": ({8001: named("app"), 8002: named("app")}, [
        (many("web", TRIES), 200), (http("web"), 429)]),
    "bootstrap/edge.yaml": ({8001: named("app")}, [
        (http("plain", "/x?y=1"), 301), (https("/"), 200), (https("/api/x"), 401), (https("/api/x", ("authorization", "Bearer x.y.z")), 401),
        (https("/api/x", bearer("a user")), 200), (https("/admin/x", bearer("a user")), 403), (https("/public/../admin/x"), 401),
        (https("/admin/x", bearer("an admin")), 200), (https("/a%2fb"), 400)]),
    "bootstrap/mtls.yaml": ({8001: named("app")}, [(http("out", "/x"), 200)]),
    "bootstrap/tcp.yaml": ({8001: over_tls, 8002: silent(b"database"), 8003: silent(b"database")}, [
        (tcp("by-name", "app.test"), b"app"), (tcp("by-name", "other.test"), "closed"), (tcp("database"), b"database")]),
    "bootstrap/grpc.yaml": ({8001: grpc("orders"), 8002: grpc("others")}, [
        (call("/shop.Orders/Get"), 200), (call("/shop.Other/Get"), 200), (call("/shop.Orders/List"), 200)]),
    "bootstrap/ads.yaml": ({}, [(waits, "PRE_INITIALIZING\n")]),
    "files/bootstrap.yaml": ({8001: named("api"), 8002: named("site")}, [
        (http("web", "/api/x"), 200), (http("web", "/"), 200), (http("web", "/", host="api.localhost:8080"), 200)]),
}
LISTENERS = {"bootstrap/mtls.yaml": {8443: "in"}}  # to which the file itself connects


class Side:
    """An example with ports of its own on one proxy."""

    def __init__(self, binary, example, certs, folder, concurrency):
        self.servers, self.relays, self.certs = {}, {}, certs
        os.mkdir(folder)
        for port, make in TABLE[example][0].items():
            self.servers[port] = make(certs) if make is over_tls else make()
        for port, listener in LISTENERS.get(example, {}).items():
            self.relays[listener] = Relay(0)
            self.servers[port] = self.relays[listener]
        source = os.path.dirname(os.path.join(EXAMPLES, example))
        for name in os.listdir(source) if "files/" in example else [os.path.basename(example)]:
            with open(os.path.join(source, name), encoding="utf-8") as file:
                text = self.placed(file.read())
            with open(os.path.join(folder, name), "w", encoding="utf-8") as out:
                out.write(text)
        self.proxy = Proxy(binary, directory=folder, path=os.path.basename(example), concurrency=concurrency,
                           wait="ads" not in example)
        for listener, relay in self.relays.items():
            relay.target = self.proxy.port(listener)

    def placed(self, text):
        """Listeners and admin page on ports of the kernel, endpoints on the servers; tokens that never come back."""
        lines = []
        for line in text.splitlines():
            servers = {} if re.match(r"\s*address: ", line) else self.servers
            lines.append(re.sub(r"port_value: (\d+)", lambda m: f"port_value: {getattr(servers.get(int(m[1])), 'port', 0)}", line))  # noqa: B023
        return "\n".join(lines).replace("/tmp/skiff-certs", self.certs).replace("fill_interval: 1s", "fill_interval: 3600s")

    def stop(self):
        try:
            self.proxy.stop()
        finally:
            for server in self.servers.values():
                server.stop()


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("certs"))
    subprocess.run([os.path.join(EXAMPLES, "certs.sh"), folder], check=True, capture_output=True)
    yield folder
    shutil.rmtree(folder)


def test_all_are_here():
    there = {os.path.join("bootstrap", name) for name in os.listdir(os.path.join(EXAMPLES, "bootstrap"))} | {"files/bootstrap.yaml"}
    assert there == set(TABLE)


@pytest.mark.parametrize("example", TABLE)
def test_example(envoy_binary, skiff_binary, concurrency, certs, tmp_path, example):
    answers = []
    for binary in (envoy_binary, skiff_binary):
        side = Side(binary, example, certs, str(tmp_path / f"side-{len(answers)}"), concurrency)
        try:
            if not os.path.basename(binary).startswith("envoy"):
                assert "[warning]" not in side.proxy.log() or example == "bootstrap/ads.yaml", side.proxy.log()
            answers.append([do(side.proxy, certs) for do, _ in TABLE[example][1]])
        finally:
            side.stop()
    for envoy, skiff, (_, begins) in zip(*answers, TABLE[example][1]):
        first = envoy[0] if isinstance(envoy, (tuple, list)) else envoy
        assert first == begins, envoy
        assert skiff == envoy

"""original_src as listener and as HTTP filter: whence the upstream sees its connection come, on Skiff and on Envoy. Loopback addresses stand
for clients: any of 127.0.0.0/8 may be bound. It needs CAP_NET_ADMIN."""
import socket

import pytest

from harness import config
from harness.client import Client, request_bytes
from harness.proxy import Proxy
from harness.tcp import tcp
from harness.upstream import Upstream


def allowed():
    with socket.socket() as sock:
        try:
            sock.setsockopt(socket.IPPROTO_IP, 19, 1)  # IP_TRANSPARENT
        except OSError:
            return False
    return True


pytestmark = pytest.mark.skipif(not allowed(), reason="needs CAP_NET_ADMIN")
EXT = config.TYPE + "extensions.filters."


def tell(connection):
    """A line: whence, and whether the port is the client's."""
    word = connection.sock.recv(100)
    host, port = connection.sock.getpeername()
    connection.sock.sendall(f"{host} {'its port' if str(port).encode() == word else 'a port'}\n".encode())
    connection.sock.close()


def tell_http(connection, request):
    body = connection.sock.getpeername()[0].encode()
    connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    return True


def from_listener(**body):
    return [{"name": "s", "typed_config": {"@type": EXT + "listener.original_src.v3.OriginalSrc", **body}}]


PROXY = {"name": "p", "typed_config": {"@type": EXT + "listener.proxy_protocol.v3.ProxyProtocol"}}
FILTER = {"name": "h", "typed_config": {"@type": EXT + "http.original_src.v3.OriginalSrc"}}
HTTP = {"cluster": "http"}


def listeners():
    out = [config.listener(name, [tcp(name, cluster="tell")], listener_filters=filters) for name, filters in (
        ("none", []), ("plain", from_listener()), ("port", from_listener(bind_port=True)), ("mark", from_listener(mark=7)),
        ("proxied", [PROXY, *from_listener()]))]
    route = [config.route(**HTTP)]
    out.append(config.listener("http_listener", [config.hcm(route)], listener_filters=from_listener()))
    out.append(config.listener("http_filter", [config.hcm(route, http_filters=[FILTER, config.router()])]))
    out.append(config.listener("http_trusted", [config.hcm(route, use_remote_address=False, http_filters=[FILTER, config.router()])]))
    return out


@pytest.fixture(scope="module")
def proxies(skiff_binary, envoy_binary):
    told, http = Upstream("tell", handler=tell), Upstream("http")
    http.script = [tell_http] * 1000
    clusters = [config.cluster("tell", [told.port]), config.cluster("http", [http.port])]
    made = [Proxy(binary, config.bootstrap(listeners(), clusters)) for binary in (skiff_binary, envoy_binary)]
    yield made
    made[1].stop(check=False)
    made[0].stop()
    told.stop()
    http.stop()


def over_tcp(source, header=b""):
    def client(port):
        with socket.create_connection(("127.0.0.1", port), 60, (source, 0)) as sock:
            sock.settimeout(60)
            sock.sendall(header)
            sock.sendall(str(sock.getsockname()[1]).encode())
            return sock.recv(100)
    return client


def over_http(*sources, forwarded=None):
    """One request from each address, then again: connections of one address are not used for another's."""
    def client(port):
        out = []
        for source in sources * 2:
            one = Client(port, source=source)
            one.send(request_bytes("GET", "/", [("x-forwarded-for", forwarded)] if forwarded else [], None, "test"))
            out.append(one.read("GET").body)
            one.close()
        return out
    return client


HEADER = b"PROXY TCP4 127.0.0.44 127.0.0.1 1111 2222\r\n"
CASES = [("none", over_tcp("127.0.0.5")), ("plain", over_tcp("127.0.0.5")), ("port", over_tcp("127.0.0.6")), ("mark", over_tcp("127.0.0.7")),
         ("proxied", over_tcp("127.0.0.8", HEADER)), ("http_listener", over_http("127.0.0.5", "127.0.0.6")),
         ("http_filter", over_http("127.0.0.5", "127.0.0.6")), ("http_trusted", over_http("127.0.0.5", forwarded="127.0.0.77"))]


@pytest.mark.parametrize("name,client", CASES, ids=[name for name, _ in CASES])
def test_as_envoy(proxies, name, client):
    skiff, envoy = (client(proxy.port(name)) for proxy in proxies)
    assert skiff == envoy
    proxies[0].check_health()

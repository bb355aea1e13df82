"""A CONNECT (or POST) that ends here: connect_config makes a raw connection of it. The same on Skiff and on the real Envoy."""
import socket
import threading

import pytest

from harness import client, config
from harness.proxy import Log, Proxy


class Raw:
    """A TCP server: echoes; what begins with "bye" it answers and closes; at the client's end it says "end"."""

    def __init__(self):
        self.server = socket.socket()
        self.server.bind(("127.0.0.1", 0))
        self.server.listen(64)
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    @staticmethod
    def serve(sock):
        try:
            while data := sock.recv(65536):
                sock.sendall(data)
                if data.startswith(b"bye"):
                    return
            sock.sendall(b"end")
        except OSError:
            pass
        finally:
            sock.close()


def upgrade(**over):
    return [{"upgrade_type": "CONNECT", "connect_config": over}]


@pytest.fixture(scope="module")
def sides(envoy_binary, skiff_binary, concurrency, tmp_path_factory):
    server, closed = Raw(), socket.socket()
    closed.bind(("127.0.0.1", 0))
    folder = tmp_path_factory.mktemp("connect")
    made = []
    for which, binary in (("envoy", envoy_binary), ("skiff", skiff_binary)):
        log = str(folder / which)
        routes = [
            {"match": {"connect_matcher": {}, "headers": [{"name": ":authority", "string_match": {"prefix": "closed"}}]},
             "route": {"cluster": "closed", "upgrade_configs": upgrade()}},
            *({"match": {"connect_matcher": {}, "headers": [{"name": ":authority", "string_match": {"prefix": version.lower()}}]},
               "route": {"cluster": "a", "upgrade_configs": upgrade(proxy_protocol_config={"version": version, "added_tlvs": [{"type": 1, "value": "YQ=="}]})}}
              for version in ("V1", "V2")),
            {"match": {"connect_matcher": {}}, "route": {"cluster": "a", "upgrade_configs": upgrade()}},
            {"match": {"prefix": "/post"}, "route": {"cluster": "a", "upgrade_configs": upgrade(allow_post=True)}},
            {"match": {"prefix": "/"}, "route": {"cluster": "a", "upgrade_configs": upgrade()}},
        ]
        fields = {"code": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%", "details": "%RESPONSE_CODE_DETAILS%", "rx": "%BYTES_RECEIVED%",
                  "tx": "%BYTES_SENT%", "cluster": "%UPSTREAM_CLUSTER%"}
        hcm = config.hcm(routes, access_log=[config.file_log(log, json_format=fields)], upgrade_configs=[{"upgrade_type": "CONNECT"}])
        clusters = [config.cluster("a", [server.port]), config.cluster("closed", [closed.getsockname()[1]])]
        first = {"name": "envoy.filters.listener.proxy_protocol", "typed_config": {
            "@type": config.TYPE + "extensions.filters.listener.proxy_protocol.v3.ProxyProtocol", "allow_requests_without_proxy_protocol": True}}
        made.append((Proxy(binary, config.bootstrap([config.listener("main", [hcm], listener_filters=[first])], clusters), concurrency=concurrency), Log(log)))
    yield made
    made[0][0].stop(check=False)
    made[1][0].stop()
    server.server.close()
    closed.close()


def connect(proxy, authority="tcp:80", prefix=b""):
    sock = socket.create_connection(("127.0.0.1", proxy.port()), 30)
    sock.settimeout(30)
    sock.sendall(prefix + f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            break
        head += byte
    return sock, head


def headers_of(head):
    """The status and the names of the headers."""
    lines = head.decode().split("\r\n")
    return lines[0], sorted(line.split(":")[0].lower() for line in lines[1:] if line)


def read_end(sock):
    out = b""
    while chunk := sock.recv(65536):
        out += chunk
    return out


def exact(sock, n):
    out = b""
    while len(out) < n:
        chunk = sock.recv(n - len(out))
        assert chunk, out
        out += chunk
    return out


def logged(log):
    return log.wait(1)[-1]


def echo(proxy):
    sock, head = connect(proxy)
    with sock:
        sock.sendall(b"hello")
        seen = exact(sock, 5)
        sock.sendall(b"again")
        return headers_of(head), seen, exact(sock, 5)


def early(proxy):
    """Bytes right behind the request."""
    with socket.create_connection(("127.0.0.1", proxy.port()), 30) as sock:
        sock.sendall(b"CONNECT tcp:80 HTTP/1.1\r\nhost: tcp:80\r\n\r\nhello")
        out = b""
        while not out.endswith(b"hello"):
            chunk = sock.recv(4096)
            assert chunk, out
            out += chunk
        return out.split(b"\r\n")[0], out.endswith(b"\r\n\r\nhello")


def proxy_header(proxy, authority="v1:80"):
    """proxy_protocol_config: whom the tunnel serves goes first; TLVs do not. The server echoes it."""
    sock, _ = connect(proxy, authority, b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 2000\r\n")
    with sock:
        sock.sendall(b"hello")
        out = b""
        while not out.endswith(b"hello"):
            chunk = sock.recv(4096)
            assert chunk, out
            out += chunk
        return out


def proxy_header_2(proxy):
    return proxy_header(proxy, "v2:80")


def upstream_ends(proxy):
    sock, head = connect(proxy)
    with sock:
        sock.sendall(b"bye")
        return headers_of(head), read_end(sock)


def large(proxy):
    sock, _ = connect(proxy)
    data = bytes(range(256)) * 16384
    with sock:
        sender = threading.Thread(target=sock.sendall, args=(data,), daemon=True)
        sender.start()
        seen = exact(sock, len(data))
        sender.join()
        return seen == data


def refused(proxy):
    sock, head = connect(proxy, "closed:80")
    with sock:
        return headers_of(head)[0]


def post(proxy):
    """allow_post: the body goes out raw, what comes back is the answer's body."""
    response = client.get(proxy.port(), "/post", method="POST", body=b"hello")
    return response.status, response.text, response.header("content-length")


def get(proxy):
    """Not a CONNECT: the usual way, where the echoed request is no answer."""
    with socket.create_connection(("127.0.0.1", proxy.port()), 30) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        return read_end(sock).split(b"\r\n")[0]


@pytest.mark.parametrize("what", [echo, early, proxy_header, proxy_header_2, upstream_ends, large, refused, post, get], ids=lambda f: f.__name__)
def test_as_envoy(sides, what):
    seen = [(what(proxy), logged(log)) for proxy, log in sides]
    assert seen[1] == seen[0]
    sides[1][0].check_health()

"""auto_sni and auto_san_validation: each server name has its own upstream connections, and the name must be in the certificate."""
import ssl
import subprocess
import threading

import pytest

from harness import client, config
from harness.upstream import Upstream

OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pki")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "3", "-subj", "/CN=test",
                    "-addext", "subjectAltName=DNS:a.example,DNS:*.b.example"], check=True, capture_output=True)
    return cert, key


@pytest.fixture
def tls_origin(pki):
    """An HTTPS server that notes the server name of each handshake."""
    names, lock = [], threading.Lock()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pki)

    def note(_sock, name, _context):
        with lock:
            names.append(name)
    context.sni_callback = note

    def handler(connection):
        try:
            sock = context.wrap_socket(connection.sock, server_side=True)
        except (ssl.SSLError, OSError):
            return  # the client found the certificate wanting
        connection.sock = sock
        data = b""
        while chunk := sock.recv(65536):
            data += chunk
            while b"\r\n\r\n" in data:
                data = data.split(b"\r\n\r\n", 1)[1]
                sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    origin = Upstream("tls", handler=handler)
    origin.names = names
    yield origin
    origin.stop()


def bootstrap(pki, port):
    tls = config.TYPE + "extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    cluster = config.cluster("a", [port], transport_socket={"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": tls, "common_tls_context": {"validation_context": {"trusted_ca": {"filename": pki[0]}}}}},
        typed_extension_protocol_options={OPTIONS: {"@type": "type.googleapis.com/" + OPTIONS, "explicit_http_config": {"http_protocol_options": {}},
                                                    "upstream_http_protocol_options": {"auto_sni": True, "auto_san_validation": True}}})
    return config.bootstrap([config.listener("main", [config.hcm([config.route(cluster="a")])])], [cluster])


def test_each_host_is_asked_for_and_checked(skiff, pki, tls_origin):
    proxy = skiff(bootstrap(pki, tls_origin.port))
    with client.Client(proxy.port()) as c:
        assert c.request(host="a.example").status == 200
        assert c.request(host="x.b.example:443").status == 200
        assert c.request(host="a.example").status == 200  # over the connection that it had
        assert c.request(host="other.example").status == 503  # not in the certificate
    assert tls_origin.names == ["a.example", "x.b.example", "other.example"]

"""tcp_proxy with TLS on either side, and TLS that only passes through: the same on Skiff and on the real Envoy."""
import os
import ssl
import subprocess

import pytest

from harness import config
from harness.proxy import Proxy
from harness.upstream import Upstream
from harness.wait import wait_for
from test_tcp_filters import FIELDS, listening, normal
from harness.tcp import connect, tcp
from test_tcp_proxy import Run, echo, greet_and_close, read_end

TLS = config.TYPE + "extensions.transport_sockets.tls.v3."
INSPECT = [listening("tls_inspector", "tls_inspector.v3.TlsInspector")]


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pki")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "3", "-subj", "/CN=test",
                    "-addext", "subjectAltName=DNS:a.example,DNS:*.b.example"], check=True, capture_output=True)
    return cert, key


def over_tls(pki, handler):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pki)

    def serve(connection):
        connection.sock = context.wrap_socket(connection.sock, server_side=True)
        handler(connection)
    return serve


def name_then_echo(name):
    def handler(connection):
        connection.sock.sendall(name)
        while data := connection.sock.recv(65536):
            connection.sock.sendall(data)
    return handler


def downstream(pki):
    cert, key = pki
    return {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": TLS + "DownstreamTlsContext", "common_tls_context": {
        "tls_certificates": [{"certificate_chain": {"filename": cert}, "private_key": {"filename": key}}]}}}


def upstream_tls(pki, ca=True):
    common = {"validation_context": {"trusted_ca": {"filename": pki[0]}}} if ca else {}
    return {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": TLS + "UpstreamTlsContext", "sni": "a.example",
                                                                     "common_tls_context": common}}


# --- clients ---

def client_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def tls_talk(name, data=b"ping", expect=None):
    """Sends all, reads as much as is expected, says close_notify."""
    def client(port):
        with connect(port) as sock:
            try:
                wrapped = client_context().wrap_socket(sock, server_hostname=name)
            except (ssl.SSLError, OSError):
                return b"", "no handshake"
            got, want = b"", len(data) if expect is None else expect
            sent = memoryview(data)
            while len(got) < want:
                if sent:
                    n = wrapped.send(sent[:16384])
                    sent = sent[n:]
                    if sent and len(sent) + len(got) > len(data) - 65536:
                        continue
                more = wrapped.recv(65536)
                if not more:
                    return got, "early end"
                got += more
            wrapped.close()
            return got, "all"
    return client


def plain(data=b"ping", expect=4):
    def client(port):
        with connect(port) as sock:
            try:
                sock.sendall(data)
                got = b""
                while len(got) < expect:
                    more = sock.recv(65536)
                    if not more:
                        return got, "end"
                    got += more
                return got, "all"
            except OSError:
                return b"", "end"
    return client


def to_end(port):
    with connect(port) as sock:
        wrapped = client_context().wrap_socket(sock, server_hostname="a.example")
        return read_end(wrapped)


BIG = os.urandom(1 << 20)
CASES = [
    ("pass_exact", "pass", tls_talk("a.example", expect=5)),
    ("pass_case", "pass", tls_talk("A.eXample", expect=5)),
    ("pass_wildcard", "pass", tls_talk("x.b.example", expect=5)),
    ("pass_deeper", "pass", tls_talk("y.x.b.example", expect=5)),
    ("pass_other", "pass", tls_talk("c.example", expect=5)),
    ("pass_no_sni", "pass", tls_talk(None, expect=5)),
    ("pass_plain", "pass", plain(b"not TLS at all", 20)),
    ("end_small", "end", tls_talk("a.example")),
    ("end_big", "end", tls_talk("a.example", BIG)),
    ("end_greeting", "end_greet", to_end),
    ("end_plain", "end", plain(b"GET / HTTP/1.1\r\n\r\n")),
    ("up_small", "up", plain()),
    ("up_big", "up", plain(BIG, len(BIG))),
    ("up_unverified", "up_any", plain()),
    ("up_not_tls", "up_broken", plain()),
    ("both", "both", tls_talk("a.example", BIG)),
]


def chain(log, name, cluster, match=None, **more):
    body = {"name": name, "filters": [tcp(name, log, FIELDS, cluster=cluster)], **more}
    return {**body, "filter_chain_match": match} if match else body


class TlsRun(Run):
    def __init__(self, binary, pki, servers, directory):
        self.directory = directory
        os.makedirs(directory)
        clusters = [config.cluster(name, [server.port]) for name, server in servers.items()]
        clusters += [config.cluster("up", [servers["tls_echo"].port], transport_socket=upstream_tls(pki)),
                     config.cluster("up_any", [servers["tls_echo"].port], transport_socket=upstream_tls(pki, ca=False)),
                     config.cluster("up_broken", [servers["greet"].port], transport_socket=upstream_tls(pki))]
        passing = [chain(directory, "exact", "tls_a", {"server_names": ["a.example"]}),
                   chain(directory, "wild", "tls_b", {"server_names": ["*.b.example"]}),
                   chain(directory, "tls", "tls_c", {"transport_protocol": "tls"}),
                   chain(directory, "raw", "hello", {"transport_protocol": "raw_buffer"})]
        ends = downstream(pki)
        listeners = [
            config.listener("pass", filter_chains=passing, listener_filters=INSPECT),
            config.listener("end", filter_chains=[chain(directory, "end", "echo", transport_socket=ends)]),
            config.listener("end_greet", filter_chains=[chain(directory, "end_greet", "greet", transport_socket=ends)]),
            config.listener("up", filter_chains=[chain(directory, "up", "up")]),
            config.listener("up_any", filter_chains=[chain(directory, "up_any", "up_any")]),
            config.listener("up_broken", filter_chains=[chain(directory, "up_broken", "up_broken")]),
            config.listener("both", filter_chains=[chain(directory, "both", "up", transport_socket=ends)]),
        ]
        self.proxy = Proxy(binary, config.bootstrap(listeners, clusters), directory=directory)

    def lines(self):
        out = []
        for file in sorted(os.listdir(self.directory)):
            if file.endswith(".log"):
                out += [normal(line) for line in self.log(file[:-4])]
        return out


@pytest.fixture(scope="module")
def runs(skiff_binary, envoy_binary, pki, tmp_path_factory):
    handlers = {"tls_a": over_tls(pki, name_then_echo(b"is a!")), "tls_b": over_tls(pki, name_then_echo(b"is b!")),
                "tls_c": over_tls(pki, name_then_echo(b"is c!")), "tls_echo": over_tls(pki, name_then_echo(b"")),
                "hello": name_then_echo(b"hello\n"), "echo": echo, "greet": greet_and_close}
    servers = {name: Upstream(name, handler=handler) for name, handler in handlers.items()}
    folder = str(tmp_path_factory.mktemp("tcp-tls"))
    made = [TlsRun(binary, pki, servers, os.path.join(folder, which)) for which, binary in (("skiff", skiff_binary), ("envoy", envoy_binary))]
    yield made
    made[1].proxy.stop(check=False)
    made[0].proxy.stop()
    for server in servers.values():
        server.stop()


def told(run, before, name):
    """The new log lines; of TLS that passes through the sizes differ from handshake to handshake."""
    lines = run.lines()
    for old in before:
        lines.remove(old)
    for line in lines if name.startswith("pass_") else []:
        line["rx"] = line["tx"] = None
    return lines


@pytest.mark.parametrize("name,listener,client", CASES, ids=[case[0] for case in CASES])
def test_as_envoy(runs, name, listener, client):
    before = [run.lines() for run in runs]
    seen = [client(run.proxy.port(listener)) for run in runs]
    assert seen[0] == seen[1]
    wait_for(lambda: all(told(run, old, name) for run, old in zip(runs, before)), "the log lines", 20)
    skiff, envoy = (told(run, old, name) for run, old in zip(runs, before))
    if name != "end_plain":  # Envoy has begun to connect before the handshake, Skiff has not
        assert skiff == envoy
    runs[0].proxy.check_health()

"""tcp_proxy: the same exchanges on Skiff and on the real Envoy; what the client sees, the access log and the statistics must agree."""
import json
import os
import re
import socket
import struct
import time

import pytest

from harness import config
from harness.proxy import Proxy
from harness.tcp import LOG, connect, tcp
from harness.upstream import Upstream
from harness.wait import wait_for

MEGABYTE = 1 << 20


# --- upstreams ---

def echo(connection):
    while data := connection.sock.recv(65536):
        connection.sock.sendall(data)
    connection.sock.shutdown(socket.SHUT_WR)


def greet_and_close(connection):
    connection.sock.sendall(b"hello\n")
    connection.sock.close()


def half_first(connection):
    """Says its end first, then counts what still comes."""
    connection.sock.sendall(b"first")
    connection.sock.shutdown(socket.SHUT_WR)
    while connection.sock.recv(65536):
        pass


def reset_after_read(connection):
    connection.sock.recv(10)
    connection.reset()


def big(connection):
    connection.sock.sendall(b"x" * (8 * MEGABYTE))
    connection.sock.close()


def read_all_then_answer(connection):
    total = 0
    while data := connection.sock.recv(65536):
        total += len(data)
    connection.sock.sendall(b"%d" % total)
    connection.sock.close()


def silent(connection):
    while connection.sock.recv(65536):
        pass


ENDS = []


def noted_end(connection):
    """Echoes, and notes how the client's side ended."""
    try:
        while data := connection.sock.recv(65536):
            connection.sock.sendall(data)
        ENDS.append("end")
    except ConnectionResetError:
        ENDS.append("reset")


def tunnel(connection):
    """An HTTP proxy that speaks CONNECT: tells what it was asked, then echoes."""
    head = b""
    while b"\r\n\r\n" not in head:
        more = connection.sock.recv(1)
        if not more:
            return
        head += more
    if b"refuse" in head:
        connection.sock.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
        return
    lines = sorted(line for line in head.decode().lower().split("\r\n") if line)
    chunked = any(line.startswith("transfer-encoding") for line in lines)
    if chunked:
        connection.sock.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        text = repr(lines).encode()
        connection.sock.sendall(b"%x\r\n%b\r\n" % (len(text), text))
        got = b""
        while not got.endswith(b"0\r\n\r\n"):
            more = connection.sock.recv(100)
            if not more:
                return
            got += more
        connection.sock.sendall(b"0\r\n\r\n")
        return
    connection.sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + repr(lines).encode())
    echo(connection)


UPSTREAMS = {"tunnel": tunnel, "noted": noted_end, "echo": echo, "greet": greet_and_close, "half": half_first, "reset": reset_after_read, "big": big, "count": read_all_then_answer,
             "silent": silent}


# --- clients: what they saw, as bytes or a word ---

def read_end(sock):
    got = b""
    try:
        while data := sock.recv(65536):
            got += data
    except ConnectionResetError:
        return got, "reset"
    return got, "end"


def talk(port, data=b"ping", half=True):
    with connect(port) as sock:
        try:
            sock.sendall(data)
            if half:
                sock.shutdown(socket.SHUT_WR)
        except OSError:  # refused so fast that it is over
            return b"", "reset"
        return read_end(sock)


def talk_then_close(port, data=b"ping", until=b"ping"):
    with connect(port) as sock:
        sock.sendall(data)
        got = b""
        while until not in got:
            got += sock.recv(65536)
        return got


def only_read(port):
    with connect(port) as sock:
        return read_end(sock)


def slow_big(port):
    with connect(port) as sock:
        time.sleep(0.3)
        got, how = read_end(sock)
        return len(got), how


def send_big(port):
    with connect(port) as sock:
        sock.sendall(b"y" * (8 * MEGABYTE))
        sock.shutdown(socket.SHUT_WR)
        return read_end(sock)


def client_reset(port):
    sock = connect(port)
    sock.sendall(b"ping")
    got = sock.recv(4)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    return got, "done"


def client_reset_told(port):
    """How the upstream sees the client's reset."""
    client_reset(port)
    return wait_for(lambda: ENDS and ENDS.pop(), "the upstream to be told"), "done"


def client_close_told(port):
    client_close(port)
    return wait_for(lambda: ENDS and ENDS.pop(), "the upstream to be told"), "done"


def client_close(port):
    with connect(port) as sock:
        sock.sendall(b"ping")
        return sock.recv(4), "done"


def after_half(port):
    """The upstream's end comes first; the client may still send."""
    with connect(port) as sock:
        got = b""
        while data := sock.recv(100):
            got += data
        sock.sendall(b"late")
        sock.shutdown(socket.SHUT_WR)
        return got, "end"


def say_once(port):
    """Nothing is sent until the proxy ends it."""
    with connect(port) as sock:
        sock.sendall(b"a")
        return read_end(sock)


CASES = [
    # name, client, tcp_proxy fields
    ("echo", talk, {}),
    ("echo_big", lambda port: talk(port, b"z" * 300000), {}),
    ("greeting", only_read, {"cluster": "greet"}),
    ("upstream_half_first", after_half, {"cluster": "half"}),
    ("upstream_reset", lambda port: talk(port, half=False), {"cluster": "reset"}),
    ("slow_reader", slow_big, {"cluster": "big"}),
    ("upload", send_big, {"cluster": "count"}),
    ("client_reset", client_reset, {}),
    ("client_close", client_close, {}),
    ("client_reset_told", client_reset_told, {"cluster": "noted"}),
    ("client_close_told", client_close_told, {"cluster": "noted"}),
    ("no_such_cluster", talk, {"cluster": "nobody"}),
    ("no_hosts", talk, {"cluster": "empty"}),
    ("refused", talk, {"cluster": "dead"}),
    ("refused_thrice", talk, {"cluster": "dead", "max_connect_attempts": 3}),
    ("refused_backoff", talk, {"cluster": "dead", "max_connect_attempts": 3, "backoff_options": {"base_interval": "0.02s"}}),
    ("overflow", talk, {"cluster": "full"}),
    ("idle", say_once, {"cluster": "silent", "idle_timeout": "0.3s"}),
    ("duration", say_once, {"cluster": "silent", "max_downstream_connection_duration": "0.3s"}),
    ("log_connected", talk, {"access_log_options": {"flush_access_log_on_connected": True}}),
    ("log_start", talk, {"access_log_options": {"flush_access_log_on_start": True}}),
    ("log_start_refused", talk, {"cluster": "dead", "access_log_options": {"flush_access_log_on_start": True, "flush_access_log_on_connected": True}}),
    ("drain_unasked", talk, {"check_drain_close": True}),
    ("weighted", talk, {"cluster": None, "weighted_clusters": {"clusters": [{"name": "echo", "weight": 1}]}}),
    ("on_data", talk, {"upstream_connect_mode": "ON_DOWNSTREAM_DATA", "max_early_data_bytes": 1024}),
    ("early", talk, {"max_early_data_bytes": 1024}),
    ("early_over_limit", lambda port: talk(port, b"e" * 100000), {"max_early_data_bytes": 1024}),
]

def tunnelled(**options):
    return {"cluster": "tunnel", "tunneling_config": {"hostname": "host.example:443", **options}}


HEADER = {"header": {"key": "x-peer", "value": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"}}
FORMATTERS = [{"name": "f", "typed_config": {"@type": config.TYPE + "extensions.formatter.req_without_query.v3.ReqWithoutQuery"}},
              {"name": "m", "typed_config": {"@type": config.TYPE + "extensions.formatter.metadata.v3.Metadata"}}]
# The client keeps its side open: after its end Envoy drops what the tunnel still says, Skiff does not (test_tunnel_after_half_close).
CASES += [
    ("tunnel", talk_then_close, tunnelled()),
    ("tunnel_big", lambda port: talk_then_close(port, b"t" * 500000 + b"last", b"last"), tunnelled()),
    ("tunnel_refused", talk, tunnelled(hostname="refuse.example:1")),
    ("tunnel_refused_twice", talk, {**tunnelled(hostname="refuse.example:1"), "max_connect_attempts": 2}),
    ("tunnel_dead", talk, {**tunnelled(), "cluster": "dead"}),
    ("tunnel_headers", talk_then_close, tunnelled(headers_to_add=[HEADER])),
    ("tunnel_formatters", talk_then_close, tunnelled(headers_to_add=[{"header": {"key": "x-query", "value": "a%REQ_WITHOUT_QUERY(:path)%"},
                                                                      "keep_empty_value": True}], formatters=FORMATTERS)),
    ("tunnel_post", lambda port: talk_then_close(port, until=b"]"), tunnelled(use_post=True, post_path="/tunnel")),
]
UUID_EXTENSION = {"typed_config": {"@type": config.TYPE + "extensions.request_id.uuid.v3.UuidRequestIdConfig"}}
KEPT = {"kept": "%FILTER_STATE(envoy.tcp_proxy.propagate_response_headers)%", "kept_plain": "%FILTER_STATE(envoy.tcp_proxy.propagate_response_headers:PLAIN)%",
        "id": "%DYNAMIC_METADATA(envoy.filters.network.tcp_proxy)%"}


def id_told(port):
    """The names of what the tunnel was asked; the id itself is new each time."""
    return re.sub(UUID, "<uuid>", talk_then_close(port).decode())


UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
CASES += [
    ("tunnel_kept", talk_then_close, tunnelled(propagate_response_headers=True)),
    ("tunnel_kept_trailers", talk_then_close, tunnelled(propagate_response_trailers=True)),
    ("tunnel_kept_refused", talk, tunnelled(hostname="refuse.example:1", propagate_response_headers=True)),
    ("tunnel_id", id_told, tunnelled(request_id_extension=UUID_EXTENSION)),
    ("tunnel_id_header", id_told, tunnelled(request_id_extension=UUID_EXTENSION, request_id_header="x-mine")),
    ("tunnel_id_key", id_told, tunnelled(request_id_extension=UUID_EXTENSION, request_id_metadata_key="mine")),
    ("tunnel_id_none", id_told, tunnelled(request_id_header="x-mine", request_id_metadata_key="mine")),
    ("tunnel_id_and_header", id_told, tunnelled(request_id_extension=UUID_EXTENSION,
                                                headers_to_add=[{"header": {"key": "x-request-id", "value": "more"}}])),
    ("log_interval", say_once, {"cluster": "silent", "idle_timeout": "4s", "access_log_options": {"access_log_flush_interval": "2.5s"}}),
    ("duration_jitter", say_once, {"cluster": "silent", "max_downstream_connection_duration": "0.3s",
                                   "max_downstream_connection_duration_jitter_percentage": {"value": 10}}),
    ("hash_source", talk, {"hash_policy": [{"source_ip": {}}]}),
    ("hash_state", talk, {"hash_policy": [{"filter_state": {"key": "nothing"}}]}),
    ("weighted_two", talk, {"cluster": None, "weighted_clusters": {"clusters": [{"name": "echo", "weight": 1}, {"name": "echo", "weight": 9}]}}),
    ("weighted_unknown", talk, {"cluster": None, "weighted_clusters": {"clusters": [{"name": "nobody", "weight": 1}]}}),
    ("metadata_match", talk, {"metadata_match": {"filter_metadata": {"envoy.lb": {"stage": "x"}}}}),
    ("empty_cluster", talk, {"cluster": ""}),
    ("old_log_fields", talk, {"flush_access_log_on_connected": True}),
    ("idle_off", talk, {"idle_timeout": "0s"}),
]


def partly(port, close):
    """Leaves in the middle of a large download."""
    sock = connect(port)
    got = sock.recv(1000)
    while len(got) < 100000:
        got += sock.recv(65536)
    if close == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    return len(got) >= 100000


def early_half(port):
    """Ends first, then takes all."""
    with connect(port) as sock:
        sock.shutdown(socket.SHUT_WR)
        got, how = read_end(sock)
        return len(got), how


def upload(port):
    """How it ends where the upstream leaves in the middle: some byte fails, or the end is a reset."""
    with connect(port) as sock:
        try:
            sock.sendall(b"y" * (8 * MEGABYTE))
            sock.shutdown(socket.SHUT_WR)
            return read_end(sock)[1]
        except OSError:
            return "reset"


def after_half_big(port):
    """The upstream has ended; a large upload still arrives."""
    with connect(port) as sock:
        first = sock.recv(100)
        sock.sendall(b"z" * (4 * MEGABYTE))
        sock.shutdown(socket.SHUT_WR)
        return first + read_end(sock)[0]


# Breaks in the middle: how many bytes went by is luck, so of the log only flags and kinds are compared.
BREAKS = [
    ("break_reset", lambda port: partly(port, "reset"), {"cluster": "big"}),
    ("break_close", lambda port: partly(port, "close"), {"cluster": "big"}),
    ("break_upstream", upload, {"cluster": "reset"}),
    ("early_half", early_half, {"cluster": "big"}),
    ("upstream_half_big", after_half_big, {"cluster": "half"}),
    ("second_host", talk, {"cluster": "either", "max_connect_attempts": 2}),
    ("second_host_later", talk, {"cluster": "either", "max_connect_attempts": 2, "backoff_options": {"base_interval": "0.01s"}}),
]
STATS = ("tcp.", "cluster.")
# Not compared: gauges of a moment, and how often a slow peer was met.
LOOSE = ("buffered", "paused_reading", "resumed_reading", "backed_up", "drained", "_ms", "membership", "circuit_breakers", "lb_",
         "update_", "upstream_cx_length", "default.", "max_host_weight", "warming", "version", "flush_total", "bytes_total",
         "assignment", "bind_errors", "early_data", "upstream_cx_destroy")


PORTS = {}  # of the upstreams, by name


def original_dst(name, options=None):
    over = {"original_dst_lb_config": options} if options else {}
    return config.cluster(name, [], type="ORIGINAL_DST", lb_policy="CLUSTER_PROVIDED", load_assignment=None, **over)


class Run:
    """One proxy; `listeners` makes each from the folder of the logs."""

    def __init__(self, binary, upstreams, dead, directory, listeners):
        self.directory = directory
        os.makedirs(directory, exist_ok=True)
        clusters = [config.cluster(name, [server.port]) for name, server in upstreams.items()]
        clusters += [config.cluster("empty", []), config.cluster("dead", [dead]),
                     config.cluster("either", [dead, upstreams["echo"].port]),
                     config.cluster("full", [upstreams["echo"].port],
                                    circuit_breakers={"thresholds": [{"max_connections": 0}]}),
                     original_dst("orig"), original_dst("orig_port", {"upstream_port_override": upstreams["echo"].port})]
        listeners = [make(directory) for make in listeners]
        self.proxy = Proxy(binary, config.bootstrap(listeners, clusters), directory=directory)

    def stats(self):
        text = self.proxy.admin("/stats").text
        pairs = dict(line.split(": ", 1) for line in text.splitlines() if line.startswith(STATS))
        return {k: int(v) for k, v in pairs.items() if v.isdigit() and not any(word in k for word in LOOSE)}

    def log(self, name):
        with open(os.path.join(self.directory, name + ".log"), encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        for line in lines:  # Envoy lists flags in the order in which they were set
            line["flags"] = sorted(line["flags"].split(","))
            if line.get("id"):
                line["id"] = {key: bool(re.fullmatch(UUID, value)) for key, value in line["id"].items()}
        return lines

    def run(self, name, client):
        before = self.stats()
        seen = client(self.proxy.port(name))
        wait_for(lambda: self.log(name) and self.log(name)[-1]["type"] == "TcpConnectionEnd", f"{name}'s log", 20)
        wait_for(lambda: self.stats().get("cluster.echo.upstream_cx_active", 0) == 0, "connections to end", 20)
        after = self.stats()
        changes = {k: v - before.get(k, 0) for k, v in after.items() if v != before.get(k, 0)}
        return seen, self.log(name), changes


def both(skiff_binary, envoy_binary, folder, listeners):
    """Skiff and Envoy with the same listeners before the same upstreams."""
    upstreams = {name: Upstream(name, handler=handler) for name, handler in UPSTREAMS.items()}
    PORTS.update({name: server.port for name, server in upstreams.items()})
    gone = socket.socket()
    gone.bind(("127.0.0.1", 0))
    made = [Run(binary, upstreams, gone.getsockname()[1], os.path.join(str(folder), which), listeners)
            for which, binary in (("skiff", skiff_binary), ("envoy", envoy_binary))]
    yield made
    made[1].proxy.stop(check=False)
    made[0].proxy.stop()
    for server in upstreams.values():
        server.stop()


@pytest.fixture(scope="module")
def runs(skiff_binary, envoy_binary, tmp_path_factory):
    listeners = [lambda log, name=name, over=over: config.listener(name, [tcp(name, log=log, fields={**LOG, **KEPT}, **over)]) for name, _, over in [*CASES, *BREAKS]]
    yield from both(skiff_binary, envoy_binary, tmp_path_factory.mktemp("tcp"), listeners)


@pytest.mark.parametrize("name,client", [(name, client) for name, client, _ in CASES], ids=[name for name, _, _ in CASES])
def test_as_envoy(runs, name, client):
    skiff, envoy = (run.run(name, client) for run in runs)
    assert skiff[0] == envoy[0]
    assert skiff[1] == envoy[1]
    assert skiff[2] == envoy[2]
    runs[0].proxy.check_health()


def broken(run, name, client):
    seen = client(run.proxy.port(name))

    def over():
        try:
            return run.log(name)
        except FileNotFoundError:
            return None
    lines = wait_for(over, f"{name}'s log", 20)
    return seen, [(line["flags"] if "second" not in name else None, line["type"], line["cluster"]) for line in lines[-1:]]


@pytest.mark.parametrize("name,client", [(name, client) for name, client, _ in BREAKS], ids=[name for name, _, _ in BREAKS])
def test_breaks_as_envoy(runs, name, client):
    skiff, envoy = (broken(run, name, client) for run in runs)
    assert skiff == envoy
    runs[0].proxy.check_health()


def test_tunnel_after_half_close(runs):
    got, how = talk(runs[0].proxy.port("tunnel"), b"u" * 300000)
    assert got.endswith(b"]" + b"u" * 300000) and how == "end"
    got, how = talk(runs[0].proxy.port("tunnel_post"))
    assert got.endswith(b"]") and how == "end"
    runs[0].proxy.check_health()


def logged(run):
    try:
        return run.log("drain_unasked")
    except FileNotFoundError:
        return []


def drained(run):
    """A connection while the process tells its clients to go elsewhere."""
    before, known = run.stats(), len(logged(run))
    with connect(run.proxy.port("drain_unasked")) as sock:
        sock.sendall(b"one")
        got = sock.recv(3)
        run.proxy.admin("/healthcheck/fail", method="POST")
        sock.sendall(b"two")
        end = read_end(sock)
    run.proxy.admin("/healthcheck/ok", method="POST")
    wait_for(lambda: len(logged(run)) > known, "the connection to be logged", 20)
    return got, end, logged(run)[-1], run.stats()["tcp.drain_unasked.downstream_cx_drain_close"] - before.get("tcp.drain_unasked.downstream_cx_drain_close", 0)


def test_drain_close(runs):
    skiff, envoy = (drained(run) for run in runs)
    assert skiff == envoy

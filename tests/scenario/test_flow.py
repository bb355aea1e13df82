"""Back-pressure and patience: big bodies against slow peers, slow clients, clients that go away."""
import os
import socket
import threading

import pytest

from harness import client, config, http1
from harness.wait import wait_for

MIB = 1 << 20
SANITIZED = MIB * 8      # through the ASan build: enough to see back-pressure work
WHOLE = MIB << 10        # through the release build: 1 GiB


def simple(port, hcm=None, **cluster):
    routes = [config.route(cluster="a", timeout="0s")]
    return config.bootstrap([config.listener("main", [config.hcm(routes, **(hcm or {}))])], [config.cluster("a", [port], **cluster)])


def pattern(size):
    return bytes(range(256)) * (size // 256)


def small_buffers(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


@pytest.mark.threads
def test_a_body_comes_through_whole(skiff, upstream):
    """8 MiB each way, counted and chunked, byte for byte."""
    body = pattern(SANITIZED)

    def echo(connection, request):
        return connection.answer({"body": request.body, "chunked": "chunked" in request.path}, request, "a")
    a = upstream("a", script=[echo, echo])
    proxy = skiff(simple(a.port))
    for path in ("/counted", "/chunked"):
        with client.Client(proxy.port()) as c:
            sender = threading.Thread(target=c.send, args=(client.request_bytes("POST", path, [("content-length", len(body))], body),), daemon=True)
            sender.start()
            response = c.read()
            sender.join(60)
            assert response.status == 200 and response.body == body


def serve_big(size):
    """A handler that answers with `size` bytes as fast as it can."""
    block = b"x" * 65536

    def handler(connection):
        connection.read_request()
        connection.send(f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n")
        sent = 0
        while sent < size:
            connection.send(block[:min(len(block), size - sent)])
            sent += len(block)
        connection.hang()
    return handler


def read_slowly(sock, size, watch):
    """Reads `size` bytes after the head; stops now and then; calls watch(bytes so far)."""
    reader = http1.Reader(sock)
    reader.until(b"\r\n\r\n")
    got = len(reader.buffer)
    buffer = bytearray(MIB)
    pauses = 0
    while got < size:
        count = sock.recv_into(buffer)
        assert count, f"closed after {got} bytes"
        got += count
        if got >> 26 > pauses:
            pauses += 1
            watch(got)
    return got


@pytest.mark.release
def test_a_gibibyte_to_a_slow_client(skiff, upstream):
    a = upstream("a", handler=serve_big(WHOLE))
    proxy = skiff(simple(a.port))
    warm = client.Client(proxy.port())
    warm.close()
    start, highest = proxy.memory_kib(), [0]

    def watch(_):
        highest[0] = max(highest[0], proxy.memory_kib())
        threading.Event().wait(0.02)
    with client.Client(proxy.port()) as c:
        c.send(client.request_bytes())
        assert read_slowly(c.sock, WHOLE, watch) == WHOLE
    growth = max(highest[0], proxy.memory_kib("VmHWM")) - start
    print(f"memory grew by {growth} KiB over 1 GiB to a slow client")
    assert growth <= 4096, f"memory grew by {growth} KiB"


@pytest.mark.release
def test_a_gibibyte_to_a_slow_upstream(skiff, upstream):
    done = {}

    def handler(connection):
        request = connection.read_request()
        size = int(request.header("content-length"))
        got = len(connection.reader.buffer)
        buffer = bytearray(MIB)
        pauses = 0
        while got < size:
            count = connection.sock.recv_into(buffer)
            if not count:
                return
            got += count
            if got >> 26 > pauses:
                pauses += 1
                threading.Event().wait(0.02)
        done["got"] = got
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    a = upstream("a", handler=handler)
    proxy = skiff(simple(a.port))
    warm = client.Client(proxy.port())
    warm.close()
    start = proxy.memory_kib()
    block = b"x" * MIB
    with client.Client(proxy.port()) as c:
        c.send(client.request_bytes("POST", "/", [("content-length", WHOLE)]))
        for _ in range(WHOLE // MIB):
            assert c.send(block)
        assert c.read().body == b"ok"
    growth = proxy.memory_kib("VmHWM") - start
    print(f"memory grew by {growth} KiB over 1 GiB to a slow upstream")
    assert done["got"] == WHOLE
    assert growth <= 4096, f"memory grew by {growth} KiB"


@pytest.mark.release
def test_memory_over_many_updates(skiff, upstream, control_plane):
    """500 updates each of routes, clusters, endpoints and listeners: after a warm-up, at most 1 MiB more."""
    from harness.controlplane import ADS, ads_bootstrap
    plane, a, b = control_plane(), upstream("a"), upstream("b")

    def push(number):
        plane.set("cluster", [{"name": "a", "type": "EDS", "connect_timeout": f"{5 + number % 7}s", "eds_cluster_config": {"eds_config": ADS}}])
        plane.set("endpoint", [config.assignment("a", [a.port, b.port][:1 + number % 2])])
        listener = config.listener("main", [config.hcm(rds={"route_config_name": "web", "config_source": ADS}, server_name=f"s{number % 5}")])
        plane.set("listener", [listener])
        plane.set("route", [{"name": "web", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": f"/x{number % 11}"}, "route": {"cluster": "a"}}, config.route(cluster="a")]}]}])
        for kind in ("cluster", "endpoint", "listener", "route"):
            plane.wait_ack(kind)
    first = threading.Thread(target=push, args=(0,))  # it waits for ACKs of a proxy that is yet to start
    first.start()
    proxy = skiff(ads_bootstrap(plane.port))
    first.join()
    port = proxy.port()
    for number in range(1, 101):
        push(number)
        assert client.get(port).status == 200
    start = proxy.memory_kib()
    for number in range(101, 601):
        push(number)
        if number % 10 == 0:
            assert client.get(port).status == 200
    growth = proxy.memory_kib() - start
    print(f"memory grew by {growth} KiB over 500 updates of each kind")
    assert growth <= 1024, f"memory grew by {growth} KiB over 500 updates"


@pytest.mark.release
def test_memory_with_a_long_stream_after_each_update(skiff, upstream, control_plane):
    """One new long-lived stream after each of 1,000 updates keeps alive only what it uses, not an old world each."""
    from harness.controlplane import ADS, ads_bootstrap
    plane = control_plane()
    a = upstream("a", script=[{"raw": "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc", "hang": True}] * 1300)
    big = [{"match": {"prefix": f"/filler/{n}"}, "direct_response": {"status": 418}} for n in range(200)]

    def routes(number):
        plane.set("route", [{"name": "web", "virtual_hosts": [
            {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": f"/x{number}"}, "route": {"cluster": "a"}}, config.route(cluster="a", timeout="0s")]}]}])

    def push(number):
        routes(number)
        plane.wait_ack("route")
    plane.set("cluster", [config.cluster("a", [a.port], circuit_breakers={"thresholds": [{"max_connections": 5000, "max_requests": 5000}]})])
    plane.set("listener", [config.listener("main", [config.hcm(rds={"route_config_name": "web", "config_source": ADS})]),
                           config.listener("other", [config.hcm(big, stat_prefix="other")])])
    routes(0)
    proxy = skiff(ads_bootstrap(plane.port))
    port, streams = proxy.port(), []

    def open_stream():
        streams.append(client.Client(port))
        streams[-1].send(client.request_bytes())
        streams[-1].head()
    for number in range(100):  # the same number of streams without updates tells what a stream costs
        open_stream()
    warm = proxy.memory_kib()
    for number in range(200):
        open_stream()
    a_stream = (proxy.memory_kib() - warm) / 200
    start = proxy.memory_kib()
    for number in range(1, 1001):
        push(number)
        open_stream()
    growth = (proxy.memory_kib() - start) / 1000
    print(f"a stream costs {a_stream:.1f} KiB; with an update before each {growth:.1f} KiB")
    for stream in streams:
        stream.close()
    assert growth <= a_stream + 8, f"a stream costs {a_stream:.1f} KiB, with an update before each {growth:.1f} KiB"


@pytest.mark.release
def test_resident_memory_at_start(skiff, upstream):
    proxy = skiff(simple(upstream("a").port))
    assert client.get(proxy.port()).status == 200
    print(f"resident at start: {proxy.memory_kib()} KiB")
    assert proxy.memory_kib() <= 24 * 1024


def test_a_client_that_stops_reading_stops_the_upstream(skiff, upstream):
    """Back-pressure reaches the upstream: it cannot send 200 MiB into nowhere."""
    sent = [0]

    def handler(connection):
        connection.read_request()
        connection.send(f"HTTP/1.1 200 OK\r\ncontent-length: {200 * MIB}\r\n\r\n")
        for _ in range(200 * 16):
            connection.send(b"x" * 65536)
            sent[0] += 65536
    proxy = skiff(simple(upstream("a", handler=handler).port, per_connection_buffer_limit_bytes=65536))
    with client.Client(proxy.port()) as c:
        small_buffers(c.sock)
        c.send(client.request_bytes())
        c.head()

        def stalled():
            before = sent[0]
            threading.Event().wait(0.5)
            return before > 0 and sent[0] == before
        wait_for(stalled, "the upstream to stall")
        assert sent[0] < 64 * MIB
    wait_for(lambda: proxy.stat("http.main.downstream_cx_active") == 0, "the connection to be gone")
    wait_for(lambda: proxy.stat("cluster.a.upstream_rq_active") == 0, "the upstream request to be gone")


def test_clients_that_go_away(skiff, upstream):
    """100 clients vanish in the middle of everything; nothing stays behind."""
    a = upstream("a", script=[{"hang": True}] * 50 + [{"raw": "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc", "hang": True}] * 50)
    proxy = skiff(simple(a.port))
    clients = []
    for number in range(100):
        c = client.Client(proxy.port())
        c.send(client.request_bytes("POST" if number % 2 else "GET", "/", [("content-length", "0")]))
        clients.append(c)
    wait_for(lambda: len(a.requests) >= 90, "the requests at the upstream")
    for c in clients:
        c.close()
    for name in ("http.main.downstream_cx_active", "http.main.downstream_rq_active", "cluster.a.upstream_rq_active", "cluster.a.upstream_cx_active"):
        proxy.wait_stat(name, 0)
    assert client.get(proxy.port()).status == 200


def test_one_byte_at_a_time(skiff, upstream):
    """Request and response dribble byte by byte."""
    def dribble(connection, request):
        for byte in b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n":
            connection.send(bytes([byte]))
        return True
    a = upstream("a", script=[dribble])
    proxy = skiff(simple(a.port))
    with client.Client(proxy.port()) as c:
        for byte in b"POST /slow HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n":
            c.send(bytes([byte]))
        response = c.read()
    assert response.body == b"abc" and a.requests[0].body == b"abc"


def test_slowloris(skiff, upstream):
    """200 connections that send half a head hold nobody up, and are closed when their time is over."""
    proxy = skiff(simple(upstream("a").port, hcm={"request_headers_timeout": "1s"}))
    port = proxy.port()
    slow = [client.Client(port) for _ in range(200)]
    for c in slow:
        c.send(b"GET / HTTP/1.1\r\nhost: te")
    for _ in range(20):
        assert client.get(port).text == "a"
    for c in slow:
        c.at_end()
        c.close()


def test_an_early_answer_to_a_big_upload(skiff, upstream):
    """The upstream answers 413 before the body is through and closes: the client sees the answer."""
    a = upstream("a", script=[{"early": True, "status": 413, "headers": {"connection": "close"}, "body": "too big"}])
    proxy = skiff(simple(a.port))
    with client.Client(proxy.port()) as c:
        c.send(client.request_bytes("POST", "/", [("content-length", str(64 * MIB))]))
        c.send(b"x" * MIB)
        response = c.read()
        assert response.status == 413 and response.body == b"too big"


def test_pipelined_requests_keep_their_order(skiff, upstream):
    a = upstream("a", script=[{"body": str(n)} for n in range(50)])
    proxy = skiff(simple(a.port))
    with client.Client(proxy.port()) as c:
        c.send(b"".join(client.request_bytes("GET", f"/{n}") for n in range(50)))
        assert [c.read().text for _ in range(50)] == [str(n) for n in range(50)]
    assert [r.path for r in a.requests] == [f"/{n}" for n in range(50)]


@pytest.mark.threads
def test_many_clients_at_once(skiff, upstream):
    a = upstream("a")
    proxy = skiff(simple(a.port))
    port, wrong = proxy.port(), []

    def work():
        try:
            with client.Client(port) as c:
                for _ in range(25):
                    response = c.request("POST", "/", body=os.urandom(100).hex())
                    if response.text != "a":
                        wrong.append(response)
        except (OSError, EOFError) as error:
            wrong.append(error)
    threads = [threading.Thread(target=work) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not wrong, wrong[:3]
    assert proxy.stat("cluster.a.upstream_rq_total") == 1000

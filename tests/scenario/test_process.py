"""The process: flags, signals, where the configuration comes from, descriptors running out, logs, workers."""
import json
import os
import signal
import subprocess
import threading

import pytest

from harness import client, config, http2
from harness.controlplane import ControlPlane, ads_bootstrap
from harness.proxy import Log, Proxy
from harness.wait import wait_for


def simple(port, **over):
    return config.bootstrap([config.listener("main")], [config.cluster("a", [port])], **over)


def output(binary, *args):
    return subprocess.run([binary, *args], capture_output=True, text=True, timeout=60, check=False)


def test_version(skiff_binary):
    done = output(skiff_binary, "--version")
    assert done.returncode == 0
    line = next(line for line in done.stdout.splitlines() if "version:" in line)
    assert len(line.split("version: ")[1].split("/")) == 5, line


def test_help(skiff_binary):
    done = output(skiff_binary, "--help")
    assert done.returncode == 0
    for flag in ("--config-path", "--config-yaml", "--mode", "--concurrency", "--log-level", "--admin-address-path",
                 "--service-node", "--service-cluster", "--drain-time-s", "--version"):
        assert flag in done.stdout + done.stderr, flag


def test_unknown_flag(skiff_binary):
    done = output(skiff_binary, "--no-such-flag")
    assert done.returncode == 1 and "no-such-flag" in done.stdout + done.stderr


def test_missing_file(skiff_binary):
    done = output(skiff_binary, "-c", "/does/not/exist.yaml")
    assert done.returncode == 1 and "/does/not/exist.yaml" in done.stdout + done.stderr


def test_flags_of_the_control_planes(skiff, upstream):
    """The command lines of Envoy Gateway, Consul, Kuma and Istio are taken."""
    a = upstream("a")
    for args in (
            ["--service-cluster", "c", "--service-node", "n", "--cpuset-threads", "--drain-strategy", "immediate",
             "--component-log-level", "misc:error", "--drain-time-s", "60", "--", "--run-id", "x"],
            ["--drain-time-s", "30", "--drain-strategy", "immediate", "--parent-shutdown-time-s", "60"],
            ["--drain-time-s", "45", "--local-address-ip-version", "v4", "--allow-unknown-static-fields", "--skip-deprecated-logs",
             "--log-format", "%v"]):
        proxy = skiff(simple(a.port), args=args)
        assert client.get(proxy.port()).text == "a"
        proxy.stop()


def test_service_flags_are_the_node(skiff, upstream):
    proxy = skiff(simple(upstream("a").port, node={"id": "from-file"}), args=["--service-node", "n1", "--service-cluster", "c1", "--service-zone", "z1"])
    node = proxy.admin_json("/server_info")["node"]
    assert (node["id"], node["cluster"], node["locality"]["zone"]) == ("n1", "c1", "z1")


def test_config_yaml_alone(skiff, upstream):
    proxy = skiff(None, args=["--config-yaml", json.dumps(simple(upstream("a").port))])
    assert client.get(proxy.port()).text == "a"


def test_config_yaml_is_merged_over_the_file(skiff, upstream):
    proxy = skiff(simple(upstream("a").port), args=["--config-yaml", "node: {id: merged, cluster: c}"])
    assert client.get(proxy.port()).text == "a"
    assert proxy.admin_json("/server_info")["node"]["id"] == "merged"


def test_json_file(skiff, upstream, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(simple(upstream("a").port)))
    assert client.get(skiff(None, path=str(path)).port()).text == "a"


def test_config_from_a_fifo(skiff, upstream, tmp_path):
    """Consul writes the configuration into a pipe: it is read once, from begin to end."""
    path = str(tmp_path / "bootstrap.json")
    os.mkfifo(path)

    def write():
        with open(path, "w", encoding="utf-8") as pipe:
            text = json.dumps(simple(a.port))
            for at in range(0, len(text), 100):
                pipe.write(text[at:at + 100])
                pipe.flush()
    a = upstream("a")
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    proxy = skiff(None, path=path)
    assert client.get(proxy.port()).text == "a"
    writer.join(10)


def test_admin_on_a_unix_socket(skiff, upstream, tmp_path):
    import socket
    path = str(tmp_path / "admin.sock")
    body = simple(upstream("a").port, admin={"address": {"socket_address": None, "pipe": {"path": path, "mode": 0o600}}})
    proxy = skiff(body, wait=False)

    def ready():
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(path)
            sock.sendall(b"GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            data = b""
            while chunk := sock.recv(4096):
                data += chunk
            return b" 200 " in data and b"LIVE" in data
    wait_for(ready, "the admin page on the socket")
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert proxy.alive()


def test_listener_on_a_unix_socket(skiff, upstream, tmp_path):
    import socket
    path = str(tmp_path / "in.sock")
    listener = config.listener("main", address={"socket_address": None, "pipe": {"path": path}})
    skiff(config.bootstrap([listener], [config.cluster("a", [upstream("a").port])]))

    def answered():
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(path)
            sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            data = b""
            while chunk := sock.recv(4096):
                data += chunk
            return data.endswith(b"a")
    wait_for(answered, "an answer over the socket")


def test_upstream_on_a_unix_socket(skiff, tmp_path):
    import socket
    path = str(tmp_path / "up.sock")
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(8)

    def serve():
        while True:
            try:
                sock, _ = server.accept()
            except OSError:
                return
            sock.recv(65536)
            sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nunix")
            sock.close()
    threading.Thread(target=serve, daemon=True).start()
    proxy = skiff(config.bootstrap([config.listener("main")], [config.cluster("a", [{"endpoint": {"address": {"pipe": {"path": path}}}}])]))
    assert client.get(proxy.port()).text == "unix"
    server.close()


def test_ipv6_listener_and_upstream(skiff, upstream):
    a = upstream("a", host="::1")
    listener = config.listener("main", address=config.address(0, "::1"))
    proxy = skiff(config.bootstrap([listener], [config.cluster("a", [config.endpoint(a.port, "::1")])]))
    with client.Client(proxy.port(), host="::1") as c:
        assert c.request().text == "a"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(skiff, upstream, number):
    proxy = skiff(simple(upstream("a").port))
    with client.Client(proxy.port()) as c:
        assert c.request().text == "a"
        proxy.signal(number)
        assert proxy.wait_end() == 0


def test_a_signal_while_it_starts_ends_it(skiff, upstream, concurrency):
    for _ in range(5):
        proxy = skiff(simple(upstream("a").port), concurrency=8 * concurrency, wait=False)
        wait_for(lambda: os.path.exists(proxy.admin_path), "the admin page")  # the workers are next, then signals are served
        proxy.signal(signal.SIGTERM)
        assert proxy.wait_end() in (0, -signal.SIGTERM)


def test_sigterm_with_requests_running(skiff, upstream):
    a = upstream("a", script=[{"hang": True}] * 10)
    proxy = skiff(simple(a.port))
    clients = [client.Client(proxy.port()) for _ in range(10)]
    for c in clients:
        c.send(client.request_bytes())
    wait_for(lambda: len(a.requests) == 10, "the requests at the upstream")
    proxy.signal(signal.SIGTERM)
    assert proxy.wait_end() == 0
    for c in clients:
        c.close()


def test_quitquitquit(skiff, upstream):
    proxy = skiff(simple(upstream("a").port))
    assert proxy.admin("/quitquitquit", method="POST").status == 200
    assert proxy.wait_end() == 0


def test_sighup_is_eaten(skiff, upstream):
    proxy = skiff(simple(upstream("a").port))
    proxy.signal(signal.SIGHUP)
    wait_for(lambda: "SIGHUP" in proxy.log(), "a line in the log")
    assert client.get(proxy.port()).text == "a"


def test_sigusr1_reopens_the_logs(skiff, upstream, tmp_path):
    path = tmp_path / "access.log"
    listener = config.listener("main", [config.hcm(access_log=[config.file_log(str(path), text="%REQ(:PATH)%\n")])])
    proxy = skiff(config.bootstrap([listener], [config.cluster("a", [upstream("a").port])]))
    assert client.get(proxy.port(), "/one").text == "a"
    assert Log(str(path)).wait(1) == ["/one"]
    path.rename(tmp_path / "access.log.1")
    proxy.signal(signal.SIGUSR1)

    def written_anew():
        client.get(proxy.port(), "/two")
        return path.exists() and "/two" in path.read_text()
    wait_for(written_anew, "the new log file")
    assert "/one" not in path.read_text()


def test_log_path(skiff, upstream, tmp_path):
    path = tmp_path / "skiff.log"
    proxy = skiff(simple(upstream("a").port), args=["--log-path", str(path)])
    proxy.stop()
    assert path.read_text().strip()


def test_a_full_log_disk_serves_on(skiff, upstream):
    listener = config.listener("main", [config.hcm(access_log=[config.file_log("/dev/full", text="%REQ(:PATH)%\n")])])
    proxy = skiff(config.bootstrap([listener], [config.cluster("a", [upstream("a").port])]))
    for _ in range(200):
        assert client.get(proxy.port()).text == "a"
    proxy.wait_stat("filesystem.write_failed", lambda value: value and value > 0)


def test_log_lines_of_many_workers_are_whole(skiff, upstream, tmp_path):
    path = tmp_path / "access.log"
    listener = config.listener("main", [config.hcm(access_log=[config.file_log(str(path), {"path": "%REQ(:PATH)%", "code": "%RESPONSE_CODE%"})])])
    proxy = skiff(config.bootstrap([listener], [config.cluster("a", [upstream("a").port])]), concurrency=4)
    port = proxy.port()

    def work(worker):
        with client.Client(port) as c:
            for number in range(200):
                assert c.request("GET", f"/{worker}/{number}").text == "a"
    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    lines = Log(str(path)).wait(1600)
    assert len({json.loads(line)["path"] for line in lines}) == 1600 == len(lines)


@pytest.mark.threads
def test_four_workers_share_the_load(skiff, upstream):
    a = upstream("a")
    proxy = skiff(simple(a.port), concurrency=4)
    port = proxy.port()
    clients = [client.Client(port) for _ in range(64)]
    for _ in range(3):
        for c in clients:
            assert c.request().text == "a"
    assert proxy.stat("cluster.a.upstream_rq_total") == 192
    assert proxy.stat("http.main.downstream_cx_active") == 64
    for c in clients:
        c.close()
    proxy.wait_stat("http.main.downstream_cx_active", 0)
    proxy.wait_stat("cluster.a.upstream_rq_active", 0)


def with_descriptors(most, binary, folder):
    """A program that is the binary with so many descriptors: a limit of our own would hit the test, too."""
    path = folder / "limited"
    path.write_text(f'#!/bin/sh\nulimit -n {most}\nexec "{binary}" "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_descriptors_run_out(skiff_binary, upstream, tmp_path):
    """64 descriptors, 200 clients: no crash, no busy loop, and it recovers by itself."""
    a = upstream("a")
    proxy = Proxy(with_descriptors(64, skiff_binary, tmp_path), simple(a.port), concurrency=1, wait=False)
    try:
        proxy.wait_ready()
        port = proxy.port()
        clients = []
        for _ in range(200):
            try:
                clients.append(client.Client(port))
            except OSError:
                break
        for c in clients:
            c.send(client.request_bytes())
        used = proxy.cpu_seconds()
        wait_for(lambda: len(a.requests) >= 5 or not proxy.alive(), "some requests to pass")
        assert proxy.alive(), proxy.log_tail()
        for c in clients:
            c.close()
        wait_for(lambda: client.get(port).text == "a", "recovery")
        assert proxy.cpu_seconds() - used < 20
    finally:
        proxy.stop()


def test_upstream_connections_leave_main_descriptors(skiff_binary, upstream, tmp_path):
    """One client's streams ask for more upstream connections than there are descriptors; the control plane is still reached."""
    most, kept = 128, 16
    a, plane = upstream("a", handler=lambda connection: connection.hang()), ControlPlane()
    for kind in ("cluster", "listener"):
        plane.set(kind, [])
    listener = config.listener("main", [config.hcm([config.route(cluster="a")])])
    proxy = Proxy(with_descriptors(most, skiff_binary, tmp_path), ads_bootstrap(plane.port, [config.cluster("a", [a.port])], [listener]),
                  concurrency=1, wait=False)
    try:
        proxy.wait_ready()
        with http2.Client(proxy.port()) as many:
            streams = [many.start() for _ in range(100)]
            assert many.until(lambda: any(many.message(s).ended for s in streams))
            assert len(os.listdir(f"/proc/{proxy.pid}/fd")) in range(most - kept - 4, most - kept + 1)
            plane.stop()
            again = ControlPlane(port=plane.port, version=100)
            try:
                again.set("cluster", [config.cluster("late", [a.port])])
                again.wait_ack("cluster")
            finally:
                again.stop()
        assert proxy.alive(), proxy.log_tail()
    finally:
        proxy.stop()


def test_a_busy_port_is_told(skiff_binary, upstream):
    a = upstream("a")
    code, text = None, ""
    proxy = Proxy(skiff_binary, config.bootstrap([config.listener("main", port=a.port)], [config.cluster("a", [a.port])]), wait=False)
    try:
        code = proxy.wait_end()
        text = proxy.log()
    finally:
        proxy.stop(check=False)
    assert code == 1
    assert str(a.port) in text and ("in use" in text or "cannot bind" in text), text[-2000:]


def test_reuse_port_off(skiff, upstream):
    listener = config.listener("main", enable_reuse_port=False)
    proxy = skiff(config.bootstrap([listener], [config.cluster("a", [upstream("a").port])]), concurrency=4)
    for _ in range(20):
        assert client.get(proxy.port()).text == "a"


def test_many_listeners_and_clusters(skiff, upstream):
    a = upstream("a")
    listeners = [config.listener(f"l{n}", [config.hcm([config.route(cluster=f"c{n}")], stat_prefix=f"l{n}")]) for n in range(50)]
    proxy = skiff(config.bootstrap(listeners, [config.cluster(f"c{n}", [a.port]) for n in range(50)]))
    for n in range(50):
        assert client.get(proxy.port(f"l{n}")).text == "a"


def test_idle_costs_nothing(skiff, upstream):
    """10 seconds of doing nothing cost less than a tenth of a second of CPU, with idle connections and clusters."""
    import time
    a = upstream("a")
    proxy = skiff(config.bootstrap([config.listener("main")], [config.cluster("a", [a.port])] + [config.cluster(f"c{n}", [a.port]) for n in range(500)]))
    kept = [client.Client(proxy.port()) for _ in range(20)]
    for c in kept:
        assert c.request().text == "a"
    best = 99.0
    for _ in range(3):  # noise on the machine may cost once; a busy loop costs always
        before = proxy.cpu_seconds()
        time.sleep(3)
        best = min(best, proxy.cpu_seconds() - before)
    assert best <= 0.1, f"{best} s of CPU in 3 s of idle time"
    for c in kept:
        c.close()

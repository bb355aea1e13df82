"""`./dev bench`: Skiff, Envoy and nginx side by side, in one run, in turn, on the same work; for TCP, a raw forwarder as the floor.

Figures: CPU microseconds of the proxy for a request (from /proc), resident memory. Ratios are taken in the same run:
absolute figures drift on small shared machines, ratios hold. Needs nginx and wrk.
"""
import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from harness import config  # noqa: E402
from harness.wait import wait_for  # noqa: E402

NGINX = """daemon off; worker_processes 1; pid {work}/{name}.pid; error_log stderr crit;
events {{ worker_connections 20000; }}
http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {work}/t1; proxy_temp_path {work}/t2;
 fastcgi_temp_path {work}/t3; uwsgi_temp_path {work}/t4; scgi_temp_path {work}/t5; {body} }}"""
ORIGIN = 'server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "{text}"; }} location /64k {{ root {work}; }} }}'
FORWARD = """upstream o {{ server 127.0.0.1:{origin}; keepalive 512; keepalive_requests 100000000; }}
 server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://o; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}"""
TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def family(pid):
    """A process and its children."""
    out = [pid]
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="ascii") as file:
                    parent = int(file.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            if parent == pid:
                out.append(int(entry))
    return out


def cpu(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def resident_mib(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            total += int(re.search(r"VmRSS:\s+(\d+)", file.read())[1])
    return total / 1024


def bootstrap(port, origin, routes=0, clusters=1):
    table = [{"match": {"path": f"/svc-{n}/"}, "route": {"cluster": "origin"}} for n in range(routes)] + [config.route(cluster="origin")]
    wide = {"circuit_breakers": {"thresholds": [{"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000}]}}
    names = ["origin"] + [f"c{n}" for n in range(1, clusters)]
    return config.bootstrap([config.listener("main", [config.hcm(table)], port=port)], [config.cluster(n, [origin], **wide) for n in names],
                            node={"id": "bench", "cluster": "bench"})


def tcp_bootstrap(port, origin):
    proxy = {"name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "tcp", "cluster": "origin"}}
    wide = {"circuit_breakers": {"thresholds": [{"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000}]}}
    return config.bootstrap([config.listener("main", [proxy], port=port)], [config.cluster("origin", [origin], **wide)])


class Started:
    def __init__(self, argv, port, work):
        began = time.time()
        with open(os.path.join(work, "log"), "ab") as log:
            self.process = subprocess.Popen(argv, cwd=work, stdout=log, stderr=log)
        wait_for(lambda: self.open(port), f"port {port} of {argv[0]}", 300, pause=0.002)
        self.seconds = time.time() - began
        self.pids = family(self.process.pid)

    def open(self, port):
        if self.process.poll() is not None:
            sys.exit(f"{self.process.args[0]} ended with {self.process.returncode}")
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def forwarder(work):
    """The floor, built into the work folder."""
    out = os.path.join(work, "forwarder")
    subprocess.run(["cc", "-O2", "-o", out, os.path.join(os.path.dirname(os.path.abspath(__file__)), "forwarder.c")], check=True)
    return out


def start(name, binary, work, origin, tcp=False, **shape):
    port = free_port()
    if name == "floor":
        return Started([binary, str(port), str(origin)], port, work), port
    path = os.path.join(work, name + ".conf")
    if name == "nginx":
        text = NGINX.format(work=work, name=name, body=FORWARD.format(origin=origin, port=port))
        argv = ["nginx", "-p", work, "-c", path, "-e", "stderr"]
    else:
        path += ".json"
        text = json.dumps(tcp_bootstrap(port, origin) if tcp else bootstrap(port, origin, **shape))
        argv = [binary, "-c", path, "--concurrency", "1", "-l", "error", "--disable-hot-restart"]
    with open(path, "w", encoding="utf-8") as out:
        out.write(text)
    return Started(argv, port, work), port


def wrk(port, connections, seconds, path="", close=False):
    headers = ["-H", "Connection: close"] if close else []
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *headers, f"http://127.0.0.1:{port}/{path}"],
                         capture_output=True, text=True, check=True).stdout
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    if bad:
        sys.exit(f"{bad[1]} bad answers")
    return int(re.search(r"(\d+) requests in", out)[1])


def measure(name, binary, work, origin, seconds, connections=64, ask=None, **shape):
    """{figure: value} of one proxy, freshly started."""
    started, port = start(name, binary, work, origin, **shape)
    try:
        figures = {"start s": started.seconds, "resident MiB": resident_mib(started.pids)}
        if shape.get("clusters", 1) == 1:
            ask = ask or {}
            wrk(port, connections, 1, **ask)
            started.pids = family(started.process.pid)  # by now nginx has its worker
            before = cpu(started.pids)
            count = wrk(port, connections, seconds, **ask)
            figures["CPU µs a request"] = (cpu(started.pids) - before) / count * 1e6
        return figures
    finally:
        started.stop()


SCENARIOS = {
    "h1": {"connections": 64},
    "one connection": {"connections": 1},
    "routes 1k": {"connections": 64, "routes": 1000},
    "clusters 10k": {"clusters": 10000},
    "tcp 1k": {"tcp": True, "connections": 64},
    "tcp 64k": {"tcp": True, "connections": 16, "ask": {"path": "64k"}},
    "tcp connect 1k": {"tcp": True, "connections": 64, "ask": {"close": True}},
    "tcp connect 64k": {"tcp": True, "connections": 16, "ask": {"path": "64k", "close": True}},
}


def chosen(text):
    """Names of scenarios, or a word they begin with: "tcp" is all of tcp_proxy's."""
    names = [name for word in text.split(",") for name in SCENARIOS if name == word or name.startswith(word + " ")]
    return names or sys.exit(f"no scenario is named {text}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skiff", required=True)
    parser.add_argument("--envoy", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("scenarios", nargs="?", help="comma-separated names or their first word; all of them without")
    parser.add_argument("--proxies", default="skiff,envoy,nginx,floor")
    parser.add_argument("--json")
    options = parser.parse_args()
    work = tempfile.mkdtemp(prefix="skiff-bench-")
    subprocess.run(["chmod", "-R", "a+rX", work], check=True)
    port = free_port()
    with open(os.path.join(work, "origin.conf"), "w", encoding="utf-8") as out:
        out.write(NGINX.format(work=work, name="origin", body=ORIGIN.format(port=port, text="x" * 1000, work=work)))
    with open(os.path.join(work, "64k"), "wb") as out:
        out.write(b"x" * 65536)
    origin = Started(["nginx", "-p", work, "-c", os.path.join(work, "origin.conf"), "-e", "stderr"], port, work)
    result = {}
    binaries = {"skiff": os.path.abspath(options.skiff), "envoy": options.envoy, "nginx": None, "floor": forwarder(work)}
    binaries = {name: binaries[name] for name in options.proxies.split(",")}
    try:
        for scenario in chosen(options.scenarios) if options.scenarios else SCENARIOS:
            shape = SCENARIOS[scenario]
            proxies = [p for p in binaries if p in ("skiff", "envoy") or (p == "floor" and "tcp" in shape) or (p == "nginx" and set(shape) == {"connections"})]
            rounds = {proxy: [] for proxy in proxies}
            for _ in range(1 if "clusters" in shape else options.rounds):
                for proxy in proxies:
                    rounds[proxy].append(measure(proxy, binaries[proxy], work, port, options.seconds, **shape))
            result[scenario] = {p: {k: statistics.median(r[k] for r in rs) for k in rs[0]} for p, rs in rounds.items()}
            show(scenario, result[scenario])
    finally:
        origin.stop()
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump(result, out, indent=1)


def show(scenario, figures):
    print(f"\n{scenario}")
    for figure in figures["skiff"]:
        row = "  ".join(f"{proxy} {values[figure]:.3g}" for proxy, values in figures.items())
        ratios = "  ".join(f"{figures['skiff'][figure] / max(values[figure], 1e-9):.2f} × {proxy}" for proxy, values in figures.items() if proxy != "skiff")
        print(f"  {figure:18} {row}   skiff = {ratios}", flush=True)


if __name__ == "__main__":
    main()

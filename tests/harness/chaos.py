"""Chaos: random updates, right and wrong, under random traffic; then quiet, in which nothing may be left over.

By hand, long runs (one seed after another, until one fails):
    PYTHONPATH=tests python -m harness.chaos --skiff build/asan/skiff --seed 1 --runs 100 --seconds 10 --concurrency 4
"""
import argparse
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time

from harness import client, config
from harness.chaos_traffic import Good, Good2, Server, Udp, Wild, WildUdp, Worker, open_files
from harness.chaos_world import CLUSTERS, LISTENERS, SECRETS, TABLES, World
from harness.controlplane import ADS, ORDER, ControlPlane, ads_bootstrap, encode, grpc_cluster
from harness.dns import DnsServer
from harness.pki import Pki
from harness.ports import udp_ports
from harness.proxy import Proxy
from harness.upstream import closed_port
from harness.wait import wait_for

WEIGHTS = {"listener": 6, "cluster": 8, "route": 6, "endpoint": 6, "secret": 2, "extension": 2, "scoped_route": 1, "virtual_host": 2, "runtime": 1}
ADMIN = ("/stats", "/stats/prometheus", "/clusters", "/clusters?format=json", "/config_dump", "/config_dump?include_eds", "/listeners?format=json", "/certs",
         "/server_info", "/runtime", "/memory", "/stats?format=json&histogram_buckets=detailed", "/init_dump", "/help", "/nothing")
GAUGES = re.compile(r"(cx_active|rq_active|pending_active|sess_active|rq_pending_active|total_listeners_draining|total_listeners_warming|"
                    r"total_filter_chains_draining|pre_cx_active|upgrades_active|retry_open|warming_clusters|downstream_cx_.*active)$")
OURS = re.compile(r"^(http\.admin|listener\.admin|cluster\.xds|cluster\.authz)\.")


class Chaos:
    def __init__(self, binary, seed, concurrency=1, delta=False, log=None, hard=False):
        self.rng, self.seed, self.delta, self.log = random.Random(seed), seed, delta, log or (lambda text: None)
        self.directory = tempfile.mkdtemp(prefix="skiff-chaos-")
        self.pki = Pki(os.path.join(self.directory, "pki"))
        leaf = self.pki.issue("leaf", "DNS:a.example")
        self.servers = [Server("good", leaf)] + [Server(f"w{n}", leaf, random.Random(seed * 10 + n)) for n in range(3)]
        self.closed, dead = closed_port()
        self.udp = Udp(random.Random(seed))
        self.dns, self.hard = DnsServer({"a.test": ["127.0.0.1"], "b.test": ["127.0.0.1", "127.0.0.2"]}, ttl=1), hard
        log_path = "/dev/full" if hard and self.rng.random() < 0.5 else os.path.join(self.directory, "access.log")
        self.world = World(self.rng, [s.port for s in self.servers], dead, leaf, log_path, self.dns, delta)
        with udp_ports() as port:
            self.world.udp_ports = [port(), port()]
        self.state = {kind: {} for kind in ORDER}
        self.wrong = {kind: {} for kind in ORDER}
        self.plane = ControlPlane()
        self.plane.answer_unknown = self.rng.random() < 0.5
        self.port = self.plane.port
        for kind in ("cluster", "endpoint", "listener", "route"):
            self.make(kind, "good")
        for kind, prefix, count in (("cluster", "c", CLUSTERS), ("endpoint", "c", CLUSTERS), ("listener", "l", LISTENERS), ("route", "t", TABLES), ("secret", "s", SECRETS)):
            for number in range(count):
                self.make(kind, f"{prefix}{number}")
        self.make("secret", "ca")
        self.make("runtime", "rtds")
        for kind in ORDER:
            self.push(kind)
        udp = config.cluster("udp", [self.udp.port])
        authz = config.merge(grpc_cluster(self.servers[1].port), {"name": "authz"})
        authz["load_assignment"]["cluster_name"] = "authz"
        layers = [{"name": "rtds", "rtds_layer": {"name": "rtds", "rtds_config": ADS}}, {"name": "admin", "admin_layer": {}}]
        self.proxy = Proxy(binary, ads_bootstrap(self.port, [udp, authz], delta=delta, layers=layers, cluster_manager={}), concurrency=concurrency,
                           args=["--drain-time-s", str(Good.DRAIN_SECONDS), "--parent-shutdown-time-s", str(Good.DRAIN_SECONDS + 1)], level="error", directory=os.path.join(self.directory))
        self.good, self.workers = self.proxy.port("good"), concurrency
        self.ports = []
        client.get(self.good, "/good")
        self.files = self.count_files()

    # --- the control plane ---

    def push(self, kind):
        """Serves the state of the kind; wrong resources are among the right ones."""
        plane = self.plane
        with plane.changed:
            if kind == "virtual_host":
                table = self.rng.choice(("t0", "t1", "t2"))
                hosts = {name: host if self.rng.random() < 0.9 else None for name, host in self.state[kind].items()}
                plane.set_virtual_hosts(table, hosts, {name: [f"{name}.com"] for name in hosts})
                return
            plane.resources[kind] = dict(self.state[kind])
            for name, data in self.wrong[kind].items():
                plane.resources[kind][name] = encode(kind, data)
            plane.bump(kind, None)

    def make(self, kind, name, resource=None):
        resource = resource or self.world.make(kind, name)
        self.state[kind][name] = resource if kind == "virtual_host" else encode(kind, resource)

    def change(self):
        kinds = list(WEIGHTS)
        kind = self.rng.choices(kinds, [WEIGHTS[k] for k in kinds])[0]
        if kind == "virtual_host" and not self.delta:
            return None
        world, state = self.world, self.state[kind]
        fixed = "good" in state or kind in ("secret", "runtime")
        name = "good" if "good" in state and self.rng.random() < 0.25 else world.name(kind)
        self.wrong[kind] = {n: r for n, r in self.wrong[kind].items() if n != name and self.rng.random() < 0.5}
        if name in ("nobody",):
            return None
        how = self.rng.random()
        if fixed and name in ("good", "ca", "rtds"):
            self.make(kind, name)
        elif how < 0.25:
            state.pop(name, None)
        elif how < 0.35 and kind not in ("virtual_host",):
            self.wrong[kind][name] = world.broken(kind, name)
        elif how < 0.4 and state:
            return kind  # the same again
        else:
            self.make(kind, name)
        return kind

    def step(self):
        kinds = [k for k in (self.change() for _ in range(self.rng.choice((1, 1, 1, 2, 5)))) if k]
        if self.rng.random() < 0.5:
            with self.plane.changed:
                for kind in kinds:
                    self.push(kind)
        else:
            for kind in kinds:
                self.push(kind)
        if self.rng.random() < 0.01:
            self.restart_plane()
        if self.rng.random() < 0.2:
            self.dns.names[self.rng.choice(("a.test", "b.test"))] = self.rng.choice((None, [], ["127.0.0.1"], ["127.0.0.1", "127.0.0.3"]))
        if self.hard:
            self.harden()
        time.sleep(self.rng.choice((0, 0.01, 0.03, 0.1)))

    def harden(self):
        """What takes good requests with it: descriptors run out, listeners drain."""
        most = resource.prlimit(self.proxy.pid, resource.RLIMIT_NOFILE)[1]
        if self.rng.random() < 0.1:
            some = len(os.listdir(f"/proc/{self.proxy.pid}/fd")) + self.rng.randrange(10)
            resource.prlimit(self.proxy.pid, resource.RLIMIT_NOFILE, (some, most))
            time.sleep(0.3)
        resource.prlimit(self.proxy.pid, resource.RLIMIT_NOFILE, (most, most))
        if self.rng.random() < 0.02:
            self.proxy.signal(signal.SIGUSR1)

    def restart_plane(self):
        self.plane.stop()
        nacks = self.plane.nacks
        self.plane = wait_for(self.new_plane, "the port of the control plane")
        self.plane.nacks += nacks
        for kind in ORDER:
            self.push(kind)

    def new_plane(self):
        try:
            return ControlPlane(port=self.port, version=1000)
        except (RuntimeError, AssertionError):
            return None

    # --- the rest of the world ---

    def look(self):
        """An admin page, and which ports there are."""
        self.proxy.admin(self.rng_admin.choice(ADMIN))
        if self.rng_admin.random() < 0.1:
            self.proxy.admin(self.rng_admin.choice(("/reset_counters", "/runtime_modify?chaos.on=%d" % self.rng_admin.randrange(100), "/healthcheck/fail", "/healthcheck/ok",
                                                    "/logging?level=error", "/reopen_logs")), "POST")
        listeners = self.proxy.admin_json("/listeners?format=json").get("listener_statuses", [])
        self.ports = [s["local_address"]["socket_address"]["port_value"] for s in listeners if s["local_address"]["socket_address"].get("protocol") != "UDP"]
        time.sleep(0.05)

    def count_files(self):
        out = {}
        for what in open_files(self.proxy.pid):
            out[what] = out.get(what, 0) + 1
        return out

    def run(self, seconds, wild=5):
        self.rng_admin = random.Random(self.seed + 1)
        good = [Worker(Good(self.good).once), Worker(Good2(self.good).once)]
        clients = [Wild(random.Random(self.seed * 100 + n), lambda: self.ports) for n in range(wild)]
        udp = WildUdp(random.Random(self.seed), self.world.udp_ports)
        others = [Worker(c.once) for c in clients] + [Worker(udp.once), Worker(self.look)]
        end, steps = time.monotonic() + seconds, 0
        while time.monotonic() < end and self.proxy.alive():
            self.step()
            steps += 1
        for worker in [*good, *others]:
            worker.running = False
        for worker in [*good, *others]:
            worker.stop()
        for worker in good:
            if worker.once.__self__.kept:
                worker.once.__self__.kept.close()
        udp.close()
        self.log(f"seed {self.seed}: {steps} updates, {sum(w.count for w in good)} good answers, {sum(w.count for w in others[:wild])} wild clients with "
                 f"{sum(c.answers for c in clients)} answers, {len(self.plane.acks)} ACKs, {len(self.plane.nacks)} NACKs")
        for text in self.plane.nacks:
            self.log(f"{text[0]} {text[2][:300]}") if os.environ.get("NACKS") else None
        self.proxy.check_health()
        assert self.proxy.alive(), f"it died with {self.proxy.process.returncode}:\n{self.proxy.log_tail()}"
        bad = [b for w in good for b in w.bad if b[0] < Good.DRAIN_SECONDS]
        assert not bad or self.hard, f"{len(bad)} good requests failed: {bad[:5]}"
        slow = [b for w in good for b in w.bad if b[0] >= Good.DRAIN_SECONDS]
        if slow:
            self.log(f"slow: {slow}")
        bad = [b for w in others for b in w.bad]
        assert not bad, f"the driver: {bad[:5]}"

    # --- the end ---

    def calm(self):
        """All but the good ones goes; then all traffic has ended and nothing of it may be left."""
        for kind in ORDER:
            self.wrong[kind] = {}
            self.state[kind] = {n: r for n, r in self.state[kind].items() if n in ("good", "ca", "rtds")}
        self.make("cluster", "good", config.cluster("good", [self.servers[0].port]))
        self.make("listener", "good", config.listener("good", [config.hcm([config.route(cluster="good")])]))
        resource.prlimit(self.proxy.pid, resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))
        self.proxy.admin("/healthcheck/ok", "POST")
        with self.plane.changed:
            for kind in ORDER:
                self.push(kind)
        wait_for(lambda: client.get(self.good, "/calm").body == b"good", "the last configuration")
        for server in self.servers[1:]:
            server.stop()
        self.servers[0].close_connections()

        def left():
            self.servers[0].close_connections()
            return {n: v for n, v in self.proxy.stats().items() if v and GAUGES.search(n) and not OURS.search(n)}
        try:
            wait_for(lambda: not left(), "gauges to be zero", 30)
        except AssertionError:
            raise AssertionError(f"gauges are left: {left()}") from None
        def names():
            return [n for n in self.proxy.stats("^(cluster|listener)\\.") if re.match(r"(cluster\.c\d\.(upstream|membership)|listener\.l\d\.)", n)]
        try:
            wait_for(lambda: not names(), "statistics of what is gone to go", 30)
        except AssertionError:
            raise AssertionError(f"statistics of what is gone: {names()}") from None

        def files():
            now = self.count_files()
            return {k: (v, self.files.get(k, 0)) for k, v in now.items() if v > self.files.get(k, 0) + (2 if k == "socket:" else 0) + (2 * self.workers if k == "pipe:" else 0) and not k.startswith("/")}
        try:
            wait_for(lambda: not files(), "files to be closed", 30)
        except AssertionError:
            raise AssertionError(f"files are left: {files()}") from None

    def keep_pages(self):
        """The admin pages, for whoever looks into a failure."""
        for name in ("stats", "config_dump", "clusters", "listeners?format=json", "init_dump"):
            if self.proxy.alive():
                try:
                    with open(os.path.join(self.directory, name.partition("?")[0] + ".page"), "wb") as out:
                        out.write(self.proxy.admin("/" + name).body)
                except (OSError, EOFError, ValueError) as error:
                    self.log(f"no {name}: {error!r}")

    def stop(self, check=True):
        try:
            self.proxy.stop(check)
        finally:
            self.plane.stop()
            for server in self.servers:
                server.stop()
            self.udp.stop()
            self.dns.stop()
            self.closed.close()


def one_run(binary, seed, seconds, concurrency, delta, calm=True, log=None, wild=5, hard=False):
    chaos = Chaos(binary, seed, concurrency, delta, log, hard)
    try:
        chaos.run(seconds, wild)
        if calm:
            chaos.calm()
    except BaseException:
        chaos.keep_pages()
        chaos.stop(check=False)
        log and log(f"see {chaos.directory}")
        raise
    chaos.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--skiff", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--concurrency", type=int, default=None, help="default: 1 and 4 in turn")
    parser.add_argument("--hard", action="store_true", help="also lets descriptors run out and the log disk be full; good requests may then fail")
    parser.add_argument("--keep-going", action="store_true")
    options = parser.parse_args()
    failed = 0
    for seed in range(options.seed, options.seed + options.runs):
        concurrency = options.concurrency or (1, 4)[seed % 2]
        try:
            one_run(os.path.abspath(options.skiff), seed, options.seconds, concurrency, seed % 4 >= 2, seed % 5 != 4, print, hard=options.hard)
        except AssertionError as error:
            failed += 1
            print(f"seed {seed}, {concurrency} workers FAILED: {error}", flush=True)
            if not options.keep_going:
                break
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

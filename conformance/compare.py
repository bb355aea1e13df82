"""One case, run on two proxies, compared. A case file is told in README.md.

What a proxy did with a case (the answers, what the upstreams got, the access log, the statistics) becomes a flat
map of readable paths; ports, ids and dates are replaced by names. Two maps are compared line by line.
"""
import fnmatch
import json
import os
import re
import tempfile
import time

import yaml

from harness import config, http1, http2
from harness.client import Client, request_bytes
from harness.proxy import Log, Proxy
from harness.upstream import Upstream, closed_port
from harness.wait import wait_for

CASES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cases")
LOG_FIELDS = {
    "method": "%REQ(:METHOD)%", "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "authority": "%REQ(:AUTHORITY)%",
    "protocol": "%PROTOCOL%", "code": "%RESPONSE_CODE%", "details": "%RESPONSE_CODE_DETAILS%", "flags": "%RESPONSE_FLAGS%",
    "received": "%BYTES_RECEIVED%", "sent": "%BYTES_SENT%", "route": "%ROUTE_NAME%", "cluster": "%UPSTREAM_CLUSTER%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "upstream": "%UPSTREAM_HOST%",
}
UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
DATE = re.compile(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\b")
CLUSTERS = {"a": {}, "b": {}}
# Whether a pooled connection was free again is a matter of microseconds, and each worker has a pool of its own.
POOLS = re.compile(r"\.upstream_(rq_pending_total|cx_total|cx_http1_total|cx_http2_total|cx_(rx|tx)_bytes_\w+|cx_active)$")
WORKER = re.compile(r"\.worker_\d+\.")
SOON = 10  # seconds for what the other proxy showed already


def load(path):
    """A case file; `{port:NAME}` and `{directory}` stay for later."""
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def fill(value, ports):
    """Replaces {port:NAME} in every string below."""
    if isinstance(value, dict):
        return {fill(k, ports): fill(v, ports) for k, v in value.items()}
    if isinstance(value, list):
        return [fill(v, ports) for v in value]
    if isinstance(value, str) and "{port:" in value:
        whole = re.fullmatch(r"\{port:(\w+)\}", value)
        if whole:
            return ports[whole[1]]
        return re.sub(r"\{port:(\w+)\}", lambda m: str(ports[m[1]]), value)
    return value


class Side:
    """One proxy with upstreams of its own, configured from a case file."""

    def __init__(self, binary, spec, concurrency):
        self.spec, self.upstreams, self.kept, self.extra_names = spec, {}, [], []
        clusters = spec.get("clusters", CLUSTERS)
        names = set(spec.get("upstreams", ["a", "b"]))
        for name in sorted(names):
            self.upstreams[name] = http2.Upstream2(name) if name in spec.get("http2", ()) else Upstream(name)
        sock, closed = closed_port()
        self.kept.append(sock)
        self.upstream_ports = {"closed": closed, **{n: u.port for n, u in self.upstreams.items()}}
        self.proxy = None
        try:
            self.start(binary, clusters, concurrency)
        except BaseException:
            self.stop(check=False)
            raise

    def start(self, binary, clusters, concurrency):
        directory = tempfile.mkdtemp(prefix="skiff-case-")
        self.log_path = os.path.join(directory, "access.log")
        body = config.bootstrap(self.listeners(), [self.cluster(n, c or {}) for n, c in clusters.items()])
        body = config.merge(body, self.spec.get("bootstrap", {}))
        self.proxy = Proxy(binary, fill(body, self.upstream_ports), directory=directory, concurrency=concurrency,
                           args=self.spec.get("args", []))
        self.log = Log(self.log_path)
        for name in self.spec.get("listeners", {"main": {}}):
            self.proxy.port(name)

    def cluster(self, name, over):
        over = dict(over)
        hosts = over.pop("endpoints", [] if "load_assignment" in over else [name])
        ends = [h if isinstance(h, dict) else config.endpoint(self.upstream_ports[h]) for h in hosts]
        return config.merge(config.cluster(name, ends), over)

    def listeners(self):
        out = []
        for name, one in self.spec.get("listeners", {"main": {}}).items():
            one = {k: v for k, v in (one or {}).items()}
            routes = one.get("routes", self.spec.get("routes"))
            vhosts = one.get("vhosts", self.spec.get("vhosts"))
            over = config.merge(self.spec.get("hcm", {}), one.get("hcm", {}))
            logs = self.spec.get("log", {"json": LOG_FIELDS})
            logs = one.get("log", logs)
            if "access_log" not in over:
                over["access_log"] = [config.file_log(self.log_path, logs.get("json"), logs.get("text"))]
            filters = [config.hcm(routes=routes, vhosts=vhosts, stat_prefix=name, **over)]
            out.append(config.listener(name, filters, **one.get("listener", {})))
        return out

    def stop(self, check=True):
        try:
            if self.proxy:
                self.proxy.stop(check=check)
        finally:
            for server in self.upstreams.values():
                server.stop()
            for sock in self.kept:
                sock.close()

    # --- running ---

    def names(self):
        """[(text of a port, its name)] for the normaliser."""
        out = [(str(p), f"<{n}>") for n, p in self.upstream_ports.items()]
        return out + [(str(p), f"<{n}>") for n, p in self.proxy.ports.items()]

    def stats(self, patterns):
        if not patterns:
            return {}
        return self.proxy.stats("|".join(f"({p})" for p in patterns))

    def run(self, case, like=None, other=None):
        """The flat map of what happened. `like` is that of the other proxy, `other`: it tells what to wait for."""
        self.before = self.stats(case.get("stats"))
        self.clients, self.extra_names, self.digits = [], [], 0
        self.log.lines()
        seen = {}
        steps = case.get("steps", [case])
        responses = 0
        try:
            for number, step in enumerate(steps):
                flat = self.step(step, number if len(steps) > 1 else None)
                if step.get("listener") != "admin":
                    responses += sum(1 for key in flat if key.endswith(".status"))
                seen.update(flat)
        finally:
            for client in self.clients:
                client.close()
        if any(value == "closed without an answer" for value in seen.values()):
            responses += 1  # nothing was answered, yet a line may be logged: it is waited for, briefly
        lines = case.get("logs", sum(1 for k in like if re.fullmatch(r"log\.\d+\.whole", k)) if like else responses)
        self.add_log(seen, self.read_log(lines, exact=like is not None or "logs" in case))
        self.add_stats(seen, case, like, other)
        return seen

    def read_log(self, count, exact):
        got = []
        end = time.monotonic() + (SOON if exact else 3)
        while len(got) < count and time.monotonic() < end:
            got += self.log.lines()
            time.sleep(0.01)
        return got + self.log.lines()

    def step(self, step, number):
        prefix = "" if number is None else f"step.{number}."
        script = step.get("up", [])
        script = script if isinstance(script, dict) else {"a": script}
        for name, server in self.upstreams.items():
            server.play(*script.get(name, []))
        seen = {}
        answers = self.send(step)
        for at, answer in enumerate(answers):
            self.add_answer(seen, f"{prefix}response.{at}", answer)
        if "closed" in step:
            seen[f"{prefix}closed"] = self.clients[-1].at_end() == b""
        for name, count in step.get("wait", {}).items():
            wait_for(lambda: sum(r.whole for r in self.upstreams[name].requests) >= count, f"{count} whole requests at {name}")
        if answers == [None]:
            seen[f"{prefix}response"] = "closed without an answer"
        for name, server in sorted(self.upstreams.items()):
            for at, request in enumerate(list(server.requests)):
                self.add_request(seen, f"{prefix}upstream.{name}.{at}", request)
        return seen

    def send(self, step):
        listener = step.get("listener", "main")
        port = self.proxy.admin_port() if listener == "admin" else self.proxy.port(listener)
        if step.get("h2"):
            return self.send_h2(step, port)
        if not step.get("keep"):
            self.clients.append(Client(port, source=step.get("from")))
        client = self.clients[-1]
        self.extra_names.append((str(client.port), "<client>"))
        method, data = self.bytes_of(step)
        client.send(data)
        if step.get("half_close"):
            client.sock.shutdown(1)
        answers = []
        try:
            for at in range(step.get("answers", 1)):
                methods = step.get("methods", [])
                answers.append(client.read(methods[at] if at < len(methods) else method))
            if "tunnel" in step and answers[0].status in (101, 200):
                client.send(step["tunnel"].encode())
                answers[0].body, answers[0].complete = client.reader.exactly(len(step["tunnel"])), True
        except http1.Closed:
            answers.append(None)
        return answers

    def send_h2(self, step, port):
        """The same over HTTP/2. `fields`: the whole header list; `frames`: bytes (a list of hex texts) after the head."""
        if not step.get("keep"):
            self.clients.append(http2.Client(port, source=step.get("from")))
        client = self.clients[-1]
        self.extra_names.append((str(client.port), "<client>"))
        pairs = lambda given: [(k, str(v)) for k, v in (given.items() if isinstance(given, dict) else given)]  # noqa: E731
        body, trailers = step.get("body"), step.get("trailers")
        if isinstance(body, dict):
            body = body["repeat"] * body["times"]
        fields = pairs(step["fields"]) if "fields" in step else http2.request_fields(
            step.get("method", "GET"), step.get("get", step.get("path", "/")), step.get("host", "test"), pairs(step.get("headers", {})))
        open_end = step.get("open") or "tunnel" in step
        stream = client.open(fields, body is None and trailers is None and not open_end)
        if body is not None:
            ends = trailers is None and not open_end
            client.send_body(stream, body, ends) if body else client.send(http2.data(stream, b"", ends))
        if trailers is not None:
            client.send(http2.headers(stream, pairs(trailers)))
        if "reset" in step:
            client.send(http2.reset(stream, step["reset"]))
            return []
        if "tunnel" in step:
            message = client.message(stream)
            client.until(lambda: message.head_seen or message.ended)
            if message.status // 100 == 2 and not message.ended:
                client.send(http2.data(stream, step["tunnel"], False))
                client.until(lambda: len(message.body) >= len(step["tunnel"]) or message.ended)
                client.send(http2.reset(stream, http2.CANCEL))
                return [message]
        message = client.wait(stream)
        if message.ended or message.head_seen:
            return [message]
        return [None]

    def bytes_of(self, step):
        if "raw" in step:
            text = fill(step["raw"], self.proxy.ports)
            return text.split(" ", 1)[0], text.encode("latin-1")
        method = step.get("method", "GET")
        path = step.get("get", step.get("path", "/"))
        headers = step.get("headers", {})
        headers = [(k, str(v)) for k, v in (headers.items() if isinstance(headers, dict) else headers)]
        headers = fill([list(h) for h in headers], self.proxy.ports)
        host = fill(step.get("host", "test"), self.proxy.ports)
        body = step.get("body")
        if isinstance(body, dict):  # {repeat: text, times: n}
            body = body["repeat"] * body["times"]
        return method, request_bytes(method, path, [tuple(h) for h in headers], body, host, step.get("version", "HTTP/1.1"))

    # --- telling ---

    def plain(self, text):
        for port, name in self.names() + self.extra_names:
            text = re.sub(rf"\b{port}\b", name, text)
        return DATE.sub("<date>", UUID.sub("<uuid>", text))

    def plain_tree(self, value):
        """The same for JSON: ports may be numbers there."""
        if isinstance(value, dict):
            return {key: self.plain_tree(child) for key, child in value.items()}
        if isinstance(value, list):
            return [self.plain_tree(child) for child in value]
        if isinstance(value, str) or (isinstance(value, int) and value > 1023):
            return self.plain(str(value))
        return value

    def add_headers(self, seen, prefix, fields):
        for name, value in fields:
            if name.lower() == "x-envoy-upstream-service-time" and value.isdigit():
                self.digits += len(value) - 1
                value = "<n>"
            if name.lower() == "x-envoy-expected-rq-timeout-ms" and 10000 < int(value) <= 15000:
                value = "<at most 15000>"
            key = f"{prefix}.{name}"
            value = self.plain(value)
            seen[key] = f"{seen[key]} | {value}" if key in seen else value

    def add_answer(self, seen, prefix, answer):
        if answer is None:
            seen[f"{prefix}"] = "closed without an answer"
            return
        seen[f"{prefix}.status"] = answer.status
        seen[f"{prefix}.line"] = f"{answer.version} {answer.status} {answer.reason}"
        seen[f"{prefix}.complete"] = answer.complete
        for status, fields in answer.interim:
            seen[f"{prefix}.interim"] = f"{seen.get(prefix + '.interim', '')} {status} {fields}"
        self.add_headers(seen, f"{prefix}.header", answer.headers)
        self.add_headers(seen, f"{prefix}.trailer", answer.trailers)
        if getattr(answer, "reset", None) is not None:
            seen[f"{prefix}.reset"] = answer.reset
        body = answer.body.decode("latin-1")
        if answer.header("content-type") == "application/json":
            body = json.dumps(json.loads(body), sort_keys=True, indent=1)  # Envoy's order is that of a hash map
        seen[f"{prefix}.body"] = self.plain(body) if len(body) < 4000 else f"{len(body)} bytes {hash(body)}"

    def add_request(self, seen, prefix, request):
        seen[f"{prefix}.line"] = self.plain(request.line)
        self.add_headers(seen, f"{prefix}.header", request.headers)
        self.add_headers(seen, f"{prefix}.trailer", request.trailers)
        body = request.body.decode("latin-1")
        seen[f"{prefix}.body"] = body if len(body) < 4000 else f"{len(body)} bytes {hash(body)}"

    def add_log(self, seen, lines):
        for number, line in enumerate(lines):
            seen[f"log.{number}.whole"] = True
            try:
                values = json.loads(line)
            except ValueError:
                values = None
            if isinstance(values, dict):
                for key, value in values.items():
                    seen[f"log.{number}.{key}"] = self.plain(value) if isinstance(value, str) else value
            else:
                seen[f"log.{number}.text"] = self.plain(line)

    def deltas(self, case):
        after = self.stats(case["stats"])
        out = {}
        for name, value in after.items():
            if name.endswith(".downstream_cx_tx_bytes_total"):
                value -= self.digits  # those of milliseconds, beyond the first
            if not case.get("stats_values"):
                value -= self.before.get(name, 0)
                if not value:
                    continue
            if not POOLS.search(name):
                key = "stat." + WORKER.sub(".worker_<n>.", self.plain(name))
                out[key] = out.get(key, 0) + value
        return out

    def add_stats(self, seen, case, like, other):
        if not case.get("stats"):
            return
        end, last = time.monotonic() + SOON, None
        if like is not None:
            last = {k: v for k, v in like.items() if k.startswith("stat.")}
        while True:
            now = self.deltas(case)
            if (last is not None and not differences(case, last, now)) or time.monotonic() > end:
                break
            time.sleep(0.05)
            last = other.deltas(case) if other else now
        if other:  # on a busy machine it may have counted more since it was read
            for key in [k for k in like if k.startswith("stat.")]:
                del like[key]
            like.update(last)
        seen.update(now)


def allowed(case, path):
    """Is a difference at this path wanted? `differs: [{at: glob, why: text}]`."""
    return any(fnmatch.fnmatchcase(path, one["at"]) and one["why"] for one in case.get("differs", []))


def differences(case, envoy, skiff):
    """One line for each path that differs."""
    out = []
    for path in sorted(set(envoy) | set(skiff)):
        if envoy.get(path) != skiff.get(path) and not allowed(case, path):
            out.append(f"{path}: envoy {envoy.get(path, '(nothing)')!r}, skiff {skiff.get(path, '(nothing)')!r}")
    return out

"""Starts and ends a proxy: Skiff or the real Envoy, the same way. Everything is ended by its process id."""
import json
import os
import re
import signal
import subprocess
import tempfile
import urllib.parse

from harness import client
from harness.wait import LONG, wait_for

TROUBLE = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|LeakSanitizer|Assertion .* failed|must failed")
SANITIZER_ENV = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=99:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=99",
    "TSAN_OPTIONS": "exitcode=99:halt_on_error=0:second_deadlock_stack=1:ignore_noninstrumented_modules=1",
}


class Proxy:
    """A running proxy. `config` is a dict (written as JSON, which is YAML) or the text of a YAML file."""

    living = []  # for the report of a failed test

    def __init__(self, binary, config=None, args=(), concurrency=1, wait=True, directory=None, env=None, level=None,
                 path=None):
        self.binary = binary
        self.is_envoy = os.path.basename(binary).startswith("envoy")
        self.directory = directory or tempfile.mkdtemp(prefix="skiff-test-")
        self.config_path = path or os.path.join(self.directory, "config.yaml")
        if config is not None and path is None:
            with open(self.config_path, "w", encoding="utf-8") as out:
                out.write(config if isinstance(config, str) else json.dumps(config, indent=1))
        self.admin_path = os.path.join(self.directory, "admin")
        self.log_path = os.path.join(self.directory, "log")
        level = level or ("warning" if self.is_envoy else "info")
        argv = [binary]
        if config is not None or path is not None:
            argv += ["-c", self.config_path]
        argv += ["--admin-address-path", self.admin_path, "--concurrency", str(concurrency), "-l", level,
                 "--file-flush-interval-msec", "20", "--disable-hot-restart", *args]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory,
                                            env={**os.environ, **SANITIZER_ENV, **(env or {})})
        self.ports, self.expected_exit = {}, (0, -signal.SIGTERM)
        Proxy.living.append(self)
        if wait:
            try:
                self.wait_ready()
            except BaseException:
                self.stop(check=False)
                raise

    # --- life ---

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process.poll() is None

    def wait_ready(self, seconds=LONG):
        def ready():
            if not self.alive():
                return True
            return self.admin("/ready").status == 200
        wait_for(ready, f"{self.binary} to be ready", seconds)
        assert self.alive(), f"{self.binary} ended with {self.process.returncode}:\n{self.log_tail()}"

    def signal(self, number):
        os.kill(self.pid, number)

    def wait_end(self, seconds=LONG):
        """The exit code, once the process has ended by itself."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.binary} did not end in {seconds} s") from None

    def stop(self, check=True):
        """Ends the process; with `check`, a bad exit or a sanitizer's report is a failure."""
        if self in Proxy.living:
            Proxy.living.remove(self)
        hung = False
        if self.alive():
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(LONG)
            except subprocess.TimeoutExpired:
                hung = True
                self.process.kill()
                self.process.wait()
        if check:
            assert not hung, f"{self.binary} did not end within {LONG} s of SIGTERM:\n{self.log_tail()}"
            self.check_health()
            assert self.process.returncode in self.expected_exit, \
                f"{self.binary} ended with {self.process.returncode}:\n{self.log_tail()}"

    def check_health(self):
        """No sanitizer has complained so far."""
        text = self.log()
        found = None if self.is_envoy else TROUBLE.search(text)
        assert not found, f"{self.binary}:\n{text[max(0, found.start() - 2000):found.start() + 6000]}"

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def log_tail(self, lines=60):
        return "\n".join(self.log().splitlines()[-lines:])

    def memory_kib(self, key="VmRSS"):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
            return int(re.search(key + r":\s+(\d+)", file.read()).group(1))

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # --- admin ---

    def admin_port(self):
        def read():
            with open(self.admin_path, encoding="ascii") as file:
                return int(file.read().strip().rsplit(":", 1)[1])
        if "admin" not in self.ports:
            self.ports["admin"] = read()
        return self.ports["admin"]

    def admin(self, path, method="GET", **more):
        return client.get(self.admin_port(), path, method=method, host="admin", **more)

    def admin_json(self, path):
        response = self.admin(path)
        assert response.status == 200, response
        return json.loads(response.body)

    def port(self, name="main"):
        """The port of a listener, by its name."""
        def look():
            for status in self.admin_json("/listeners?format=json").get("listener_statuses", []):
                self.ports[status["name"]] = status["local_address"]["socket_address"]["port_value"]
            return self.ports.get(name)
        return self.ports.get(name) or wait_for(look, f"listener {name}")

    def forget_ports(self):
        self.ports = {"admin": self.ports["admin"]} if "admin" in self.ports else {}

    def stats(self, pattern=None):
        """{name: value} of counters and gauges (whole numbers), filtered by a regex."""
        query = "?filter=" + urllib.parse.quote(pattern) if pattern else ""
        out = {}
        for line in self.admin("/stats" + query).text.splitlines():
            name, _, value = line.rpartition(": ")
            if re.fullmatch(r"-?\d+", value):
                out[name] = int(value)
        return out

    def stat(self, name):
        return self.stats("^" + re.escape(name) + "$").get(name)

    def wait_stat(self, name, accept, seconds=LONG):
        """Waits until accept(value) holds (or the value equals `accept`)."""
        test = accept if callable(accept) else lambda value: value == accept
        return wait_for(lambda: test(self.stat(name)) and (self.stat(name),), f"{name} (is {self.stat(name)})", seconds)[0]


class Log:
    """An access log file: whole lines only, from where the reader last stood."""

    def __init__(self, path):
        self.path, self.offset = path, 0

    def lines(self):
        """The whole lines that came since the last call."""
        if not os.path.exists(self.path):
            return []
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data = file.read()
        whole = data[:data.rfind(b"\n") + 1]
        self.offset += len(whole)
        return whole.decode("utf-8", "replace").splitlines()

    def wait(self, count, seconds=LONG):
        """At least `count` new lines."""
        got = []

        def enough():
            got.extend(self.lines())
            return len(got) >= count
        if count:
            wait_for(enough, f"{count} lines in {self.path}", seconds)
        else:
            got.extend(self.lines())
        return got


def validate(binary, text, args=(), seconds=LONG):
    """Runs --mode validate on the text of a configuration: (exit code, output)."""
    with tempfile.TemporaryDirectory(prefix="skiff-test-") as directory:
        path = os.path.join(directory, "config.yaml")
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        done = subprocess.run([binary, "-c", path, "--mode", "validate", "-l", "error", "--disable-hot-restart", *args],
                              capture_output=True, text=True, timeout=seconds, check=False,
                              env={**os.environ, **SANITIZER_ENV})
        return done.returncode, done.stdout + done.stderr

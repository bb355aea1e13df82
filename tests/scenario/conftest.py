"""Fixtures of the scenarios."""
import pytest

from harness import config
from harness.proxy import Proxy
from harness.upstream import Upstream
from harness.wait import wait_for


class Pair:
    """One proxy before one scripted upstream, shared by the cases of a table; made anew if a case killed it."""

    def __init__(self, binary, concurrency, listeners, clusters=None):
        self.binary, self.concurrency, self.listeners, self.clusters = binary, concurrency, listeners, clusters or {}
        self.proxy, self.before = None, 0
        self.upstream = Upstream("a")

    def ready(self):
        if not self.proxy or not self.proxy.alive():
            body = config.bootstrap(self.listeners, [config.cluster("a", [self.upstream.port], **self.clusters)])
            self.proxy = Proxy(self.binary, body, concurrency=self.concurrency)
            self.proxy.port()
            self.before = self.upstream.connections
        self.settle()
        self.upstream.play()
        return self

    def settle(self):
        """Waits until the upstream has read what earlier cases sent: what it notes from now on is the next one's."""
        def settled():
            total, active = (self.proxy.stat(f"cluster.a.upstream_cx_{what}") for what in ("total", "active"))
            return self.upstream.connections - self.before >= total and len(self.upstream.open) <= active
        wait_for(settled, "the upstream to have read everything")

    def check(self):
        """Alive, and no sanitizer has complained."""
        self.proxy.check_health()
        assert self.proxy.alive(), f"it died with {self.proxy.process.returncode}:\n{self.proxy.log_tail()}"

    def stop(self):
        self.upstream.stop()
        if self.proxy and self.proxy.alive():
            self.proxy.stop()


@pytest.fixture(scope="module")
def pair(skiff_binary, concurrency, request):
    """A Pair with the listeners that the module's `LISTENERS` names (default: one plain one)."""
    listeners = getattr(request.module, "LISTENERS", None) or [config.listener("main")]
    made = Pair(skiff_binary, concurrency, listeners, getattr(request.module, "CLUSTER", None))
    yield made
    made.stop()

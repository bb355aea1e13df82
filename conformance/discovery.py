"""A control plane, an upstream and one proxy (Skiff or the real Envoy) for the cases of test_*_discovery.py.

A case says what must come out; it runs on both proxies, so Envoy says whether the case is right. Nothing is read at a
fixed time: `sees` polls until the answer is the expected one.
"""
import json
import os
import tempfile

from harness import client, config
from harness.controlplane import ADS, ControlPlane, ads_bootstrap
from harness.proxy import Log, Proxy
from harness.upstream import Upstream
from harness.wait import wait_for

EXTENSIONS = "type.googleapis.com/envoy.extensions."
HEADER_MUTATION = EXTENSIONS + "filters.http.header_mutation.v3.HeaderMutation"
HTTP_RBAC = EXTENSIONS + "filters.http.rbac.v3.RBAC"
NETWORK_RBAC = EXTENSIONS + "filters.network.rbac.v3.RBAC"
TLS_INSPECTOR = EXTENSIONS + "filters.listener.tls_inspector.v3.TlsInspector"
ON_DEMAND = EXTENSIONS + "filters.http.on_demand.v3.OnDemand"
LOG = "%RESPONSE_CODE% %RESPONSE_FLAGS% %ROUTE_NAME%\n"


def stamp(value, name="x-stamp"):
    """HeaderMutation that adds a response header."""
    return {"@type": HEADER_MUTATION, "mutations": {"response_mutations": [{"append": {"header": {"key": name, "value": value}}}]}}


def discovered(name, url, timeout="60s", source=None, **over):
    """A filter whose configuration comes by ECDS."""
    source = source or {**ADS, "initial_fetch_timeout": timeout}
    return {"name": name, "config_discovery": {"config_source": source, "type_urls": [url], **over}}


class Stage:
    def __init__(self, binary, delta, concurrency=1):
        self.binary, self.delta, self.concurrency = binary, delta, concurrency
        self.directory = tempfile.mkdtemp(prefix="skiff-test-")
        self.plane, self.up, self.proxy = ControlPlane(), Upstream("a"), None
        self.log = Log(os.path.join(self.directory, "access"))

    def hcm(self, **over):
        return config.hcm(stat_prefix="main", access_log=[config.file_log(self.log.path, text=LOG)], **over)

    def listener(self, filters=None, **over):
        self.plane.set("listener", [config.listener("main", filters or [self.hcm()], **over)])

    def start(self, wait=True, clusters=None, **over):
        """Boots with cluster `a` static; everything else comes from the control plane."""
        if not self.plane.served["cluster"]:
            self.plane.set("cluster", [])
        body = ads_bootstrap(self.plane.port, delta=self.delta,
                             clusters=clusters or [config.cluster("a", [self.up.port])], **over)
        self.proxy = Proxy(self.binary, body, wait=wait, concurrency=self.concurrency, directory=self.directory)
        return self

    def ask(self, path="/", host="x", header="x-stamp", **more):
        """(status, value of a response header), or "closed"."""
        try:
            response = client.get(self.proxy.port(), path, host=host, **more)
        except (OSError, EOFError, ValueError):
            return "closed"
        return response.status, response.header(header)

    def sees(self, expected, **how):
        wait_for(lambda: self.ask(**how) == expected, f"{expected} of {how}; now {self.ask(**how)}")

    def sees_stats(self, expected, pattern):
        """{end of the name: value} of statistics; all must be so."""
        def look():
            stats = self.proxy.stats(pattern)
            return {end: next((v for n, v in stats.items() if n.endswith(end)), None) for end in expected}
        wait_for(lambda: look() == expected, f"{expected}; now {look()}")

    def dump(self, section, **params):
        """The sections of /config_dump of one type, without times."""
        query = "&".join(f"{k}={v}" for k, v in params.items())
        page = self.proxy.admin_json("/config_dump" + ("?" + query if query else ""))
        return [forget_times(c) for c in page["configs"] if c["@type"].rpartition(".")[2] == section]

    def stop(self):
        if self.proxy:
            self.proxy.stop(check=not self.proxy.is_envoy)
        self.plane.stop()
        self.up.stop()


def forget_times(tree):
    if isinstance(tree, dict):
        return {k: forget_times(v) for k, v in tree.items() if k != "last_updated"}
    if isinstance(tree, list):
        return [forget_times(v) for v in tree]
    return tree


def write_file(path, kind_url, version, resources):
    """A discovery response in a file, put in place by a rename."""
    with open(path + ".new", "w", encoding="utf-8") as out:
        json.dump({"version_info": version, "resources": [{"@type": kind_url, **r} for r in resources]}, out)
    os.rename(path + ".new", path)

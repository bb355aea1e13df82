"""endpoint-load-metrics of responses (ORCA) in load reports: what Skiff tells is what the real Envoy tells."""
import base64
import math

import pytest

from xds.data.orca.v3 import orca_load_report_pb2
from harness import client, config
from harness.controlplane import grpc_cluster
from harness.loadserver import LoadServer
from harness.proxy import Proxy
from harness.upstream import Upstream
from harness.wait import wait_for

pytestmark = pytest.mark.xdist_group("load-metrics")
WISHES = ["cpu_utilization", "mem_utilization", "application_utilization", "eps", "rps_fractional", "named_metrics.foo", "named_metrics.*",
          "utilization.*", "request_cost.*", "utilization.u", "rps", "nobody", "named_metrics", ""]
HEADER, BINARY = "endpoint-load-metrics", "endpoint-load-metrics-bin"


def packed(**fields):
    return base64.b64encode(orca_load_report_pb2.OrcaLoadReport(**fields).SerializeToString()).decode()


FULL = packed(cpu_utilization=.5, mem_utilization=.25, application_utilization=2, eps=1, rps_fractional=7, utilization={"u": .125},
              request_cost={"r": 3}, named_metrics={"foo": 1, "bar": 2, "zero": 0, "": 5})
TEXTS = ["cpu_utilization=0.5,mem_utilization=0.25,application_utilization=2,eps=1,rps_fractional=7,named_metrics.foo=1,named_metrics.bar=2",
         "utilization.u=0.125", "request_cost.r=0.125", "cpu_utilization:0.5", "cpu_utilization=0.5,cpu_utilization=0.75",
         "named_metrics.foo=0.5,named_metrics.foo=0.75", "cpu_utilization=0.5,what=1", "cpu_utilization=nan", "cpu_utilization=inf",
         "cpu_utilization=-1", "named_metrics.foo=-1", "eps=-0", "=1", "named_metrics.=1", "utilization.=1", "cpu_utilization=0.5,", "eps",
         "cpu_utilization=5e-1", "cpu_utilization=0", "cpu_utilization=1=2", "cpu_utilization=0.5, named_metrics.foo=3",
         "cpu_utilization=0.5 ,named_metrics.foo=3", "cpu_utilization =0.5", "cpu_utilization= 0.5", " cpu_utilization=0.5",
         "utilization.u=1.5", "mem_utilization=1.5", "cpu_utilization=0.5,,eps=1", "named_metrics.a:b=1", "rps=3", "named_metrics.a.b=1"]
ROWS = [[(HEADER, "TEXT " + text)] for text in TEXTS] + [
    [(HEADER, "TEXT ")], [(HEADER, "cpu_utilization=0.5")], [(HEADER, "text cpu_utilization=0.5")], [(HEADER, "TEXT\tcpu_utilization=0.5")],
    [(HEADER, 'JSON {"cpu_utilization": 0.5, "memUtilization": 0.25, "named_metrics": {"foo": 4}}')], [(HEADER, 'JSON {"cpu_utilization": ')],
    [(HEADER, 'JSON {"cpu_utilization": 0.5, "x": 1}')], [(HEADER, 'JSON {"cpu_utilization": -0.5}')], [(HEADER, "JSON {}")],
    [(HEADER, "BIN " + FULL)], [(BINARY, FULL)], [(BINARY, FULL.rstrip("="))], [(HEADER, "BIN !!!")], [(HEADER, "BIN ")], [(BINARY, "")],
    [(BINARY, base64.b64encode(b"\xff\xff").decode())], [(BINARY, packed(cpu_utilization=-1))],
    [(BINARY, packed(cpu_utilization=.75)), (HEADER, "TEXT cpu_utilization=0.125")], [(BINARY, "!!"), (HEADER, "TEXT cpu_utilization=0.125")],
    [(HEADER, "TEXT cpu_utilization=0.125"), (HEADER, "TEXT cpu_utilization=0.25")], []]


class Side:
    """One proxy with a server of load reports; what was told so far is added up."""

    def __init__(self, binary, concurrency):
        self.server, self.up, self.asked = LoadServer(), Upstream("a"), 0
        cluster = config.cluster("a", [self.up.port], lrs_report_endpoint_metrics=WISHES)
        service = {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "lrs"}}]}
        routes = [{**config.route(), "route": {"cluster": "a", "retry_policy": {"retry_on": "retriable-status-codes", "retriable_status_codes": [418]}}}]
        self.proxy = Proxy(binary, config.bootstrap(
            [config.listener("main", [config.hcm(routes)])], [cluster, grpc_cluster(self.server.port, "lrs")],
            node={"id": "n", "cluster": "c"}, cluster_manager={"load_stats_config": service}), concurrency=concurrency)
        wait_for(lambda: self.server.requests, "the first request")
        before = self.proxy.stat("load_reporter.requests")
        self.server.ask("a", seconds=0.05, report_endpoint_granularity=True)
        wait_for(lambda: self.proxy.stat("load_reporter.requests") > before, "the question to be read")

    def ask(self, *steps):
        self.up.play(*steps)
        self.asked += len(steps)
        assert client.get(self.proxy.port()).complete

    def told(self, of_endpoints=False):
        """{metric: (responses, sum)}, once all requests were told."""
        wait_for(lambda: self.server.total("a") == self.asked, f"{self.asked} requests to be told; now {self.server.total('a')}")
        out = {}
        for report in self.server.reports("a"):
            for locality in report.upstream_locality_stats:
                assert not locality.HasField("cpu_utilization")
                for part in locality.upstream_endpoint_stats if of_endpoints else [locality]:
                    for m in part.load_metric_stats:
                        count, total = out.get(m.metric_name, (0, 0))
                        out[m.metric_name] = count + m.num_requests_finished_with_metric, total + m.total_metric_value
        return {k: (n, round(v, 6)) for k, (n, v) in out.items()}

    def stop(self):
        self.proxy.stop(check=not self.proxy.is_envoy)
        self.server.stop()
        self.up.stop()


def agree(envoy, skiff):
    wait_for(lambda: skiff.told() == envoy.told() and skiff.told(True) == envoy.told(True),
             f"Skiff to tell what Envoy told: {envoy.told()}; now {skiff.told()}", 20)


@pytest.mark.parametrize("row", range(len(ROWS)))
def test_a_response(sides, row):
    """What is wrong in one row shows in it or in the next: sums are compared."""
    for side in sides:
        side.ask({"headers": ROWS[row]})
    agree(*sides)


def test_an_error(sides):
    for side in sides:
        side.ask({"status": 500, "headers": [(HEADER, "TEXT cpu_utilization=0.5")]})
    agree(*sides)


def test_a_retry(sides):
    for side in sides:
        side.ask({"status": 418, "headers": [(HEADER, "TEXT cpu_utilization=0.5")]}, {"headers": [(HEADER, "TEXT cpu_utilization=0.25")]})
    agree(*sides)


def test_they_are_finite(sides):
    assert all(math.isfinite(total) for side in sides for _, total in side.told().values())

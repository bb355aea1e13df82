"""A server of load reports (LRS): tells what to report, keeps what came."""
import threading
from concurrent import futures

import grpc

from envoy.service.load_stats.v3 import lrs_pb2, lrs_pb2_grpc


class LoadServer(lrs_pb2_grpc.LoadReportingServiceServicer):
    def __init__(self, port=0):
        self.lock = threading.Condition()
        self.requests, self.answers, self.streams, self.ending = [], [], 0, False
        self.server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        lrs_pb2_grpc.add_LoadReportingServiceServicer_to_server(self, self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        self.server.start()

    def ask(self, *clusters, seconds=0.2, **more):
        """What all streams are told from now on."""
        out = lrs_pb2.LoadStatsResponse(clusters=clusters, **more)
        out.load_reporting_interval.FromNanoseconds(int(seconds * 1e9))
        with self.lock:
            self.answers.append(out)
            self.lock.notify_all()

    def end_streams(self):
        with self.lock:
            self.ending = True
            self.lock.notify_all()

    def stop(self):
        self.end_streams()
        self.server.stop(None).wait()

    def StreamLoadStats(self, requests, context):
        with self.lock:
            self.streams += 1
            self.ending = False
        threading.Thread(target=self.read, args=(requests,), daemon=True).start()
        told = 0
        while True:
            with self.lock:
                while told == len(self.answers) and not self.ending and context.is_active():
                    self.lock.wait(1)
                if self.ending or not context.is_active():
                    return
                answer = self.answers[told]
                told += 1
            yield answer

    def read(self, requests):
        try:
            for request in requests:
                with self.lock:
                    self.requests.append(request)
        except grpc.RpcError:
            pass

    def reports(self, cluster):
        """[(report, locality stats)] of a cluster so far."""
        with self.lock:
            return [s for r in self.requests for s in r.cluster_stats if s.cluster_name == cluster]

    def total(self, cluster, field="total_issued_requests"):
        return sum(getattr(l, field) for s in self.reports(cluster) for l in s.upstream_locality_stats)

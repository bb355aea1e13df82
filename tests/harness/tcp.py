"""What tests of tcp_proxy share."""
import os
import socket

from harness import config

TCP = config.TYPE + "extensions.filters.network.tcp_proxy.v3.TcpProxy"
LOG = {"flags": "%RESPONSE_FLAGS%", "rx": "%BYTES_RECEIVED%", "tx": "%BYTES_SENT%", "cluster": "%UPSTREAM_CLUSTER%",
       "host": "%UPSTREAM_HOST%", "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "type": "%ACCESS_LOG_TYPE%",
       "failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%", "protocol": "%PROTOCOL%", "code": "%RESPONSE_CODE%",
       "sni": "%REQUESTED_SERVER_NAME%", "chain": "%FILTER_CHAIN_NAME%", "tries": "%UPSTREAM_HOSTS_ATTEMPTED%"}


def tcp(name, log=None, fields=None, **over):
    """The filter; with `log`, a folder, its access log is there."""
    base = {"@type": TCP, "stat_prefix": name, "cluster": "echo"}
    if log:
        base["access_log"] = [config.file_log(os.path.join(log, name + ".log"), fields or LOG)]
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": config.merge(base, over)}


def connect(port):
    sock = socket.create_connection(("127.0.0.1", port), 60)
    sock.settimeout(60)
    return sock

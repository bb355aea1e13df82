"""Bootstrap configuration in Envoy's syntax, built from the parts that a test cares about.

Listener ports are 0: the kernel gives one, and the proxy tells it on its admin page.
"""
import copy

TYPE = "type.googleapis.com/envoy."
HCM = TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = TYPE + "extensions.filters.http.router.v3.Router"
FILE_LOG = TYPE + "extensions.access_loggers.file.v3.FileAccessLog"
LOCALHOST = "127.0.0.1"


def merge(base, over):
    """`over` laid on `base`: maps are merged, all else (lists, too) is replaced; None takes a key away."""
    out = copy.deepcopy(base)
    for key, value in (over or {}).items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, dict) and isinstance(out.get(key), dict):
            out[key] = merge(out[key], value)
        else:
            out[key] = copy.deepcopy(value)
    return out


def address(port, host=LOCALHOST):
    return {"socket_address": {"address": host, "port_value": port}}


def endpoint(port, host=LOCALHOST, **over):
    return merge({"endpoint": {"address": address(port, host)}}, over)


def assignment(name, ports):
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [p if isinstance(p, dict) else endpoint(p) for p in ports]}]}


def cluster(name, ports, **over):
    base = {"name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": assignment(name, ports)}
    return merge(base, over)


def route(prefix="/", cluster="a", **action):
    return {"match": {"prefix": prefix}, "route": {"cluster": cluster, **action}}


def file_log(path, json_format=None, text=None, **over):
    body = {"@type": FILE_LOG, "path": path}
    if text is not None:
        body["log_format"] = {"text_format_source": {"inline_string": text}}
    elif json_format:
        body["log_format"] = {"json_format": json_format}
    return merge({"name": "envoy.access_loggers.file", "typed_config": body}, over)


def router(**over):
    return {"name": "envoy.filters.http.router", "typed_config": merge({"@type": ROUTER}, over)}


def hcm(routes=None, vhosts=None, stat_prefix="main", **over):
    """The network filter. `over` is laid on HttpConnectionManager; `route_config` may be extended the same way."""
    hosts = vhosts or [{"name": "all", "domains": ["*"], "routes": routes or [route()]}]
    base = {"@type": HCM, "stat_prefix": stat_prefix, "http_filters": [router()]}
    if "rds" not in over:
        base["route_config"] = {"name": "routes", "virtual_hosts": hosts}
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": merge(base, over)}


def listener(name="main", filters=None, port=0, **over):
    base = {"name": name, "address": address(port), "filter_chains": [{"filters": filters or [hcm(stat_prefix=name)]}]}
    return merge(base, over)


def bootstrap(listeners=None, clusters=None, **over):
    base = {
        "admin": {"address": address(0)},
        "static_resources": {"listeners": listeners or [], "clusters": clusters or []},
    }
    return merge(base, over)

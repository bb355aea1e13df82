"""Admin pages whose order or content cannot be compared byte by byte: lines as sets, JSON by its keys."""
import json
import os
import re

import pytest

import compare
from harness.wait import wait_for

pytestmark = pytest.mark.xdist_group("admin-pages")
# cluster lines whose value depends on what happened before or on another implementation's internals
UNSTEADY = re.compile(r"::(cx_|rq_|success_rate|local_origin_success_rate)|success_rate_average|ejection_threshold")


@pytest.fixture(scope="module")
def sides(envoy_binary, skiff_binary, concurrency):
    spec = compare.load(os.path.join(compare.CASES, "admin.yaml"))
    envoy = compare.Side(envoy_binary, spec, concurrency)
    try:
        skiff = compare.Side(skiff_binary, spec, concurrency)
    except BaseException:
        envoy.stop(check=False)
        raise
    for side in (envoy, skiff):
        side.extra_names = []  # no case runs here that would give its clients names
    yield envoy, skiff
    envoy.stop()
    skiff.stop()


def text(side, path, method="GET"):
    response = side.proxy.admin(path, method=method)
    assert response.status == 200, response
    return side.plain(response.text)


def cluster_lines(side, path="/clusters"):
    lines = text(side, path).splitlines()
    return sorted(line for line in lines if not UNSTEADY.search(line)), sorted({line.rsplit("::", 1)[0] for line in lines})


def test_clusters_text(sides):
    envoy, skiff = (cluster_lines(side) for side in sides)
    assert skiff[0] == envoy[0]
    assert skiff[1] == envoy[1]


def test_clusters_filter(sides):
    envoy, skiff = (cluster_lines(side, "/clusters?filter=^placed$") for side in sides)
    assert skiff == envoy and len(envoy[0]) > 20


def overlay(base, one):
    """Lays one shape over another, deeply: the order of a list's elements does not count."""
    for key, child in one.items():
        if isinstance(child, dict) and isinstance(base.get(key), dict):
            overlay(base[key], child)
        elif isinstance(child, list) and child and isinstance(base.get(key), list) and base[key]:
            overlay(base[key][0], child[0])
        elif child or key not in base:
            base[key] = child


def shape(value):
    """The keys of JSON, with a list's elements laid over each other; scalars by type."""
    if isinstance(value, dict):
        return {key: shape(child) for key, child in sorted(value.items())}
    if isinstance(value, list):
        merged = {}
        for child in value:
            one = shape(child)
            overlay(merged, one if isinstance(one, dict) else {"*": one})
        return [merged]
    return type(value).__name__


def statuses(side):
    page = side.proxy.admin_json("/clusters?format=json")
    return {status["name"]: status for status in page["cluster_statuses"]}


def strip_stats(status):
    status = json.loads(json.dumps(status))
    for host in status.get("host_statuses", []):
        host["stats"] = sorted((s["name"], s.get("type", "COUNTER")) for s in host.get("stats", []))
    return status


def test_clusters_json(sides):
    pages = []
    for side in sides:
        pages.append({name: side.plain_tree(strip_stats(status)) for name, status in statuses(side).items()})
    envoy, skiff = pages
    assert sorted(skiff) == sorted(envoy)
    for name in envoy:
        assert skiff[name] == envoy[name], name


def test_server_info(sides):
    envoy, skiff = (side.proxy.admin_json("/server_info") for side in sides)
    assert set(envoy) - set(skiff) == set()
    assert re.fullmatch(r"[^/]+/[^/]+/[^/]+/[^/]+/[^/]+", skiff["version"])
    assert skiff["state"] == envoy["state"] == "LIVE"
    for key in ("id", "cluster", "metadata", "locality"):
        assert skiff["node"][key] == envoy["node"][key]
    # The options that a control plane's tools look at have the same names and, where given, values.
    options = [page["command_line_options"] for page in (envoy, skiff)]
    for key in ("concurrency", "mode", "disable_hot_restart", "file_flush_interval", "drain_time", "drain_strategy",
                "log_level", "config_path", "admin_address_path", "service_node", "parent_shutdown_time", "base_id"):
        assert key in options[0] and key in options[1], key
    assert options[1]["mode"] == options[0]["mode"]
    assert options[1]["file_flush_interval"] == options[0]["file_flush_interval"]
    assert options[1]["drain_time"] == options[0]["drain_time"]


def test_help_lists_the_pages(sides):
    """Every page that Skiff's help names exists at Envoy's, and the pages of this issue are all there."""
    envoy, skiff = (set(re.findall(r"^  (/[^\s:]*)", text(side, "/help"), re.M)) for side in sides)
    wanted = {"/", "/clusters", "/config_dump", "/help", "/listeners", "/ready", "/runtime", "/server_info", "/stats",
              "/stats/prometheus"}
    assert wanted <= skiff
    assert skiff <= envoy


def test_config_dump_shape(sides):
    """The same sections in the same order, with the same keys around the configuration."""
    envoy, skiff = (side.proxy.admin_json("/config_dump") for side in sides)
    types = [[section["@type"] for section in page["configs"]] for page in (envoy, skiff)]
    ours = [t for t in types[0] if t in types[1]]
    assert types[1] == ours, "sections in Envoy's order"
    for wanted in ("BootstrapConfigDump", "ClustersConfigDump", "ListenersConfigDump", "RoutesConfigDump"):
        assert any(t.endswith(wanted) for t in types[1]), wanted
    by_type = [{s["@type"].rsplit(".", 1)[1]: s for s in page["configs"]} for page in (envoy, skiff)]
    for section in ("ClustersConfigDump", "ListenersConfigDump", "RoutesConfigDump"):
        assert shape(by_type[1][section]) == shape(by_type[0][section]), section


def test_config_dump_of_static_clusters(sides):
    path = "/config_dump?resource=static_clusters&mask=cluster.name"
    envoy, skiff = (sorted(c["cluster"]["name"] for c in side.proxy.admin_json(path)["configs"]) for side in sides)
    assert skiff == envoy == ["a", "b", "placed", "two"]


def test_config_dump_tells_the_configuration(sides):
    """What was configured comes back as it was written: the listener's address, the route's cluster."""
    envoy, skiff = (side.plain_tree(side.proxy.admin_json("/config_dump?resource=static_listeners")) for side in sides)
    for page in (envoy, skiff):
        for entry in page["configs"]:
            entry.pop("last_updated")
    replace = [(side.log_path, "<log>") for side in sides]
    dumps = [json.dumps(page, sort_keys=True).replace(*names) for page, names in zip((envoy, skiff), replace)]
    assert json.loads(dumps[1]) == json.loads(dumps[0])


def families(side):
    page = text(side, "/stats/prometheus")
    return {name: kind for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", page, re.M)}


AREAS = re.compile(r"^envoy_(cluster_(upstream|membership|circuit|lb|external|internal|max|version|update|retry|assignment|bind)"
                   r"|http_(downstream|no_|rq_|rs_)|listener_(downstream|http|no_filter)|listener_manager|cluster_manager|runtime|server_(live|state|uptime|concurrency|version))")


def test_prometheus_families(sides):
    """The families of our areas, with their types; Envoy's must all be there after the same request."""
    for side in sides:
        side.run({"name": "warm", "get": "/x"})
    envoy, skiff = ({n: k for n, k in families(side).items() if AREAS.match(n)} for side in sides)
    missing = sorted(set(envoy) - set(skiff))
    extra = sorted(set(skiff) - set(envoy))
    wrong = sorted(n for n in set(envoy) & set(skiff) if envoy[n] != skiff[n])
    assert not (missing or extra or wrong), f"missing {missing}\nextra {extra}\nwrong type {wrong}"


def test_prometheus_labels(sides):
    """The labels of each family are the same, in the same order."""
    def labels(side):
        out = {}
        for name, body in re.findall(r"^(envoy_\w+)\{([^}]*)\}", text(side, "/stats/prometheus"), re.M):
            out.setdefault(name, re.findall(r'(\w+)="', body))
        return out
    for side in sides:
        side.run({"name": "warm", "get": "/x"})
    envoy, skiff = (labels(side) for side in sides)
    wrong = {n: (envoy[n], skiff[n]) for n in set(envoy) & set(skiff) if AREAS.match(n) and envoy[n] != skiff[n]}
    assert not wrong


def test_stats_names(sides):
    """The statistics of a cluster, a listener and a connection manager bear the same names and types."""
    pattern = "^(cluster\\.a\\.|http\\.main\\.|listener\\.127)"

    def names(side):
        lines = side.proxy.admin("/stats?filter=" + pattern).text.splitlines()
        return {line.split(": ")[0] for line in lines}
    for side in sides:
        side.run({"name": "warm", "get": "/x"})
    envoy, skiff = (names(side) for side in sides)
    assert sorted(skiff - envoy) == [], "not in Envoy"
    assert sorted(envoy - skiff) == [], "not in Skiff"


def test_histogram_buckets(sides):
    """histogram_bucket_settings: the first that matches and has buckets."""
    names = ["cluster.a.upstream_rq_time", "cluster.a.upstream_cx_connect_ms", "http.main.downstream_rq_time"]

    def bounds(side):
        side.run({"name": "warm", "get": "/x"})
        page = wait_for(lambda: all_used(side), "values in the histograms", 30)
        labels = {name: re.findall(r"B([^(]+)\(", page[name]) for name in names}
        prometheus = text(side, "/stats/prometheus?filter=^cluster.a.upstream_rq_time")
        return labels, re.findall(r'le="([^"]+)"', prometheus)

    def all_used(side):
        lines = text(side, "/stats?histogram_buckets=cumulative").splitlines()
        found = dict(line.split(": ", 1) for line in lines if line.split(": ")[0] in names)
        return found if len(found) == len(names) and not any("No recorded" in v for v in found.values()) else None
    envoy, skiff = (bounds(side) for side in sides)
    assert envoy[0][names[0]] == ["0.5", "1", "2.25", "30000"]
    assert skiff == envoy


@pytest.mark.parametrize("target", ["//ready", "///ready", "/./ready", "/stats/../ready", "/%72eady", "/ready/", "/stats//", "/\\ready",
                                    "//stats?filter=server.live", "/ready?x=//y"])
def test_paths_are_normalized(sides, target):
    """Envoy Gateway asks for //stats."""
    envoy, skiff = (side.proxy.admin(target) for side in sides)
    assert (skiff.status, skiff.status == 200 and skiff.text) == (envoy.status, envoy.status == 200 and envoy.text)

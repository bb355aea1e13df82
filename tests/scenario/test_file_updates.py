"""The same resources from files that are watched: path_config_source, with and without a watched directory."""
import json
import os

from harness import client, config
from harness.wait import wait_for

TYPE = "type.googleapis.com/envoy."
KIND = {"cluster": TYPE + "config.cluster.v3.Cluster", "listener": TYPE + "config.listener.v3.Listener",
        "endpoint": TYPE + "config.endpoint.v3.ClusterLoadAssignment", "route": TYPE + "config.route.v3.RouteConfiguration"}


class Files:
    """Resources in files; written beside and renamed over, as a careful writer does."""

    def __init__(self, directory):
        self.directory = str(directory)

    def path(self, kind):
        return os.path.join(self.directory, kind + ".json")

    def write(self, kind, resources, version="1"):
        self.raw(kind, json.dumps({"version_info": version, "resources": [{"@type": KIND[kind], **r} for r in resources]}))

    def raw(self, kind, text):
        beside = self.path(kind) + ".new"
        with open(beside, "w", encoding="utf-8") as out:
            out.write(text)
        os.rename(beside, self.path(kind))

    def source(self, kind, watched=None):
        out = {"path_config_source": {"path": self.path(kind)}, "resource_api_version": "V3"}
        if watched:
            out["path_config_source"]["watched_directory"] = {"path": watched}
        return out


def bootstrap(files):
    return {
        "node": {"id": "n", "cluster": "c"},
        "admin": {"address": config.address(0)},
        "dynamic_resources": {"cds_config": files.source("cluster"), "lds_config": files.source("listener")},
    }


def eds_cluster(files, name="a", watched=None):
    return {"name": name, "type": "EDS", "connect_timeout": "5s", "eds_cluster_config": {"eds_config": files.source("endpoint", watched)}}


def test_listeners_and_clusters_from_files(tmp_path, skiff, upstream):
    files, a, b = Files(tmp_path), upstream("a"), upstream("b")
    files.write("cluster", [config.cluster("a", [a.port])])
    files.write("listener", [config.listener("main")])
    proxy = skiff(bootstrap(files))
    port = proxy.port()
    wait_for(lambda: client.get(port).text == "a", "the first configuration")
    files.write("cluster", [config.cluster("a", [b.port])], "2")
    wait_for(lambda: client.get(port).text == "b", "the changed cluster")


def test_endpoints_from_a_file(tmp_path, skiff, upstream):
    files, a, b = Files(tmp_path), upstream("a"), upstream("b")
    files.write("endpoint", [config.assignment("a", [a.port])])
    proxy = skiff(config.bootstrap([config.listener("main")], [eds_cluster(files)], node={"id": "n", "cluster": "c"}))
    port = proxy.port()
    wait_for(lambda: client.get(port).text == "a", "the first endpoint")
    files.write("endpoint", [config.assignment("a", [b.port])], "2")
    wait_for(lambda: client.get(port).text == "b", "the changed endpoint")


def test_routes_from_a_file(tmp_path, skiff, upstream):
    files, a = Files(tmp_path), upstream("a")
    table = {"name": "web", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [config.route(cluster="a")]}]}
    files.write("route", [table])
    filters = [config.hcm(rds={"route_config_name": "web", "config_source": files.source("route")})]
    proxy = skiff(config.bootstrap([config.listener("main", filters)], [config.cluster("a", [a.port])], node={"id": "n", "cluster": "c"}))
    port = proxy.port()
    wait_for(lambda: client.get(port).text == "a", "the first table")
    table["virtual_hosts"][0]["routes"] = [{"match": {"prefix": "/"}, "direct_response": {"status": 418}}]
    files.write("route", [table], "2")
    wait_for(lambda: client.get(port).status == 418, "the changed table")


def test_a_bad_file_keeps_the_last_good_one(tmp_path, skiff, upstream):
    files, a, b = Files(tmp_path), upstream("a"), upstream("b")
    files.write("cluster", [config.cluster("a", [a.port])])
    files.write("listener", [config.listener("main")])
    proxy = skiff(bootstrap(files))
    port = proxy.port()
    wait_for(lambda: client.get(port).text == "a", "the first configuration")
    for number, text in enumerate(("{", "not json at all: [", json.dumps({"resources": [{"@type": KIND["cluster"], "nme": "a"}]}),
                                   json.dumps({"resources": [{"@type": KIND["cluster"], "name": "a", "connect_timeout": "-1s"}]}))):
        files.raw("cluster", text)
        proxy.wait_stat("cluster_manager.cds.update_rejected", lambda value, n=number: value is not None and value > 0 or
                        (proxy.stat("cluster_manager.cds.update_failure") or 0) > n)
        assert client.get(port).text == "a"
    files.write("cluster", [config.cluster("a", [b.port])], "3")
    wait_for(lambda: client.get(port).text == "b", "the next good file")


def test_a_watched_directory(tmp_path, skiff, upstream):
    """As Kubernetes writes a ConfigMap: a link to a directory is replaced; only the watched directory sees it."""
    a, b = upstream("a"), upstream("b")
    for name, server in (("one", a), ("two", b)):
        os.mkdir(tmp_path / name)
        Files(tmp_path / name).write("endpoint", [config.assignment("a", [server.port])], name)
    os.symlink("one", tmp_path / "data")
    cluster = eds_cluster(Files(tmp_path / "data"), watched=str(tmp_path))
    proxy = skiff(config.bootstrap([config.listener("main")], [cluster], node={"id": "n", "cluster": "c"}))
    port = proxy.port()
    wait_for(lambda: client.get(port).text == "a", "the first endpoint")
    os.symlink("two", tmp_path / "data.new")
    os.rename(tmp_path / "data.new", tmp_path / "data")
    wait_for(lambda: client.get(port).text == "b", "the endpoint of the other directory")

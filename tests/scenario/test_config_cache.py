"""--config-cache: a start from the last accepted resources while the control plane is away."""
import os
import stat

import pytest

from harness import client, config
from harness.wait import wait_for
from harness.wireplane import VARIANTS, WirePlane

FILE = "config-cache"


class House:
    def __init__(self, variant, skiff, upstream, directory):
        self.skiff, self.a, self.directory = skiff, upstream("a"), os.fspath(directory)
        self.plane = WirePlane(variant)
        self.port = self.plane.port
        self.serve()
        self.bootstrap = self.plane.bootstrap()
        self.proxy = self.start()

    def serve(self, table="a"):
        source = self.plane.source()
        eds = {"name": "a", "type": "EDS", "connect_timeout": "5s", "eds_cluster_config": {"eds_config": source}}
        self.plane.set("cluster", {"a": eds, "fixed": config.cluster("fixed", [self.a.port])})
        self.plane.set("endpoint", {"a": config.assignment("a", [self.a.port])})
        rds = {"route_config_name": "web", "config_source": source}
        self.plane.set("listener", {"main": config.listener("main", [config.hcm(stat_prefix="main", rds=rds)])})
        self.plane.set("route", {"web": {"name": "web", "virtual_hosts": [
            {"name": "all", "domains": ["*"], "routes": [config.route("/", table)]}]}})

    def start(self):
        return self.skiff(self.bootstrap, args=["--config-cache", self.directory])

    def path(self):
        return os.path.join(self.directory, FILE)

    def written(self):
        return wait_for(lambda: self.proxy.stat("config_cache.write_success"), "the cache to be written")

    def away(self):
        """The proxy ends, and so does the control plane."""
        self.written()
        self.proxy.stop()
        self.plane.stop()

    def back(self):
        self.plane = WirePlane(self.plane.variant, self.port)


@pytest.fixture(params=VARIANTS)
def house(request, skiff, upstream, tmp_path):
    made = House(request.param, skiff, upstream, tmp_path / "cache")
    yield made
    made.plane.stop()


@pytest.fixture
def ads(skiff, upstream, tmp_path):
    made = House("ads-delta", skiff, upstream, tmp_path / "cache")
    yield made
    made.plane.stop()


def test_a_start_while_the_control_plane_is_away(house):
    assert stat.S_IMODE(os.stat(house.path()).st_mode) == 0o600 if house.written() else None
    house.away()
    house.proxy = house.start()
    assert client.get(house.proxy.port()).text == "a"
    assert house.proxy.stat("config_cache.stale") >= 1
    assert "stale until it answers" in house.proxy.log()
    dump = house.proxy.admin("/config_dump").text
    assert "the control plane has not answered yet" in dump
    house.back()
    house.serve("fixed")
    wait_for(lambda: house.proxy.stat("config_cache.stale") == 0, "the control plane's answers")
    wait_for(lambda: "has not answered yet" not in house.proxy.admin("/config_dump").text, "the dump to say so")
    wait_for(lambda: '"fixed"' in house.proxy.admin("/config_dump?resource=dynamic_route_configs").text, "the new table")
    assert client.get(house.proxy.port()).text == "a"


def test_what_is_gone_meanwhile_goes(house):
    house.away()
    house.proxy = house.start()
    assert client.get(house.proxy.port()).text == "a"
    house.back()
    house.serve("a")
    house.plane.set("cluster", {name: resource for name, (_, packed) in house.plane.resources["cluster"].items()
                                if name == "a" for resource in (packed.value,)})
    wait_for(lambda: not house.proxy.stats("^cluster\\.fixed\\."), "the removed cluster to go")
    assert client.get(house.proxy.port()).text == "a"


def test_the_versions_are_told_again(ads):
    """Delta: initial_resource_versions come from the cache."""
    versions = {name: version for name, (version, _) in ads.plane.resources["cluster"].items()}
    ads.away()
    ads.proxy = ads.start()
    assert ads.proxy.stat("config_cache.stale") == 1
    ads.back()
    first = wait_for(lambda: ads.plane.of("cluster"), "the first request")[0]
    assert dict(first.initial_resource_versions) == versions


def test_a_control_plane_that_is_there_is_waited_for(ads):
    """Nothing stale is served while the control plane answers."""
    ads.written()
    ads.proxy.stop()
    ads.proxy = ads.start()
    assert client.get(ads.proxy.port()).text == "a"
    assert ads.proxy.stat("config_cache.resources_served") == 0
    assert ads.proxy.stat("config_cache.stale") == 0


@pytest.mark.parametrize("spoil, text", [
    (lambda data: b"", "no config cache"),
    (lambda data: b"\0" * 1000, "no config cache"),
    (lambda data: data[:-1], "corrupt"),
    (lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:], "corrupt"),
    (lambda data: data.replace(b"cache 1 ", b"cache 2 ", 1), "another version"),
    (lambda data: data.replace(b"cache 1 ", b"cache 1 1", 1), "another node"),
    (lambda data: data.replace(b" ", b"x", 3), "no config cache"),
], ids=["empty", "zeros", "cut", "bit", "version", "foreign", "header"])
def test_a_cache_that_is_of_no_use_is_told_and_ignored(ads, spoil, text):
    ads.written()
    ads.proxy.stop()
    with open(ads.path(), "rb") as file:
        data = file.read()
    with open(ads.path(), "wb") as file:
        file.write(spoil(data))
    ads.proxy = ads.start()
    assert client.get(ads.proxy.port()).text == "a"
    assert ads.proxy.stat("config_cache.rejected") == 1
    assert "is not used" in ads.proxy.log() and text in ads.proxy.log()
    ads.written()


def test_a_directory_that_cannot_be_written(ads):
    ads.written()
    ads.proxy.stop()
    ads.directory = os.path.join(ads.directory, FILE)  # a file
    ads.proxy = ads.start()
    assert client.get(ads.proxy.port()).text == "a"
    wait_for(lambda: ads.proxy.stat("config_cache.write_failure"), "the failure to be counted")
    assert "cannot write the config cache" in ads.proxy.log()

"""`--mode validate` on the mistakes of validate.yaml: Envoy rejects them, and Skiff tells where."""
import os
import re

import pytest
import yaml

from harness import config
from harness.proxy import validate

HERE = os.path.dirname(os.path.abspath(__file__))


def mistakes():
    with open(os.path.join(HERE, "validate.yaml"), encoding="utf-8") as file:
        for number, one in enumerate(yaml.safe_load(file)):
            yield pytest.param(one, id=one["name"], marks=pytest.mark.xdist_group(f"validate-{number % 4}"))


def base():
    route = {"match": {"prefix": "/"}, "route": {"cluster": "a"}}
    return config.bootstrap([config.listener("l", [config.hcm([route])])], [config.cluster("a", [1234])])


def place(tree, name):
    """The map in the base configuration that a mistake's `at` names."""
    static = tree["static_resources"]
    listener, cluster = static["listeners"][0], static["clusters"][0]
    chain = listener["filter_chains"][0]
    hcm = chain["filters"][0]["typed_config"]
    vhost = hcm["route_config"]["virtual_hosts"][0]
    locality = cluster["load_assignment"]["endpoints"][0]
    return {
        "": tree, "static": static, "listener": listener, "cluster": cluster, "chain": chain, "filter": chain["filters"][0],
        "hcm": hcm, "route_config": hcm["route_config"], "vhost": vhost, "route": vhost["routes"][0], "locality": locality,
        "lb_endpoint": locality["lb_endpoints"][0], "endpoint": locality["lb_endpoints"][0]["endpoint"],
    }[name]


def text_of(mistake):
    if "text" in mistake:
        return mistake["text"]
    tree = base()
    target = place(tree, mistake["at"])
    for key, value in mistake["set"].items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = value
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    return text.replace("{big}", "x" * 5000)


def test_the_base_is_good(envoy_binary, skiff_binary):
    text = yaml.safe_dump(base(), sort_keys=False)
    for binary in (envoy_binary, skiff_binary):
        code, output = validate(binary, text)
        assert code == 0, output
        assert re.search(r"configuration '.*config\.yaml' OK", output), output


@pytest.mark.parametrize("mistake", mistakes())
def test_mistake(envoy_binary, skiff_binary, mistake):
    text = text_of(mistake)
    code, output = validate(envoy_binary, text)
    assert code in (0, 1), output
    rejects = code == 1
    if "differs" not in mistake and not mistake.get("envoy_accepts"):
        assert rejects, f"Envoy accepts this: {output}"
    code, output = validate(skiff_binary, text)
    assert code in (0, 1), f"skiff ended with {code}: {output}"
    if mistake.get("envoy_accepts"):
        assert (code == 1) == rejects, output
        return
    assert code == 1, f"skiff accepts this: {output}"
    if os.path.basename(skiff_binary).startswith("envoy"):
        return
    assert re.search(r"config\.yaml:\d+:\d+", output), f"no file:line:column in: {output}"
    assert mistake["path"] in output, f"{mistake['path']!r} is not named in: {output}"

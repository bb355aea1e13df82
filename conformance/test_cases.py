"""Every case of cases/*.yaml, on Envoy and on Skiff: they must do the same."""
import glob
import os

import pytest

import compare


def all_cases():
    for path in sorted(glob.glob(os.path.join(compare.CASES, "*.yaml"))):
        name = os.path.splitext(os.path.basename(path))[0]
        seen = set()
        for case in compare.load(path)["cases"]:
            assert case["name"] not in seen, f"{name}: two cases are named {case['name']!r}"
            seen.add(case["name"])
            yield pytest.param(path, case, id=f"{name}: {case['name']}", marks=pytest.mark.xdist_group(name))


@pytest.fixture(scope="module")
def sides(request, envoy_binary, skiff_binary, concurrency):
    """get(path) -> (Envoy's side, Skiff's side) of a case file; one pair lives at a time."""
    pair, refused = {}, {}

    def end(check=True):
        errors = []
        for side in pair.pop("sides", ()):
            try:
                side.stop(check=check)
            except AssertionError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def get(path):
        dead = any(not side.proxy.alive() for side in pair.get("sides", ()))
        if pair.get("path") != path or not pair.get("sides") or dead:
            end(check=not dead)  # who died was told by the case that killed it
            if path in refused:
                pytest.fail(f"this file's configuration is not served: {refused[path]}", pytrace=False)
            pair["path"] = path
            spec = compare.load(path)
            envoy = compare.Side(envoy_binary, spec, concurrency)
            pair["sides"] = (envoy,)
            try:
                pair["sides"] = (envoy, compare.Side(skiff_binary, spec, concurrency))
            except BaseException as error:
                refused[path] = str(error)[-3000:]
                end()
                raise
        return pair["sides"]
    yield get
    end()


TRIES = 3  # of a case that depends on a short timer: a stall of the machine in the middle of it shows on one side alone


@pytest.mark.parametrize("path, case", all_cases())
def test_case(sides, path, case):
    envoy, skiff = sides(path)
    for left in reversed(range(TRIES if case.get("timed") else 1)):
        found = one_try(case, envoy, skiff)
        if not found:
            return
        assert left, "\n".join(["differences:"] + found)


def one_try(case, envoy, skiff):
    truth = envoy.run(case)
    unmet = check_sanity(case, truth)
    if unmet:
        return unmet
    try:
        got = skiff.run(case, like=truth, other=envoy)
    finally:
        skiff.proxy.check_health()
        assert skiff.proxy.alive(), f"skiff died with {skiff.proxy.process.returncode}:\n{skiff.proxy.log_tail(80)}"
    return compare.differences(case, truth, got)


def check_sanity(case, truth):
    """What the case's author thought and Envoy itself does not meet."""
    out = []
    for number, step in enumerate(case.get("steps", [case])):
        prefix = f"step.{number}." if "steps" in case else ""
        if "status" in step:
            statuses = [v for k, v in truth.items() if k.startswith(f"{prefix}response") and k.endswith(".status")]
            wanted = step["status"] if isinstance(step["status"], list) else [step["status"]]
            if statuses != wanted:
                out.append(f"envoy itself answered {statuses}, the case says {wanted}: {truth}")
    return out

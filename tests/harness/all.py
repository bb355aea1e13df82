"""All stages of `./dev test`, in order; the sum of their counts in a line of its own at the end.

    all.py [STAGE...] [-- PYTEST-ARGUMENTS]

Without a stage: all of them. Exit status 0 only if nothing failed and nothing was skipped.
"""
import json
import os
import re
import subprocess
import sys
import tempfile
import time

import stage

HERE = os.path.dirname(os.path.abspath(__file__))
REPO = os.path.dirname(os.path.dirname(HERE))
DEV = os.path.join(REPO, "dev")
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "second_deadlock_stack=1",
}


class Totals:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.flaky, self.broken, self.seconds = [], [], {}

    def add(self, passed=0, failed=0, skipped=0, flaky=()):
        self.passed += passed
        self.failed += failed
        self.skipped += skipped
        self.flaky += flaky


def heading(text):
    print(f"\n=== {text} ===", flush=True)


def shell(command, **more):
    return subprocess.run(command, cwd=REPO, check=False, **more)


def build(totals, preset, *targets):
    """True if it was built; a build that breaks is one failure."""
    heading(f"build {preset}")
    done = shell([DEV, "build", preset, *targets], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        print(done.stdout[-20000:])
        print(f"failed: the {preset} build")
        totals.add(failed=1)
        return False
    print(done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "built")
    return True


def lint(totals, _):
    heading("lint")
    done = shell(["/usr/bin/python3", "tests/lint/lint.py"], stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="")
    counted = re.search(r"^lint: (\d+) checks passed, (\d+) failed$", done.stdout, re.M)
    if counted:
        totals.add(int(counted[1]), int(counted[2]))
    else:
        totals.add(failed=1)


def unit_names(build_folder):
    out = shell(["ctest", "--test-dir", build_folder, "--show-only=json-v1"], stdout=subprocess.PIPE, text=True)
    return [t["name"] for t in json.loads(out.stdout)["tests"]]


def unit_faults(log):
    """The tests of a ctest log whose output has a sanitizer's report in it."""
    parts = re.split(r"^\s*\d+/\d+ Test\s+#\d+: (\S+) .*$", log, flags=re.M)
    return {name for name, text in zip(parts[1::2], parts[2::2]) if stage.FAULT.search(text)}


def unit_passes_alone(folder, name, environment):
    """As stage.passes_alone."""
    passed = 0
    for number in range(stage.RUNS):
        again = shell(["ctest", "--test-dir", folder, "-R", f"^{re.escape(name)}$", "--timeout", "300", "--output-on-failure"],
                      env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        passed += again.returncode == 0
        if unit_faults(again.stdout):
            return False
        if passed == stage.ENOUGH or number + 1 - passed > stage.RUNS - stage.ENOUGH:
            break
    return passed == stage.ENOUGH


def unit(totals, _):
    """cmocka programs under ASan and UBSan; one that fails is run again alone, as everywhere."""
    if not build(totals, "asan", "skiff", "unit_tests"):
        return
    heading("unit tests, under ASan and UBSan")
    folder = os.path.join(REPO, "build/asan")
    names = unit_names(folder)
    environment = {**os.environ, **SANITIZERS}
    log = shell(["ctest", "--test-dir", folder, "-j", "2", "--timeout", "300", "--output-on-failure"], env=environment,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    failed = set(re.findall(r"^\s*\d+/\d+ Test\s+#\d+: (\S+) [.]*\**(?:Failed|\(?Timeout|Exception|Not Run|Subprocess)", log, re.M))
    failed |= set(re.findall(r"^\s+\d+ - (\S+) \(", log, re.M))
    flaky = []
    if failed:
        print(log[-20000:])
    for name in sorted(failed):
        if name not in unit_faults(log) and unit_passes_alone(folder, name, environment):
            flaky.append(name)
            print(f"flaky: {name}")
        else:
            print(f"failed: {name}")
    bad = len(failed) - len(flaky)
    print(f"unit: {len(names) - bad} passed, {bad} failed")
    totals.add(len(names) - bad, bad, 0, flaky)


def pytest_stage(totals, name, arguments, workers=2):
    heading(name)
    with tempfile.NamedTemporaryFile(suffix=".json") as counts:
        shell([sys.executable, os.path.join(HERE, "stage.py"), "--name", name, "--json", counts.name, "--workers", str(workers),
               "--", *arguments])
        try:
            result = json.load(open(counts.name, encoding="utf-8"))
        except ValueError:
            result = {"failed": 1}
    totals.add(**result)


def scenario(totals, extra):
    if build(totals, "asan", "skiff", "skiff_extensions"):
        for workers in (1, 4):
            pytest_stage(totals, f"scenarios under ASan, --concurrency {workers}",
                         [f"--skiff={REPO}/build/asan/skiff", f"--concurrency={workers}", "-m=not release", "tests/scenario", *extra])


def conformance(totals, extra):
    if build(totals, "asan", "skiff"):
        for workers in (1, 4):
            pytest_stage(totals, f"conformance with Envoy, under ASan, --concurrency {workers}",
                         [f"--skiff={REPO}/build/asan/skiff", f"--concurrency={workers}", "conformance", *extra])


def h2spec(totals, _):
    if build(totals, "asan", "skiff"):
        heading("h2spec")
        tool = shell([DEV, "h2spec"], stdout=subprocess.PIPE, text=True).stdout.strip()
        with tempfile.NamedTemporaryFile(suffix=".json") as counts:
            shell([sys.executable, os.path.join(REPO, "tests/h2spec/run.py"), "--skiff", f"{REPO}/build/asan/skiff",
                   "--h2spec", tool, "--json", counts.name], env={**os.environ, **SANITIZERS})
            try:
                result = json.load(open(counts.name, encoding="utf-8"))
            except ValueError:
                result = {"failed": 1}
        totals.add(**result)


def tsan(totals, extra):
    if build(totals, "tsan", "skiff", "skiff_extensions"):
        pytest_stage(totals, "threads, under TSan, --concurrency 4",
                     [f"--skiff={REPO}/build/tsan/skiff", "--concurrency=4", "-m=threads", "tests/scenario", *extra])


def release(totals, extra):
    if build(totals, "release", "skiff"):
        pytest_stage(totals, "release build: memory and speed",
                     [f"--skiff={REPO}/build/release/skiff", "-m=release", "tests/scenario", *extra], workers=1)


STAGES = {"lint": lint, "unit": unit, "scenario": scenario, "conformance": conformance, "h2spec": h2spec, "tsan": tsan, "release": release}


def main():
    arguments = sys.argv[1:]
    extra = arguments[arguments.index("--") + 1:] if "--" in arguments else []
    names = arguments[:arguments.index("--")] if "--" in arguments else arguments
    for name in names:
        if name not in STAGES:
            sys.exit(f"no stage is named {name}; there are: {' '.join(STAGES)}")
    totals = Totals()
    for name in names or STAGES:
        start = time.monotonic()
        STAGES[name](totals, extra)
        totals.seconds[name] = time.monotonic() - start
    heading("all")
    print("seconds: " + ", ".join(f"{name} {int(seconds)}" for name, seconds in totals.seconds.items()))
    for test in totals.flaky:
        print(f"flaky: {test}")
    skipped = f", {totals.skipped} skipped" if totals.skipped else ""
    print(f"{totals.passed} passed, {totals.failed} failed{skipped}", flush=True)
    sys.exit(1 if totals.failed or totals.skipped else 0)


if __name__ == "__main__":
    main()

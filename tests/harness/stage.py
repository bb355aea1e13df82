"""Runs one stage of pytest, runs again what failed, alone, and writes the counts.

A test that failed passes if two of three runs alone do; it is told as `flaky: NAME`, with what went wrong the first time.
A sanitizer's report or the end of a proxy is a fault, however seldom it comes: that is not forgiven.

    stage.py --name scenario --json counts.json [--workers 2] -- PYTEST-ARGUMENTS

Exit status 0: nothing failed and nothing was skipped.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MOST_FLAKY = 15  # more failures than that are no accident
RUNS, ENOUGH = 3, 2  # alone
# Never an accident: a sanitizer's report (but not that of leaks when it could not do its work), a broken promise, a crash.
FAULT = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|Assertion .* failed|must failed"
                   r"|(?<!envoy )(ended|died) with (99|-(4|6|7|8|11))\b")


def pytest(arguments, results):
    """(exit code, {test: passed, failed or skipped}, {test: why it can not be an accident})"""
    command = [sys.executable, "-m", "pytest", "-c", os.path.join(TESTS, "pytest.ini"), "--rootdir", os.path.dirname(TESTS),
               "--results", results, *arguments]
    environment = {**os.environ, "PYTHONPATH": TESTS, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
    code = subprocess.run(command, cwd=os.path.dirname(TESTS), env=environment, check=False).returncode
    try:
        with open(results, encoding="utf-8") as file:
            told = json.load(file)
            return code, told["outcome"], told["faults"]
    except (OSError, ValueError):
        return code, {"pytest itself": "failed"}, {}


def options(arguments):
    """The pytest options (not the paths) that the second run needs, too."""
    return [a for a in arguments if a.startswith("--") and "=" in a]


def passes_alone(test, arguments, work):
    """Two of three runs, each in a pytest of its own. A fault in one of them ends it."""
    passed = 0
    for number in range(RUNS):
        _, outcome, faults = pytest(["-q", *options(arguments), test], os.path.join(work, "again.json"))
        passed += outcome.get(test) == "passed"
        if faults or passed == ENOUGH or number + 1 - passed > RUNS - ENOUGH:
            return passed == ENOUGH and not faults
    return False


def run(name, workers, arguments):
    with tempfile.TemporaryDirectory(prefix="skiff-stage-") as work:
        parallel = ["-n", str(workers), "--dist", "loadgroup"] if workers > 1 else []
        code, outcome, faults = pytest([*parallel, *arguments], os.path.join(work, "first.json"))
        failed = [test for test, result in outcome.items() if result == "failed"]
        flaky = []
        for test in failed if len(failed) <= MOST_FLAKY else []:
            if test in faults:
                print(f"{name}: no second chance for {test}: {faults[test]}", flush=True)
                continue
            print(f"{name}: again, alone: {test}", flush=True)
            if passes_alone(test, arguments, work):
                outcome[test] = "passed"
                flaky.append(test)
        if code not in (0, 1) and not failed:
            outcome["pytest itself"] = "failed"
    return outcome, flaky


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--json")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("arguments", nargs="*")
    options_given = parser.parse_args()
    outcome, flaky = run(options_given.name, options_given.workers, options_given.arguments)
    counts = {kind: sum(1 for r in outcome.values() if r == kind) for kind in ("passed", "failed", "skipped")}
    for test in flaky:
        print(f"flaky: {test}")
    for test, result in outcome.items():
        if result != "passed":
            print(f"{result}: {test}")
    print(f"{options_given.name}: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    if options_given.json:
        with open(options_given.json, "w", encoding="utf-8") as out:
            json.dump({**counts, "flaky": flaky}, out)
    sys.exit(1 if counts["failed"] or counts["skipped"] else 0)


if __name__ == "__main__":
    main()

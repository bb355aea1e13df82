"""Runs one stage of pytest, gives what failed a second chance alone, and writes the counts.

    stage.py --name scenario --json counts.json [--workers 2] -- PYTEST-ARGUMENTS

Exit status 0: nothing failed and nothing was skipped.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SECOND_CHANCES = 15  # more failures than that are no accident


def pytest(arguments, results):
    command = [sys.executable, "-m", "pytest", "-c", os.path.join(TESTS, "pytest.ini"), "--rootdir", os.path.dirname(TESTS),
               "--results", results, *arguments]
    environment = {**os.environ, "PYTHONPATH": TESTS, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
    code = subprocess.run(command, cwd=os.path.dirname(TESTS), env=environment, check=False).returncode
    try:
        with open(results, encoding="utf-8") as file:
            return code, json.load(file)["outcome"]
    except (OSError, ValueError):
        return code, {"pytest itself": "failed"}


def options(arguments):
    """The pytest options (not the paths) that the second run needs, too."""
    return [a for a in arguments if a.startswith("--") and "=" in a]


def run(name, workers, arguments):
    with tempfile.TemporaryDirectory(prefix="skiff-stage-") as work:
        code, outcome = pytest(["-n", str(workers), "--dist", "loadgroup", *arguments] if workers > 1 else arguments,
                               os.path.join(work, "first.json"))
        failed = [test for test, result in outcome.items() if result == "failed"]
        flaky = []
        if failed and len(failed) <= SECOND_CHANCES:
            print(f"{name}: {len(failed)} failed; each is run once more, alone", flush=True)
            for number, test in enumerate(failed):
                _, again = pytest(["-q", *options(arguments), test], os.path.join(work, f"again-{number}.json"))
                if again.get(test) == "passed":
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

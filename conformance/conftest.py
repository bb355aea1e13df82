"""Makes compare.py importable from the tests of this folder; the fixture of those whose two sides need no more."""
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))


@pytest.fixture(scope="module")
def sides(request, envoy_binary, skiff_binary, concurrency):
    """[Envoy's, Skiff's]: the module's Side(binary, concurrency) of each; both are stopped, whatever happens."""
    made = []
    try:
        for binary in (envoy_binary, skiff_binary):
            made.append(request.module.Side(binary, concurrency))
        yield made
    finally:
        for side in made:
            side.stop()

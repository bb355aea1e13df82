"""Random updates, right and wrong, under random traffic, right and wrong: a good request is always answered, no sanitizer
complains, and once all is quiet nothing is left over. harness/chaos.py runs it longer, by hand."""
import pytest

from harness.chaos import one_run

pytestmark = pytest.mark.threads


def test_chaos(skiff_binary, concurrency):
    """State of the world with one worker, delta with several."""
    delta = concurrency > 1
    one_run(skiff_binary, 2 if delta else 1, 2, concurrency, delta, log=print, wild=3)

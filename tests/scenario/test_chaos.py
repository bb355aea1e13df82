"""Random updates, right and wrong, under random traffic, right and wrong: a good request is always answered, no sanitizer
complains, and once all is quiet nothing is left over. harness/chaos.py runs it longer, by hand."""
import pytest

from harness.chaos import one_run

pytestmark = pytest.mark.threads


@pytest.mark.parametrize("seed, delta", [(1, False), (2, True)], ids=["sotw", "delta"])
def test_chaos(skiff_binary, concurrency, seed, delta):
    one_run(skiff_binary, seed, 2.5, concurrency, delta, log=print, wild=3)

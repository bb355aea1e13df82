"""Waiting: poll for a condition, generously, and say what was waited for. Nothing here sleeps and asserts."""
import time

LONG = 60  # seconds; a noisy machine may need them, a good run never does


def wait_for(probe, what, seconds=LONG, pause=0.01):
    """The first truthy value of probe(). Exceptions of the probe count as "not yet"; the last one is shown."""
    end = time.monotonic() + seconds
    last = None
    while True:
        try:
            last = probe()
            if last:
                return last
        except (OSError, ValueError, KeyError, IndexError, AttributeError, EOFError) as error:
            last = error
        if time.monotonic() >= end:
            raise AssertionError(f"waited {seconds} s for {what}; last seen: {last!r}")
        time.sleep(pause)
        pause = min(pause * 1.3, 0.2)

"""Ports for UDP listeners. The kernel may give one port to two sockets that ask for any with SO_REUSEPORT, as listeners do, so that datagrams
of one test would reach another's proxy. These ports are free, below the kernel's own range, and while they are chosen and taken no other test
process chooses any."""
import contextlib
import fcntl
import os
import random
import socket
import tempfile

FIRST, LAST = 11000, 31000
LOCK = os.path.join(tempfile.gettempdir(), "skiff-test-ports.lock")


def free(port):
    try:
        for family, host in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind((host, port))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def udp_ports():
    """A function that gives a free port each time; start what binds them before the block ends."""
    with open(LOCK, "a", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        given = set()

        def one():
            while True:
                port = random.randint(FIRST, LAST)
                if port not in given and free(port):
                    given.add(port)
                    return port
        yield one

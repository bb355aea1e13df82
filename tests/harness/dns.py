"""A DNS server of our own: A records by name, NXDOMAIN for others, silence for names that begin with "silent"."""
import socket
import struct
import threading


class DnsServer:
    """names: {"a.test": ["127.0.0.1", ...]}, may be changed at any time; `asked` are the names of A questions so far."""

    def __init__(self, names=None, ttl=300):
        self.names, self.ttl, self.asked = dict(names or {}), ttl, []
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                data, peer = self.sock.recvfrom(4096)
            except OSError:
                return
            answer = self.answer(data)
            if answer:
                self.sock.sendto(answer, peer)

    def answer(self, data):
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1:at + 1 + data[at]].decode().lower())
            at += 1 + data[at]
        kind = struct.unpack(">H", data[at + 1:at + 3])[0]
        name, question = ".".join(labels), data[12:at + 5]
        if kind == 1:
            self.asked.append(name)
        if name.startswith("silent"):
            return None
        found = self.names.get(name)
        records = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, self.ttl, 4) + socket.inet_aton(a) for a in found or [] if kind == 1)
        count = len(found or []) if kind == 1 else 0
        flags = 0x8180 if found is not None else 0x8183
        return data[:2] + struct.pack(">HHHHH", flags, 1, count, 0, 0) + question + records

    def stop(self):
        self.sock.close()

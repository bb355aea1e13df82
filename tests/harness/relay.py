"""A TCP relay that can cut a connection in the middle of a message."""
import socket
import threading


class Relay:
    """Passes bytes between whoever connects to `port` and 127.0.0.1:`target`."""

    def __init__(self, target):
        self.target, self.lock = target, threading.Lock()
        self.left, self.cuts, self.pairs = None, 0, set()
        self.sock = socket.socket()
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(64)
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def cut_after(self, count):
        """After `count` more bytes from the target, the connection that carries them is closed; once."""
        with self.lock:
            self.left = count

    def accept(self):
        while True:
            try:
                client, _ = self.sock.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target), 10)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self.lock:
                self.pairs |= {client, server}
            threading.Thread(target=self.pump, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self.pump, args=(server, client, True), daemon=True).start()

    def allowed(self, data, counted):
        """(the bytes that may pass, is it over)."""
        with self.lock:
            if not counted or self.left is None:
                return data, False
            if len(data) < self.left:
                self.left -= len(data)
                return data, False
            data, self.left = data[:self.left], None
            self.cuts += 1
            return data, True

    def pump(self, source, sink, counted):
        try:
            while data := source.recv(65536):
                data, over = self.allowed(data, counted)
                sink.sendall(data)
                if over:
                    break
        except OSError:
            pass
        for sock in (source, sink):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def stop(self):
        self.sock.close()
        with self.lock:
            for sock in self.pairs:
                sock.close()

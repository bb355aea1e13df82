"""Certificates for tests, made by the openssl command: an authority, what it issues, revocation lists, OCSP answers.

    pki = Pki(directory)
    leaf = pki.issue("a", "DNS:a.example,DNS:*.b.example")     # leaf.cert, leaf.key: paths
    pki.ca.cert                                                # the authority's certificate
"""
import base64
import hashlib
import os
import re
import subprocess

EC, RSA = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"], ["-newkey", "rsa:2048"]
CONFIG = """[req]
distinguished_name = name
[name]
[ca]
default_ca = authority
[authority]
database = {0}/index
crlnumber = {0}/number
default_md = sha256
default_crl_days = 30
"""


def run(*args, **more):
    """Runs openssl; gives back its output."""
    done = subprocess.run(["openssl", *args], capture_output=True, check=False, **more)
    assert done.returncode == 0, f"openssl {args}: {done.stderr.decode('utf-8', 'replace')}"
    return done.stdout


class Issued:
    """One certificate; both files are PEM."""

    def __init__(self, cert, key, issuer=None):
        self.cert, self.key, self.issuer = cert, key, issuer
        self.sends = None  # the certificates that a client sends with it: a path

    def text(self):
        with open(self.cert, encoding="ascii") as file:
            return file.read()

    def key_text(self):
        with open(self.key, encoding="ascii") as file:
            return file.read()

    def der(self):
        return run("x509", "-in", self.cert, "-outform", "DER")

    def hash(self):
        """SHA-256 of the certificate, as verify_certificate_hash wants it."""
        return hashlib.sha256(self.der()).hexdigest()

    def spki(self):
        """SHA-256 of the public key, as verify_certificate_spki wants it."""
        public = run("x509", "-in", self.cert, "-pubkey", "-noout")
        return base64.b64encode(hashlib.sha256(run("pkey", "-pubin", "-outform", "DER", input=public)).digest()).decode()

    def config(self):
        """A TlsCertificate."""
        return {"certificate_chain": {"filename": self.cert}, "private_key": {"filename": self.key}}

    def inline(self):
        """The same without files."""
        return {"certificate_chain": {"inline_string": self.text()}, "private_key": {"inline_string": self.key_text()}}


class Pki:
    """Everything in one directory; `ca` signs what says nothing else."""

    def __init__(self, directory):
        self.directory, self.serial = str(directory), 4096
        os.makedirs(self.directory, exist_ok=True)
        self.conf = self.path("openssl.cnf")
        with open(self.conf, "w", encoding="ascii") as out:
            out.write(CONFIG.format(self.directory))
        self.ca = self.authority("ca")

    def path(self, name):
        return os.path.join(self.directory, name)

    def make(self, name, issuer, subject, key, extensions, days):
        cert, key_path = self.path(name + ".pem"), self.path(name + ".key")
        self.serial += 1
        args = ["req", "-x509", "-config", self.conf, *key, "-nodes", "-keyout", key_path, "-out", cert, "-subj", subject,
                "-set_serial", str(self.serial), "-days", str(days)]
        if issuer:
            args += ["-CA", issuer.cert, "-CAkey", issuer.key]
        for one in extensions:
            args += ["-addext", one]
        run(*args)
        return Issued(cert, key_path, issuer)

    def authority(self, name, issuer=None, subject=None):
        return self.make(name, issuer, subject or f"/O=Test/CN={name}", EC, ["basicConstraints=critical,CA:TRUE", "keyUsage=keyCertSign,cRLSign"], 30)

    def issue(self, name, sans=None, issuer=None, key=None, extensions=(), days=10, subject=None, chain=False):
        """chain: the file also holds the issuer's certificate. key: arguments of -newkey."""
        more = list(extensions) + ([f"subjectAltName={sans}"] if sans else [])
        out = self.make(name, issuer or self.ca, subject or f"/O=Test/CN={name}", key or EC, ["basicConstraints=CA:FALSE", *more], days)
        if chain:
            out.sends = out.issuer.cert
            with open(out.cert, "a", encoding="ascii") as file:
                file.write(issuer.text())
        return out

    def crl(self, name, revoked, issuer=None):
        """A revocation list of these certificates: its path."""
        issuer, path = issuer or self.ca, self.path(name + ".crl")
        for file, text in (("index", ""), ("number", "01\n")):
            with open(self.path(file), "w", encoding="ascii") as out:
                out.write(text)
        for one in revoked:
            run("ca", "-config", self.conf, "-keyfile", issuer.key, "-cert", issuer.cert, "-revoke", one.cert)
        run("ca", "-config", self.conf, "-keyfile", issuer.key, "-cert", issuer.cert, "-gencrl", "-out", path)
        return path

    def ocsp(self, name, leaf, days=5, status="V"):
        """An OCSP answer about a certificate (V: good, R: revoked), valid so long; negative: not any more."""
        issuer, path, index = leaf.issuer, self.path(name + ".ocsp"), self.path(name + ".index")
        serial = run("x509", "-in", leaf.cert, "-serial", "-noout").decode().strip().partition("=")[2]
        with open(index, "w", encoding="ascii") as out:
            gone = "200101000000Z" if status == "R" else ""
            out.write(f"{status}\t400101000000Z\t{gone}\t{serial}\tunknown\t/CN=x\n")
        run("ocsp", "-index", index, "-CA", issuer.cert, "-rsigner", issuer.cert, "-rkey", issuer.key, "-issuer", issuer.cert,
            "-cert", leaf.cert, "-respout", path, "-ndays", str(abs(days)))
        if days < 0:
            age(path)
        return path


def age(path):
    """Turns the times of an OCSP answer into past ones. Its signature breaks, which only clients look at."""
    with open(path, "rb") as file:
        data = file.read()
    times = [at.start() for at in re.finditer(rb"\x18\x0f\d{14}Z", data)]
    for at, text in zip(times, (b"20200103000000Z", b"20200101000000Z", b"20200102000000Z")):
        data = data[:at + 2] + text + data[at + 17:]
    with open(path, "wb") as out:
        out.write(data)

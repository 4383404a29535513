# SPDX-License-Identifier: ISC
"""Certificates of the tests."""

import ssl
import subprocess


def openssl(*arguments, **options):
    """Its standard output."""
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True,
                          **options).stdout


class Authority:
    """A certificate authority and what it signs."""

    def __init__(self, directory):
        self.directory = directory
        self.certificate = directory / "ca.pem"
        self.key = directory / "ca.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", self.key, "-out", self.certificate, "-days", 30, "-subj", "/CN=e2e")

    def context(self, names="IP:127.0.0.1", dates=None, **more):
        """A server's context with a certificate for these names, valid from now on or between
        two dates ("YYYYMMDDHHMMSSZ")."""
        key, request, made = (self.directory / f"leaf.{x}" for x in ("key", "csr", "pem"))
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", key, "-out", request, "-subj", "/CN=leaf",
                "-addext", f"subjectAltName={names}")
        if dates:
            self.sign_between(request, made, *dates)
        else:
            openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key,
                    "-CAcreateserial", "-copy_extensions", "copy", "-days", 1, "-out", made)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made, key)
        for name, value in more.items():
            setattr(context, name, value)
        return context

    def sign_between(self, request, made, start, end):
        """Only "openssl ca" takes dates in OpenSSL 3.0; it wants to keep books."""
        books = self.directory / "books"
        books.mkdir()
        (books / "index").touch()
        settings = books / "ca.cnf"
        settings.write_text(f"[ca]\ndefault_ca = this\n[this]\nnew_certs_dir = {books}\n"
                            f"database = {books}/index\nrand_serial = yes\n"
                            f"default_md = sha256\npolicy = any\ncopy_extensions = copy\n"
                            f"[any]\ncommonName = supplied\n")
        openssl("ca", "-batch", "-notext", "-config", settings, "-cert", self.certificate,
                "-keyfile", self.key, "-in", request, "-out", made, "-startdate", start,
                "-enddate", end)

    def intermediate(self):
        """One that this one signed."""
        directory = self.directory / "intermediate"
        directory.mkdir()
        below = Authority(directory)
        request = directory / "ca.csr"
        openssl("req", "-new", "-key", below.key, "-out", request, "-subj", "/CN=below",
                "-addext", "basicConstraints=critical,CA:TRUE")
        openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key,
                "-CAcreateserial", "-copy_extensions", "copy", "-days", 1, "-out",
                below.certificate)
        return below

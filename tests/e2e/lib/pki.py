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

    def context(self, names="IP:127.0.0.1", days=1, **more):
        """A server's context with a certificate for these names."""
        key, request, made = (self.directory / f"leaf.{x}" for x in ("key", "csr", "pem"))
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", key, "-out", request, "-subj", "/CN=leaf",
                "-addext", f"subjectAltName={names}")
        openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key,
                "-CAcreateserial", "-copy_extensions", "copy", "-days", days, "-out", made)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made, key)
        for name, value in more.items():
            setattr(context, name, value)
        return context

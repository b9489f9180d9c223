"""Whose certificates are believed: this system's authorities, and one that a site names beside them."""

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import certifi

from delivery.errors import BadInput

VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
# Debian, Fedora, macOS.
_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def system(*first: str | None) -> Path:
    """The file of the authorities that this host trusts: TLS may be re-signed on the way out.

    `first` are files that count before it, where they are there.
    """
    told = [*first, *map(os.environ.get, VARIABLES), ssl.get_default_verify_paths().cafile]
    found = (Path(one) for one in (*told, *_FILES) if one and Path(one).is_file())
    return next(found, Path(certifi.where()))


@contextmanager
def with_system(authority: Path | None) -> Iterator[Path]:
    """One file with the system's authorities and the named one, while the block runs; BadInput for one that is none.

    Both, for one host may be ours and the next one public: a registry, its token server and where it keeps its blobs.
    """
    if authority is None:
        yield system()
        return
    try:
        ours = authority.read_text(encoding="ascii")
        ssl.create_default_context(cadata=ours)
    except (OSError, ValueError, ssl.SSLError) as error:
        why = "is missing" if isinstance(error, FileNotFoundError) else "is not a certificate in PEM"
        raise BadInput(
            f"the certificate authority that the site names {why}: {authority}",
            "give the file of the authority that signed the registry's certificate, in PEM",
        ) from None
    with tempfile.NamedTemporaryFile(prefix="delivery-ca-", suffix=".pem") as file:
        file.write(system().read_bytes().rstrip() + b"\n" + ours.encode())
        file.flush()
        yield Path(file.name)

"""The site's own certificate authority."""

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Files:
    """Where it all is: the authority, and the servers' certificate with its key."""

    authority: Path
    servers: Path


def make(folder: Path, names: list[str]) -> Files:
    """An authority that nobody knows yet, and one certificate of it for all these names."""
    folder.mkdir(parents=True, exist_ok=True)
    files = Files(folder / "ca.pem", folder / "servers.pem")
    authority = trustme.CA(organization_name="shop")
    authority.cert_pem.write_to_path(files.authority)
    authority.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(files.servers)
    return files

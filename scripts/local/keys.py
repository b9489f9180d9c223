"""The key pairs of a local site, made at `up` and kept in its state folder: a password, a public key, a key."""

import os
import secrets
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from delivery.files import write_private
from delivery.parts import cosign, openpgp
from local.cluster import Cluster


def create(cluster: Cluster) -> None:
    """Make the key pairs that are missing; safe to repeat, also after being killed."""
    folder = cluster.state / "keys"
    missing = [
        name for name in cluster.pipeline.signed_by if not all(file.exists() for file in _files(folder, name))
    ]
    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(lambda name: _make(folder, name), missing))
    for one in cluster.pipeline.environments:
        if one.guarded and not all(file.exists() for file in commit_key(cluster, one.gate)):
            secret, certificate = openpgp.generate(f"{one.gate} <{one.gate}@{cluster.name}>")
            for file, text in zip(commit_key(cluster, one.gate), (secret, certificate), strict=True):
                write_private(file, text)


def commit_key(cluster: Cluster, name: str) -> tuple[Path, Path]:
    """The OpenPGP key with which a gate signs commits, and its certificate."""
    folder = cluster.state / "keys"
    return folder / f"{name}.pgp", folder / f"{name}.asc"


def public(cluster: Cluster, name: str) -> Path:
    """The public key of a signer."""
    return _files(cluster.state / "keys", name)[1]


def _files(folder: Path, name: str) -> tuple[Path, Path, Path]:
    """Password, public key, key: in this order they come into being."""
    return folder / f"{name}.password", folder / f"{name}.pub", folder / f"{name}.key"


def _make(folder: Path, name: str) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    password = secrets.token_urlsafe(24)
    work = folder / f".{name}.{os.getpid()}"
    work.mkdir(mode=0o700, exist_ok=True)
    try:
        cosign.generate(work / name, password)
        write_private(work / f"{name}.password", password)
        for file in _files(folder, name):
            made = work / file.name
            made.chmod(0o600)
            made.replace(file)
    finally:
        shutil.rmtree(work, ignore_errors=True)

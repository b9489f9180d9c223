"""The token server of the tests (tokens.py) beside a registry of CNCF distribution that asks for tokens by itself."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from delivery.lock import alone
from delivery.parts.registry import LoginRefused, Manifest, Registry
from delivery.site import ImageRepository
from local import paths
from local.catalog import Catalog
from scripts.tests.shelf import serving_registry
from scripts.tests.tokens import ISSUER, SERVICE, Authority, Door, log_in
from scripts.tests.world import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATH = "acme/shop"


@pytest.mark.slow
def test_our_tokens_are_real_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Callable[[str], Path]
) -> None:
    """The tests' token server is one that CNCF distribution takes: its own token auth, asked without our door."""
    program("registry")  # where it was compiled, one package more takes seconds
    compiled = token_registry(tmp_path)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    authority, behind = Authority(tmp_path / "authority"), tmp_path / "behind"
    behind.mkdir()
    leaf = authority.issue("localhost")
    (tmp_path / "tls.pem").write_bytes(b"".join(one.bytes() for one in leaf.cert_chain_pems))
    (tmp_path / "tls.key").write_bytes(leaf.private_key_pem.bytes())
    with serving_registry(program("registry"), behind) as stock, Door(stock, authority).open() as door:
        settings = (
            f"  tls: {{certificate: {tmp_path}/tls.pem, key: {tmp_path}/tls.key}}\n"
            f"auth: {{token: {{realm: 'https://{door.host}/token', service: {SERVICE}, issuer: {ISSUER}, "
            f"rootcertbundle: {authority.file}}}}}\n"
        )
        with serving_registry(compiled, tmp_path, settings) as port:
            log_in(tmp_path, f"localhost:{port}")
            index = (
                b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
            )
            manifest = Manifest("", "application/vnd.oci.image.index.v1+json", index)
            with Registry(ImageRepository(name=f"localhost:{port}/{PATH}", ca=authority.file)) as registry:
                assert registry.tags() == []
                registry.tag(manifest, "15")
                found = registry.manifest("15")
                assert found is not None
                assert found.body == index
            log_in(tmp_path, f"localhost:{port}", word="guess")
            with (
                Registry(ImageRepository(name=f"localhost:{port}/{PATH}", ca=authority.file)) as registry,
                pytest.raises(LoginRefused),
            ):
                registry.tags()


def token_registry(folder: Path) -> Path:
    """The registry program with token auth, which ours leaves out; compiled where its parts are."""
    module = Catalog(ROOT).module
    if not (module.bin / "registry").exists():
        pytest.skip("the registry was not compiled on this machine")
    text = (module.folder / "registry" / "main.go").read_text()
    (folder / "main.go").write_text(text.replace("auth/htpasswd", "auth/token"))
    made = folder / "registry-with-tokens"
    # As a compilation of `up`: another one drops the sources when it is through.
    with alone(paths.cache("programs", "lock"), "another compilation on this machine", 300.0):
        subprocess.run(
            [
                module.go(),
                "build",
                "-gcflags=all=-dwarf=false",
                "-ldflags",
                "-s -w",
                "-o",
                made,
                folder / "main.go",
            ],
            cwd=module.folder,
            env={**os.environ, **module._env()},
            check=True,
            capture_output=True,
            timeout=300,
        )
    return made

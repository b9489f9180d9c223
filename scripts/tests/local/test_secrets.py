"""The keys, logins and passwords of a local site: made once, for their owner alone, and whole again after a kill."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from delivery.errors import PlatformError
from delivery.parts import cosign
from delivery.signed import keys
from local import credentials
from local import keys as pairs

if TYPE_CHECKING:
    from scripts.tests.world import World


def test_keys(stocked: World) -> None:
    """A key pair for each signer, an OpenPGP key for each gate, none readable by others; a second `up` leaves them."""
    pairs.create(stocked.local)
    folder = stocked.local.state / "keys"
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    gates = {"gate-stage", "gate-prod"}
    assert {name.partition(".")[0] for name in before} == {
        "build",
        "dev",
        "stage",
        "prod",
        "approver",
    } | gates
    assert {name for name in before if name.endswith((".pgp", ".asc"))} == {
        f"{gate}.{kind}" for gate in gates for kind in ("pgp", "asc")
    }
    assert len(before) == 7 * 3 + 2 * 2
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    pairs.create(stocked.local)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_key_half_made_is_made_again(stocked: World) -> None:
    """A kill between the files of one key pair is mended by the next `up`, the other pairs stay."""
    pairs.create(stocked.local)
    stocked.local.publish({}, "a", "b")
    site = stocked.local.site.load()
    folder = site.state / "keys"
    dev, stage = (folder / "dev.key").read_bytes(), (folder / "stage.key").read_bytes()
    (folder / "dev.key").unlink()
    with pytest.raises(PlatformError, match="the key of dev is not on this machine"):
        keys.private(site, "dev")
    pairs.create(stocked.local)
    assert (folder / "dev.key").read_bytes() != dev
    assert (folder / "stage.key").read_bytes() == stage
    cosign.sign(b"{}", keys.private(site, "dev"))


def test_the_login_is_for_us_alone(world: World) -> None:
    """A local site's login of its registry is a file that only its owner reads, and names no other registry."""
    credentials.create(world.local)
    file = world.local.docker_config / "config.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(json.loads(file.read_text())["auths"]) == [world.local.registry_host]


def test_passwords_are_private(world: World) -> None:
    """Passwords are made once, kept in files that only the owner reads, and never shown."""
    made = credentials.create(world.local)
    assert credentials.create(world.local) == made
    assert made.registry.password not in repr(made)
    state = world.local.state
    assert state.stat().st_mode & 0o777 == 0o700
    for name in ("credentials.json", "git-credentials"):
        assert (state / name).stat().st_mode & 0o777 == 0o600
    assert made.registry.password != made.git.password
    assert made.git.password in world.local.git_credentials.read_text()

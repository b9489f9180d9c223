"""The keys, logins and passwords of a local site: made once, for their owner alone, and whole again after a kill."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from delivery.errors import PlatformError
from delivery.parts import cosign
from delivery.signed import keys
from local import credentials, services
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


def test_the_logins_are_for_us_alone(world: World) -> None:
    """A local site's logins of its registry are files that only their owner reads, and name no other registry."""
    made = credentials.create(world.local)
    folders = [world.local.docker_config, *map(world.local.docker_config_of, world.local.pipeline.signed_by)]
    told = set()
    for folder in folders:
        file = folder / "config.json"
        assert file.stat().st_mode & 0o777 == 0o600
        [(host, login)] = json.loads(file.read_text())["auths"].items()
        assert host == world.local.registry_host
        told.add(base64.b64decode(login["auth"]).decode())
    assert told == {f"{name}:{one.password}" for name, one in made.registry.items()}
    assert len(told) == len(folders)


def test_each_role_has_a_login_of_its_own(world: World) -> None:
    """Everybody who signs writes the own repository alone, the build the image too, and the verbs read as nobody."""
    made, image = credentials.create(world.local), world.local.pipeline.chart.release
    assert set(made.registry) == {credentials.READER, *world.local.pipeline.signed_by}
    assert set(made.git) == {"delivery", "developer"}
    may = credentials.writers(world.local)
    assert [who for who, where in may if where == image] == ["build"]
    assert credentials.READER not in dict(may)
    world.local.publish({}, "a", "b")
    site = world.local.site.load()
    assert site.logged_in(site.image, "build").docker_config == world.local.docker_config_of("build")
    for name in world.local.pipeline.signed_by:
        place = site.logged_in(site.statements_of(name), name)
        assert (name, place.path) in may
        assert place.docker_config == world.local.docker_config_of(name)
        assert site.statements_of(name).docker_config == world.local.docker_config
    assert services.writers(may).count("\n") == len(may)


def test_a_login_that_comes_later(world: World) -> None:
    """An environment more, or a kill in between: who has a password keeps it, and who has none gets one."""
    before = credentials.create(world.local)
    file = world.local.state / "credentials.json"
    data = json.loads(file.read_text())
    del data["registry"]["gate-prod"], data["git"]["developer"]
    file.write_text(json.dumps(data))
    after = credentials.create(world.local)
    for old, new, lost in (
        (before.registry, after.registry, "gate-prod"),
        (before.git, after.git, "developer"),
    ):
        assert {name for name in old if old[name] != new[name]} == {lost}
    file.write_text("{half")
    assert set(credentials.create(world.local).registry) == set(before.registry)


def test_passwords_are_private(world: World) -> None:
    """Passwords are made once, kept in files that only the owner reads, and never shown."""
    made = credentials.create(world.local)
    assert credentials.create(world.local) == made
    passwords = [one.password for one in (*made.registry.values(), *made.git.values())]
    assert len(set(passwords)) == len(passwords)
    assert not any(one in repr(made) for one in passwords)
    state = world.local.state
    assert state.stat().st_mode & 0o777 == 0o700
    for name in ("credentials.json", "git-credentials", "git-credentials-developer"):
        assert (state / name).stat().st_mode & 0o777 == 0o600
    for name, store in (
        ("delivery", world.local.git_credentials),
        ("developer", world.local.developers_git_credentials),
    ):
        assert f"//{name}:{made.git[name].password}@" in store.read_text()

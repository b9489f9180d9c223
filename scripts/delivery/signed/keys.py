"""Who signs what, and with which key: the site says it, for the build, each environment, each gate, each approver.

A public key counts where an administrator put the same one into the cluster of the target, with `delivery policy`.
Those of a checkout came with a commit, and whoever pushes one could bring a key of his own: where the two differ,
nothing is believed.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from delivery import roles
from delivery.context import Context
from delivery.desired import derived
from delivery.desired.policy import Authority
from delivery.errors import PlatformError, Refused, Unknown, or_unknown
from delivery.parts import cosign, openpgp
from delivery.pipeline import Environment
from delivery.site import CommitKey, Site

_OTHERS_READ = 0o077  # the bits of a file that let anybody but its owner in


def public(site: Site, name: str) -> Path:
    """The public key that verifies what `name` signed; PlatformError when it is not there."""
    file = site.signer(name).public
    if not file.is_file():
        raise PlatformError(f"the public key of {name} is missing: {file}", site.remedy("signers"))
    return file


def pem(file: Path, hint: str) -> str:
    """The text of a public key; PlatformError with this hint when the file holds none."""
    try:
        text = file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise PlatformError(f"{file}: {error}", hint) from None
    if "BEGIN PUBLIC KEY" not in text:
        raise PlatformError(f"{file} holds no public key", hint)
    return text


def authorities(context: Context) -> dict[str, Authority]:
    """Those whose statements the cluster asks for, by the names that the policy gives them.

    PlatformError when a public key is missing.
    """
    site, asked = context.site, derived.authorities(context.pipeline)
    remedy = site.remedy("signers")
    return {
        name: Authority(pem(public(site, by), remedy), site.statements_of(by).name)
        for name, by in asked.items()
    }


def everybody(site: Site) -> dict[str, str]:
    """Every public key that the site names: NAME.pub is PEM, NAME.asc is a gate's OpenPGP certificate.

    PlatformError when one is missing.
    """
    found = {}
    for name, signer in site.signers.items():
        found[f"{name}.pub"] = pem(public(site, name), site.remedy("signers"))
        if signer.commits:
            found[f"{name}.asc"] = commit_certificate(site, name)
    return found


def differences(wanted: Mapping[str, str], installed: Mapping[str, Any] | None) -> list[str]:
    """Whose keys are others than those in a cluster's ConfigMap; None where the cluster has no such ConfigMap."""
    if installed is None:
        return [f"ConfigMap {roles.KEYS} is not there"]
    data = installed.get("data") or {}
    return [
        f"ConfigMap {roles.KEYS} has {'another' if name in data else 'no'} key of {_whose(name)}"
        for name, text in wanted.items()
        if str(data.get(name) or "").split() != text.split()
    ]


def strange(context: Context, environment: Environment) -> tuple[str, ...] | Unknown:
    """Whose keys are others here than in the cluster of an environment; Unknown when that cannot be read."""
    from delivery.parts.kubernetes import Denied, Kubernetes

    def read() -> tuple[str, ...]:
        wanted, installed = everybody(context.site), None
        kubernetes = Kubernetes(context.site, environment.name)
        try:
            installed = kubernetes.config_map(roles.home(context.pipeline.chart.release), roles.KEYS)
        except Denied as error:
            if error.status != 404:
                raise
        finally:
            kubernetes.close()
        where = f"the cluster of {environment.name}"
        return tuple(f"{where}: {one}" for one in differences(wanted, installed))

    found = or_unknown(read)
    if isinstance(found, Unknown):
        return Unknown(f"whose keys count in {environment.name} is not known: {found.reason}")
    return found


def insist(context: Context, environment: Environment) -> None:
    """Return when the keys of this machine are those in the cluster of an environment.

    Refused when one is another, PlatformError when that cannot be read.
    """
    found = strange(context, environment)
    if isinstance(found, Unknown):
        raise PlatformError(found.reason, REMEDY)
    if found:
        raise Refused(f"{environment.name} stays as it is: {'; '.join(found)}", REMEDY)


REMEDY = "git log says who changed a key; if it is meant, an administrator applies `delivery policy`"


def _whose(name: str) -> str:
    signer, _, kind = name.rpartition(".")
    return signer if kind == "pub" else f"{signer} for commits"


def private(site: Site, name: str) -> cosign.Key:
    """What `name` signs with; PlatformError when it is not on this machine."""
    signer = site.signer(name)
    if signer.key is None:
        raise PlatformError(
            f"site {site.name} names no private key of {name}: somebody else signs as {name}",
            "ask whom it belongs to, or name a key that is yours under signers in pipeline.yaml",
        )
    for file in (signer.key, signer.password_file):
        if isinstance(file, Path):
            text = _insist_private(site, name, file)
            if file == signer.key and "PRIVATE KEY" not in text:
                raise PlatformError(f"{file} holds no private key of {name}", site.remedy("signers"))
    return cosign.Key(str(signer.key), signer.password_file, signer.password)


def commit_key(site: Site, name: str) -> str:
    """The OpenPGP key, armored, with which a gate signs commits; PlatformError when this machine cannot use it."""
    key = _commits(site, name).key
    if key is None:
        raise PlatformError(
            f"site {site.name} names no OpenPGP key of {name}: somebody else signs as {name}",
            "promote where that key is, or name it under signers in pipeline.yaml: commits",
        )
    if isinstance(key, Path):
        return _insist_private(site, name, key)
    variable = key.removeprefix("env://")
    if not (text := os.environ.get(variable)):
        raise PlatformError(f"the OpenPGP key of {name} is to be in {variable}, which is not set", "set it")
    return text


def commit_certificate(site: Site, name: str) -> str:
    """The OpenPGP certificate, armored, that verifies a gate's commits; PlatformError when it is not there."""
    file = _commits(site, name).public
    try:
        text = file.read_text(encoding="ascii")
        openpgp.signing_key_id(text)
    except FileNotFoundError:
        raise PlatformError(
            f"the OpenPGP certificate of {name} is missing: {file}", site.remedy("signers")
        ) from None
    except (OSError, ValueError) as error:
        raise PlatformError(
            f"{file} holds no OpenPGP certificate of {name}: {error}", site.remedy("signers")
        ) from None
    return text


def _commits(site: Site, name: str) -> CommitKey:
    found = site.signer(name).commits
    if found is None:
        raise PlatformError(
            f"site {site.name} names no OpenPGP key of {name}, which signs the commits that enter",
            site.remedy("signers"),
        )
    return found


def _insist_private(site: Site, name: str, file: Path) -> str:
    """The text of a file that holds a secret; PlatformError unless it is there, readable, and nobody else's."""
    try:
        if file.stat().st_mode & _OTHERS_READ:
            raise PlatformError(f"the key of {name} is readable by others: {file}", f"chmod 600 {file}")
        return file.read_text(encoding="ascii")
    except FileNotFoundError:
        raise PlatformError(
            f"the key of {name} is not on this machine: {file}", site.remedy("signers")
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise PlatformError(
            f"the key of {name} cannot be read: {file}: {error}", site.remedy("signers")
        ) from None

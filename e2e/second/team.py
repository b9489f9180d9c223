"""The team: its checkout, adopted and without scripts/local, its keys, its logins, and the verbs as it calls them.

The verbs run in a virtual environment of their own, which sees the packages that this one has, the checkout's scripts,
and nothing else: `import local` fails there, and the state folder of `up` is not named to them.
"""

import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
import venv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from delivery import context as contexts
from delivery import pipeline as pipelines
from delivery import roles
from delivery.context import Context
from delivery.files import write_private
from delivery.parts import cosign, openpgp, programs
from delivery.pipeline import Pipeline
from e2e.delivery import Ran
from e2e.second import clusters, names
from e2e.second.servers import Servers

SITE = "acme"
PASSWORD = "SHOP_KEY_PASSWORD"
_AUTHOR = ("-c", "user.name=Ada", "-c", f"user.email=ada@{names.DOMAIN}")
# Of the shared cluster others have 30081 to 30083.
_FIRST_PORT = 31081
_VERBS = "from delivery.cli import main; main()"  # what the installed script `delivery` is


@dataclass(frozen=True)
class Team:
    """A clone of the repository that is on its way to be the team's own, and what its people have on their machine."""

    path: Path
    home: Path
    environment: dict[str, str] = field(repr=False)  # with its passwords

    @property
    def pipeline(self) -> Pipeline:
        """pipeline.yaml as it is now."""
        return pipelines.load(self.path)

    @property
    def context(self) -> Context:
        """The pipeline on the team's site."""
        return contexts.load(SITE, self.path)

    @property
    def state(self) -> Path:
        """The team's own state folder."""
        return self.home / "state"

    def delivery(self, *arguments: str, expect: int = 0, **environment: str) -> Ran:
        """Run a verb as the team would; fail unless it exits with `expect`."""
        env = self.environment | environment
        program: list[str | Path] = [self.home / "venv" / "bin" / "python", "-c", _VERBS]
        return Ran.of(program, arguments, cwd=self.path, env=env, expect=expect, seconds=600)

    def git(self, *arguments: str) -> str:
        """git in the checkout, as the team."""
        command = ["git", *_AUTHOR, *arguments]
        done = subprocess.run(command, cwd=self.path, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
        return done.stdout.strip()

    def commit(self, message: str) -> None:
        """Commit everything there is."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def main(self) -> str:
        """The commit that the Git server's main is at."""
        return self.git("ls-remote", self.context.site.git.url, "refs/heads/main").partition("\t")[0]

    def change(self, name: str, *replacements: tuple[str, str]) -> None:
        """Replace texts in a file that must have each exactly once."""
        file = self.path / name
        text = file.read_text(encoding="utf-8")
        for old, new in replacements:
            assert text.count(old) == 1, f"{name} has {old!r} {text.count(old)} times"
            text = text.replace(old, new)
        file.write_text(text, encoding="utf-8")


def come(root: Path, home: Path, servers: Servers, kubeconfig: Path) -> Team:
    """A fresh clone, and a machine with the programs, the logins and the trust that a team gives it."""
    path = home / "shop"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", root, path], check=True)
    _virtual_environment(home / "venv", path)
    tools = home / "bin"
    tools.mkdir()
    for name in ("cosign", "helm", "kubectl"):
        (tools / name).symlink_to(shutil.which(programs.path(name)) or programs.path(name))
    trust = home / "gitconfig"
    trust.write_text(
        f'[http "https://{names.GIT}/"]\n\tsslCAInfo = "{servers.files.authority}"\n'
        f'[credential "https://{names.GIT}"]\n\tusername = oauth2\n'
        '\thelper = "!f() { echo password=$DELIVERY_GIT_TOKEN; }; f"\n'
    )
    left = ("DELIVERY_", "PYTHON", "GIT_", "DOCKER_CONFIG", "KUBECONFIG", "VIRTUAL_ENV")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(left)}
    environment |= {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "DELIVERY_STATE": str(home / "state"),
        "DELIVERY_GIT_TOKEN": servers.git["oauth2"],
        "DOCKER_CONFIG": str(servers.docker_config(home / "docker", "ci")),
        "KUBECONFIG": str(kubeconfig),
        "GIT_CONFIG_GLOBAL": str(trust),
        PASSWORD: secrets.token_urlsafe(24),
    }
    for variable in ("NO_PROXY", "no_proxy"):  # a proxy knows nothing of these names
        known = filter(None, [os.environ.get(variable), f".{names.DOMAIN}", "-control-plane"])
        environment[variable] = ",".join(known)
    return Team(path, home, environment)


def adopt(team: Team, name: str) -> None:
    """Make the fork the team's own, with one environment more, and without the local platform."""
    address = f"https://{names.GIT}/acme/{name}"
    registry = f"{names.REGISTRY}/acme"
    team.delivery("adopt", "--name", name, "--registry", registry, "--git", address, "--site-name", SITE)
    team.commit(f"This is {name} now")
    for port, environment in enumerate(team.pipeline.environments, _FIRST_PORT):
        file = team.path / environment.values
        text = file.read_text(encoding="utf-8")
        before, _, after = text.partition("nodePort: ")
        file.write_text(f"{before}nodePort: {port}{after[5:]}", encoding="utf-8")
    team.commit("Node ports that are free in our cluster")
    team.delivery("environment", "add", "qa", "--after", "dev")
    team.commit("qa")


def settle(team: Team, servers: Servers, arguments: dict[str, str], beside: dict[str, str]) -> None:
    """Write down what nobody but the team knows: its clusters, signers, approver, and the images beside the app.

    `beside` has, for each value of values.yaml that names a digest, the image that it is to be.
    """
    shutil.rmtree(team.path / "scripts" / "local")
    _make_keys(team)
    yaml = YAML()
    file = team.path / pipelines.FILE
    rules = yaml.load(file.read_text(encoding="utf-8"))
    rules["sites"] = [_site(team, servers, arguments, next(s for s in rules["sites"] if s["name"] == SITE))]
    rules["approvers"] = [{"name": "approver", "identity": f"grace@{names.DOMAIN}"}]
    for one in rules["environments"]:
        one["namespace"] = one["application"] = names.of(one["name"])
    with file.open("w", encoding="utf-8") as out:
        yaml.dump(rules, out)
    values = team.path / rules["chart"]["path"] / "values.yaml"
    data = yaml.load(values.read_text(encoding="utf-8"))
    data["global"]["imagePullSecrets"] = [{"name": "registry"}]
    for value, reference in beside.items():
        repository, _, digest = reference.partition("@")
        *outer, last = value.split(".")
        reduce(getitem, outer, data).update({"repository": repository, last: digest})
    with values.open("w", encoding="utf-8") as out:
        yaml.dump(data, out)
    team.delivery("generate")
    team.commit("Where we live")


def _site(team: Team, servers: Servers, arguments: dict[str, str], adopted: Any) -> Any:
    places = {}
    for environment in team.pipeline.environments:
        values = YAML(typ="safe").load((team.path / environment.values).read_text(encoding="utf-8"))
        url = f"http://{environment.name}.{names.DOMAIN}:{values['service']['nodePort']}"
        places[environment.name] = {
            "context": clusters.role(clusters.TEST, roles.DEPLOYER),
            "tester": clusters.role(clusters.TEST, roles.TESTER),
            "url": url,
        }
    own = clusters.role(clusters.PROD, roles.DEPLOYER)
    places["prod"] = {"context": own, "url": places["prod"]["url"], "destination": clusters.PROD}
    adopted["image"] = {"name": adopted["image"]["name"], "ca": str(servers.files.authority)}
    return adopted | {
        "argocd": {"context": clusters.role(clusters.TEST, roles.DEPLOYER)},
        "environments": places,
        "arguments": arguments,
        "signers": {name: _signer(team, name) for name in team.pipeline.signed_by},
    }


def _signer(team: Team, name: str) -> dict[str, Any]:
    private = team.home / "keys"
    signer: dict[str, Any] = {
        "key": str(private / f"{name}.key"),
        "password": PASSWORD,
        "public": f"keys/{name}.pub",
    }
    if name in _gates(team):
        signer["commits"] = {"key": str(private / f"{name}.pgp"), "public": f"keys/{name}.asc"}
    return signer


def _gates(team: Team) -> set[str]:
    return {one.gate for one in team.pipeline.environments if one.guarded}


def _make_keys(team: Team) -> None:
    private, public = team.home / "keys", team.path / "keys"
    private.mkdir(mode=0o700)
    public.mkdir()

    def make(name: str) -> None:
        cosign.generate(private / name, team.environment[PASSWORD])
        (private / f"{name}.pub").rename(public / f"{name}.pub")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(make, team.pipeline.signed_by))
    for name in _gates(team):
        secret, certificate = openpgp.generate(f"{name} <{name}@{names.DOMAIN}>")
        write_private(private / f"{name}.pgp", secret)
        (public / f"{name}.asc").write_text(certificate, encoding="ascii")


def _virtual_environment(folder: Path, checkout: Path) -> None:
    venv.create(folder, with_pip=False, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    # One folder a line, and no .pth file of theirs is read: that of this checkout would bring `local`.
    (packages / "team.pth").write_text(f"{checkout / 'scripts'}\n{sysconfig.get_path('purelib')}\n")

"""A world small enough for seconds: a team's checkout and its Git server on disk, with real Git throughout."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delivery import pipeline as pipelines
from delivery.context import Context
from delivery.desired import manifests, tree
from delivery.parts.git import Repository
from delivery.pipeline import Environment
from delivery.signed import evidence
from delivery.signed.measurements import Measurement
from delivery.site import LocalSite

if TYPE_CHECKING:
    from local.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
URL = "https://git.example/team/manual-app.git"  # git's own `insteadOf` leads it to the server on disk

VALUES = """\
# {name}: what differs here.

image:   # set by `delivery`, never by hand
  repository: set-by-promotion
  tag: set-by-promotion      # the build number
  digest: set-by-promotion

replicas: {replicas}  # as many as it needs
"""

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: manual-app}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app.kubernetes.io/name: manual-app}}
  template:
    metadata: {labels: {app.kubernetes.io/name: manual-app}}
    spec:
      containers:
        - name: manual-app
          image: {{ .Values.image.repository }}@{{ .Values.image.digest }}
"""

# What stands beside it.
BESIDE = """\
apiVersion: v1
kind: Service
metadata: {name: manual-app, labels: {app.kubernetes.io/name: manual-app}}
spec:
  selector: {app.kubernetes.io/name: manual-app}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: rates}
data: {rates.yaml: "EUR: 1"}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: default-deny}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
"""

# A team's own site, as it stands in pipeline.yaml.
SITE = f"""
  - name: team
    git: {{ url: {URL} }}
    image:
      name: registry.example/team/manual-app
      reached: localhost:1/manual-app
      plain_http: true
      docker_config: .delivery/team/docker
    kubeconfig: .delivery/team/kubeconfig
    environments:
      dev: {{ context: team-test, url: "http://127.0.0.1:1" }}
      stage: {{ context: team-test, url: "http://127.0.0.1:1" }}
      prod: {{ context: team-test, url: "http://127.0.0.1:1" }}
    signers:
"""
SIGNER = "      {0}: {{ key: {1}/{0}.key, password_file: {1}/{0}.password, public: {1}/{0}.pub{2} }}\n"
COMMITS = ", commits: {{ key: {1}/{0}.pgp, public: {1}/{0}.asc }}"
# What people keep of the locks, beside what is generated.
KEPT = (
    *("policy/pinned-images.yaml", "policy/policy-controller/validating-webhook.yaml"),
    *("policy/policy-controller/config.yaml",),
    "argocd/projects/kinds.yaml",
)
SIGNERS = ("build", "dev", "stage", "prod", "gate-stage", "gate-prod", "approver")


def git(folder: Path, *arguments: str) -> str:
    """Git as a user would type it, with an identity of the test's own."""
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.test")
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def leads(gitconfig: Path, to: str) -> None:
    """Whoever asks for the team's Git server reaches this one."""
    gitconfig.write_text(f'[url "{to}"]\n\tinsteadOf = {URL}\n')


def _signer(name: str) -> str:
    folder = ".delivery/team/keys"
    return SIGNER.format(name, folder, COMMITS.format(name, folder) if name.startswith("gate-") else "")


def begin(folder: Path) -> None:
    """A server and a checkout with the real pipeline.yaml, an app and a chart: the same commit each time."""
    server, checkout = folder / "server.git", folder / "checkout"
    for path in (server, checkout):
        bare = ["--bare"] if path == server else []
        git(folder, "init", "--quiet", "--template=", *bare, "--initial-branch=main", str(path))
    git(checkout, "remote", "add", "origin", URL)
    pipeline = (ROOT / "pipeline.yaml").read_text() + SITE
    files = {
        "pipeline.yaml": pipeline + "".join(map(_signer, SIGNERS)),
        ".gitignore": ".delivery/\n",
        "manual-app/pyproject.toml": '[project]\nname = "manual-app"\nversion = "1.2.3"\n',
        "e2e/suites/smoke/test_smoke.py": "def test_starts() -> None:\n    pass\n",
        "manual-app-helm/Chart.yaml": "apiVersion: v2\nname: manual-app\nversion: 0.1.0\n",
        "manual-app-helm/values.yaml": 'replicas: 1\nimage: {repository: ""}\n',
        "manual-app-helm/templates/app.yaml": DEPLOYMENT,
        "manual-app-helm/templates/beside.yaml": BESIDE,
        **{
            f"manual-app-helm/values-{name}.yaml": VALUES.format(name=name, replicas=replicas)
            for name, replicas in (("dev", 1), ("stage", 2), ("prod", 2))
        },
    }
    files |= {name: (ROOT / name).read_text() for name in KEPT}
    for name, text in files.items():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(text)
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message", "the beginning")
    git(checkout, "push", "--quiet", str(server), "main")
    git(checkout, "fetch", "--quiet", str(server), "main:refs/remotes/origin/main")


@dataclass(frozen=True)
class World:
    """A checkout, its server, and what every verb is about: the pipeline that it holds, on the team's site."""

    checkout: Path
    server: Path
    context: Context

    git = staticmethod(git)

    @property
    def local(self) -> Cluster:
        """The first local site of the same pipeline.yaml, of which nothing is there."""
        from local.cluster import Cluster  # here: where scripts/local was deleted, nobody asks for it

        site = self.context.pipeline.sites[0]
        assert isinstance(site, LocalSite)
        return Cluster(self.context.pipeline, site)

    def ruled(self, **changes: Any) -> World:
        """The same world with other rules in its pipeline."""
        pipeline = self.context.pipeline.model_copy(update=changes)
        return replace(self, context=replace(self.context, pipeline=pipeline))

    def reloaded(self) -> World:
        """The same world by the pipeline.yaml that its checkout has now."""
        return replace(self, context=replace(self.context, pipeline=pipelines.load(self.checkout)))

    def on(self, **changes: Any) -> World:
        """The same world with something else in its site."""
        return replace(self, context=replace(self.context, site=self.context.site.model_copy(update=changes)))

    def keyed(self, name: str, **changes: Any) -> World:
        """The same world where `name` signs with something else."""
        signer = self.context.site.signer(name).model_copy(update=changes)
        return self.on(signers=dict(self.context.site.signers) | {name: signer})

    @staticmethod
    def values(name: str, replicas: int) -> str:
        """A values file as the checkout has it at first."""
        return VALUES.format(name=name, replicas=replicas)

    def clone(self, name: str) -> Path:
        """One more person's clone of the server."""
        folder = self.checkout.parent / name
        git(self.checkout.parent, "clone", "--quiet", str(self.server), str(folder))
        return folder

    def head(self) -> str:
        """Where the server's main is."""
        return git(self.server, "rev-parse", "main")

    def commits(self) -> list[str]:
        """The subjects on the server's main, newest first."""
        return git(self.server, "log", "--format=%s", "main").splitlines()

    def file(self, path: str, commit: str = "main") -> str:
        """A file as the server has it, byte for byte."""
        return subprocess.run(
            ["git", "-C", str(self.server), "show", f"{commit}:{path}"], check=True, capture_output=True
        ).stdout.decode()

    def commit(self, clone: Path, path: str, text: str, message: str) -> str:
        """One commit in a clone."""
        file = clone / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        git(clone, "add", "--all")
        git(clone, "commit", "--quiet", "--message", message)
        return git(clone, "rev-parse", "HEAD")

    def result(
        self,
        environment: Environment,
        tests: dict[str, str] | None = None,
        ago: timedelta = timedelta(),
        changed: tuple[str, ...] = (),
        at: str = "",
        measured: tuple[Measurement, ...] = (),
    ) -> dict[str, Any]:
        """What a run says: one test for each suite, all passed; `tests` changes the outcome of a suite's.

        It was of what a commit has, the newest on main without one.
        """
        outcomes = dict.fromkeys(environment.tests.requires, "passed") | (tests or {})
        run = [
            evidence.Test(id=f"{suite}/test_it.py::test_it", suite=suite, check="it", outcome=outcome)
            for suite, outcome in outcomes.items()
            if outcome != "absent"
        ]
        finished = datetime.now(UTC) - ago
        server, head = Repository(self.server), at or self.head()
        try:
            rendered = manifests.at(self.context, server, environment, head).manifests
        except manifests.NothingYet:
            rendered = "0" * 64
        trees = replace(tree.at(self.context, server, environment, head), manifests=rendered)
        return evidence.predicate(
            *(self.context, environment, evidence.judge(environment.tests, run, changed), trees),
            tuple(sorted(test.id for test in run)),
            *(head, head, evidence.Pods(before=(), after=()), finished, finished),
            measured=measured,
        )

    def prove(self, environment: Environment, digest: str, **circumstances: Any) -> dict[str, Any]:
        """Signed evidence of an environment about a digest, PASSED unless told otherwise."""
        data = self.result(environment, **circumstances)
        evidence.put(self.context, digest, environment, data)
        return data

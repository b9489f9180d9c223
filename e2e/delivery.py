"""Given/When/Then in the words of the domain: a user's checkout, the command, and what the cluster shows."""

import base64
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from delivery import context as contexts
from delivery import pipeline as pipelines
from delivery import roles
from delivery.context import Context
from delivery.parts import git, programs
from delivery.pipeline import Environment, Pipeline
from delivery.signed import commits

if TYPE_CHECKING:
    from local.cluster import Cluster


# Who commits by hand in the journeys: somebody who is not the pipeline.
DEVELOPER = ("-c", "user.name=Dev Eloper", "-c", "user.email=dev@example.org")


@dataclass(frozen=True)
class Ran:
    """A verb that ended: what a user sees of it."""

    code: int
    out: str
    err: str

    @classmethod
    def of(
        cls,
        program: Sequence[str | Path],
        arguments: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        expect: int | None,
        seconds: float,
        stdin: int = subprocess.DEVNULL,
    ) -> "Ran":
        """Run `delivery` as this program; fail unless it exits with `expect`, and says why where that is not 0.

        None: whatever it exits with.
        """
        done = subprocess.run(
            [*program, *arguments],
            cwd=cwd,
            env=env,
            capture_output=True,
            text=True,
            stdin=stdin,
            timeout=seconds,
        )
        ran = cls(done.returncode, done.stdout, done.stderr)
        told = (
            f"delivery {' '.join(arguments)}: exit {ran.code}, not {expect}\n{ran.out}\n{ran.err}\n{ran.log}"
        )
        assert expect is None or ran.code == expect, told
        if ran.code:
            assert ran.error, f"a failed verb says what is wrong: {ran.err}"
            assert ran.hint, f"a failed verb says what to do: {ran.err}"
        return ran

    @property
    def json(self) -> Any:
        """What it printed with --format json."""
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """Its `error:` line."""
        return next((line for line in self.err.splitlines() if line.startswith("error: ")), "")

    @property
    def hint(self) -> str:
        """Its `hint:` line."""
        return next((line for line in self.err.splitlines() if line.startswith("hint: ")), "")

    @property
    def log(self) -> str:
        """The end of the log that its hint names: the folder may be gone when somebody reads this."""
        file = Path(self.hint.rpartition(": ")[2])
        return file.read_text(encoding="utf-8")[-3000:] if file.is_file() else ""


def kubectl(
    *command: str | Path, check: bool = True, input: str | None = None, seconds: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run kubectl and what it is told; with `check`, fail unless it works."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        input=input,
        stdin=None if input is not None else subprocess.DEVNULL,
        timeout=seconds,
    )
    assert not check or done.returncode == 0, f"{' '.join(map(str, command[1:]))}: {done.stderr}"
    return done


@dataclass
class Checkout:
    """A user's clone of the repository, from which the verbs are called."""

    path: Path
    site: str

    @property
    def pipeline(self) -> Pipeline:
        """pipeline.yaml of this checkout."""
        return pipelines.load(self.path)

    @property
    def context(self) -> Context:
        """The pipeline on the site of the tests."""
        return contexts.load(self.site, self.path)

    @property
    def cluster(self) -> "Cluster":
        """The local cluster that the site is, where it is one."""
        # Here, not above: the suites are run by pytest past this module, also where scripts/local was deleted.
        from local import cluster as clusters

        return clusters.chosen(self.site, self.path)

    @property
    def branch(self) -> str:
        """The branch that the environments live on."""
        return self.pipeline.git.branch

    @property
    def selector(self) -> str:
        """What selects the app's pods."""
        return f"app.kubernetes.io/name={self.app}"

    @property
    def app(self) -> str:
        """The app's name: its Helm release, its label and its container."""
        return self.pipeline.chart.release

    def delivery(
        self, *arguments: str, expect: int | None = 0, typed: str | None = None, **environment: str
    ) -> Ran:
        """Run a verb as a user would; fail unless it exits with `expect` (None: whatever it says).

        With `typed` there is a terminal, where that is typed.
        """
        env = {**os.environ, "DELIVERY_SITE": self.site, **environment}
        program = [Path(sys.executable).with_name("delivery")]
        with nullcontext(subprocess.DEVNULL) if typed is None else _terminal(typed) as stdin:
            return Ran.of(program, arguments, cwd=self.path, env=env, expect=expect, seconds=900, stdin=stdin)

    def back_to(self, digest: str) -> dict[str, Any]:
        """Roll back every environment that runs another digest, all at once; what each rollback says as JSON."""
        moved = [one.name for one in self.environments() if self.digests(one.name) != {digest}]

        def rolled_back(name: str) -> Any:
            return self.delivery("rollback", name, "--digest", digest, "--format", "json").json

        with ThreadPoolExecutor() as pool:
            return dict(zip(moved, pool.map(rolled_back, moved), strict=True))

    def history(self, *arguments: str, expect: int | None = None) -> Any:
        """The audit trail; `history` exits with 1 once a journey pushed a claim, which stays in Git for ever."""
        return self.delivery("history", *arguments, "--format", "json", expect=expect).json

    def git(self, *arguments: str) -> str:
        """git in the checkout, as the user."""
        return git.Repository(self.path).run(*arguments)

    def commit_as(self, gate: str, message: str) -> str:
        """Commit what was changed with the signature of an environment's gate, as whoever has its key could."""
        self.git("add", "--all")
        sign = commits.signer(self.context, self.pipeline.environment(gate))
        return git.Repository(self.path).commit_signed(message, ("Mallory", "mallory@example.org"), sign)

    def pin(self, environment: str, commit: str) -> None:
        """Tell Argo CD to keep an environment at a commit, with the deployer's rights."""
        name = self.pipeline.environment(environment).application
        change = {
            "metadata": {"annotations": {"argocd.argoproj.io/refresh": "normal"}},
            "spec": {"source": {"targetRevision": commit}},
        }
        who = roles.acting(roles.deployer(self.app))
        self.kubectl(
            *(*who, "-n", "argocd", "patch", "application", name, "--type=merge", "-p", json.dumps(change))
        )

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace text in a file that must have it exactly once."""
        file = self.path / name
        text = file.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{name} has {old!r} {text.count(old)} times"
        file.write_text(text.replace(old, new), encoding="utf-8")

    def commit(self, message: str) -> str:
        """Commit everything, as somebody who is not the pipeline; the commit."""
        self.git("add", "--all")
        self.git(*DEVELOPER, "commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    def pull(self) -> None:
        """git pull --rebase from the Git server, as the hint tells users to."""
        self.git(*DEVELOPER, "pull", "--quiet", "--rebase", self.context.site.git.url, self.branch)

    def push(self, refspec: str, *options: str, login: str = "developer") -> None:
        """git push to the Git server by hand, with the password of a developer, or with that of `delivery`."""
        cluster = self.cluster
        file = cluster.developers_git_credentials if login == "developer" else cluster.git_credentials
        helper = ("-c", f"credential.helper=store --file={shlex.quote(str(file))}")
        self.git(*helper, "push", "--quiet", *options, self.context.site.git.url, refspec)

    def refresh(self, environment: str) -> str:
        """Make Argo CD look at Git now; the Application's name."""
        name = self.pipeline.environment(environment).application
        annotation = "argocd.argoproj.io/refresh=normal"
        who = roles.acting(roles.deployer(self.app))
        self.kubectl(*who, "-n", "argocd", "annotate", "application", name, annotation, "--overwrite")
        return name

    def main(self) -> str:
        """The commit that the Git server's main is at."""
        commit = git.server_ref(self.context.site.git, f"refs/heads/{self.branch}")
        assert commit
        return commit

    def on_server(self, path: str) -> str:
        """A file as the Git server's main has it."""
        with git.clone(self.context.site.git, self.branch, bare=True) as repository:
            found = repository.show(repository.commit("HEAD"), path)
        assert found is not None
        return found.decode()

    def kubectl(
        self, *arguments: str, check: bool = True, input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """kubectl against the cluster of the tests, as its administrator; --as makes it somebody else."""
        return kubectl(*self.kubectl_command(), *arguments, check=check, input=input)

    def kubectl_command(self) -> list[str]:
        """kubectl for the local cluster and no other, as its administrator."""
        here = (f"--kubeconfig={self.cluster.kubeconfig}", f"--context={self.cluster.context}")
        return [str(programs.path("kubectl")), *here]

    def apply(self, manifest: dict[str, Any], *options: str) -> None:
        """kubectl apply of one object, by hand and past Git."""
        self.kubectl(*options, "apply", "-f", "-", input=json.dumps(manifest))

    def get(self, *arguments: str) -> Any:
        """kubectl get … -o json."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)

    def secret(self, environment: str, name: str, key: str) -> str:
        """The value of a Secret's key, as an administrator sees it."""
        values = self.get("secret", name, "-n", self.pipeline.environment(environment).namespace)["data"]
        return base64.b64decode(values[key]).decode().strip()

    def pods(self, environment: str) -> list[dict[str, Any]]:
        """The app's pods that are not on their way out."""
        items = self.get("pods", "-n", environment, "-l", self.selector)["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def digests(self, environment: str) -> set[str]:
        """The digests that the app's containers run, by the pods' own imageID."""
        return {
            status["imageID"].rpartition("@")[2]
            for pod in self.pods(environment)
            for status in pod["status"].get("containerStatuses", [])
        }

    def platform_image(self, name: str) -> str:
        """One of the platform's images as pods name it: `python`, which has an interpreter, or another."""
        from local import images, kind, preload

        return f"{preload.REPOSITORY}/{name}@{kind.digests(self.cluster, images.source().node)[name]}"

    def url(self, environment: str) -> str:
        """Where users reach an environment."""
        return self.context.site.url(environment)

    def environments(self) -> tuple[Environment, ...]:
        """Those of pipeline.yaml, in order."""
        return self.pipeline.environments


@dataclass
class Probe:
    """Requests to an environment while something happens to it."""

    answered: int = 0
    failed: list[str] = field(default_factory=list)


@contextmanager
def probing(url: str) -> Iterator[Probe]:
    """Ask `url` about twenty times a second while the block runs; bounded by the block and by 300 s."""
    probe, over = Probe(), threading.Event()

    def ask() -> None:
        end = time.monotonic() + 300
        while not over.wait(0.05) and time.monotonic() < end:
            try:
                # A new connection each time: that is what a rollout can break.
                answer = httpx.get(url, timeout=5, trust_env=False)
            except httpx.HTTPError as error:
                probe.failed.append(type(error).__name__)
                continue
            if answer.status_code == 200:
                probe.answered += 1
            else:
                probe.failed.append(f"{answer.status_code} {answer.text[:300]}")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield probe
    finally:
        over.set()
        thread.join()


@contextmanager
def unheld_pod(platform: Checkout, name: str) -> Iterator[str]:
    """A Ready pod with Python in the namespace `default`, which no NetworkPolicy holds back; gone afterwards."""
    image = platform.platform_image("python")
    platform.kubectl("run", name, f"--image={image}", "--restart=Never", "--", "sleep", "600")
    platform.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
    yield name
    platform.kubectl("delete", "pod", name, "--now")


def consistently(look: Any, seconds: float) -> None:
    """Absence is proven over a time: call `look` (which asserts) until the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        look()
        time.sleep(0.5)


@contextmanager
def _terminal(typed: str) -> Iterator[int]:
    ours, theirs = os.openpty()
    try:
        os.write(ours, typed.encode())
        yield theirs
    finally:
        os.close(theirs)
        os.close(ours)

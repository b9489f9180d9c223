"""A team puts its own app here, in another language: it writes pipeline.yaml, a Dockerfile and a chart, and no Python.

The fork is this checkout with e2e/own_app in place of the sample: a program in Go, in an image FROM scratch, on
another port, without a database, and with words of its own for what it is.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from delivery.parts import docker
from delivery.pipeline import BUILD
from e2e.delivery import Checkout
from e2e.registry import let_write
from local.closed.golang import Module

OWN = Path(__file__).parent / "own_app"


@pytest.fixture(scope="module")
def fork(platform: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A clone in which the sample was replaced; what it leaves in Docker is removed."""
    path = tmp_path_factory.mktemp("fork") / "hello"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", platform.path, path], check=True)
    made = Checkout(path, "hello")
    sample = made.pipeline
    made.git("rm", "--quiet", "-r", sample.image.context, sample.chart.path)
    shutil.copytree(OWN, path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("pipeline.yaml"))
    shutil.copy(path / "scripts/local/closed/go/go-toolchain.lock", path / "hello")
    file = path / "pipeline.yaml"
    written = YAML().load(file.read_text(encoding="utf-8"))
    written |= YAML().load((OWN / "pipeline.yaml").read_text(encoding="utf-8"))
    for environment in written["environments"]:
        environment["values"] = f"hello-chart/values-{environment['name']}.yaml"
        (path / environment["values"]).write_text(
            f"environment: {environment['name']}\n"
            "image:\n  repository: set-by-promotion\n  tag: set-by-promotion\n  digest: set-by-promotion\n"
        )
    # Their own image repository, in the registry that is there; its build writes there with the login of ours.
    let_write(platform.cluster, [(BUILD, "hello"), (BUILD, f"hello/{BUILD}")])
    site = platform.context.site.model_dump(mode="json", exclude_defaults=True) | {"name": made.site}
    for name in ("name", "reached"):
        site["image"][name] = f"{site['image'][name].rpartition('/')[0]}/hello"
    written["sites"].append(site)
    with file.open("w", encoding="utf-8") as out:
        YAML().dump(written, out)
    made.commit("our own app")
    yield made
    client = docker.client()
    try:
        for image in client.images.list():
            for tag in image.tags:
                if tag.startswith(("hello-ci:", f"{made.context.site.image.here}:")):
                    client.images.remove(tag)
    finally:
        client.close()


@pytest.fixture(scope="module")
def path(fork: Checkout) -> str:
    """PATH with a Go on it, as that team has: the toolchain of this machine, or the wheel."""
    go = Module(fork.path / "scripts/local/closed/go").go()
    return f"{go.parent}{os.pathsep}{os.environ['PATH']}"


def test_ci_asks_an_app_in_another_language(fork: Checkout, path: str) -> None:
    """Its own check runs, its chart renders, its image builds, its container runs, and answers on its port."""
    ran = fork.delivery("ci", PATH=path)
    for answer in ("Vets", "Image builds", "Container runs", "Service is reachable"):
        assert f"✓ {answer}" in ran.err
    client = docker.client()
    try:
        assert client.containers.list(all=True, filters={"label": "delivery.ci"}) == []
        assert client.networks.list(filters={"label": "delivery.ci"}) == []
    finally:
        client.close()


def test_it_is_built_once(fork: Checkout) -> None:
    """Build, version and commit are the image's own labels, and a second build of the commit is the first."""
    first = fork.delivery("build", "--format", "json").json
    assert (first["version"], first["revision"]) == ("0.3.1", fork.git("rev-parse", "HEAD"))
    assert fork.delivery("build", "--format", "json").json == first | {"new": False}


@pytest.mark.parametrize(
    ("file", "before", "after", "says"),
    [
        ("hello/main.go", "log.Fatal(err)", "log.Fatal(error)", "Vets: "),
        ("hello/Dockerfile", "LABEL org", "# LABEL org", "which version the app is"),
        ("hello/Dockerfile", "ARG REVISION=unknown", "ENV REVISION=unknown", "says revision unknown"),
        (
            "pipeline.yaml",
            "built.commit",
            "built.sha",
            "is not JSON with built.number, built.sha, environment",
        ),
        ("pipeline.yaml", "status: 404", "status: 200", "GET /nowhere answers 404"),
        ("pipeline.yaml", "hello/go.mod", "hello/gone", "hello/gone: No such file"),
        ("pipeline.yaml", "GREETING_FILE:", "GREETINGS:", "it ended: "),
    ],
)
def test_ci_says_what_is_wrong_with_it(
    fork: Checkout, path: str, file: str, before: str, after: str, says: str
) -> None:
    """Code that does not pass, a Dockerfile that keeps something back, a wrong description: one line, and a hint."""
    head = fork.git("rev-parse", "HEAD")
    text = (fork.path / file).read_text(encoding="utf-8")
    assert before in text
    (fork.path / file).write_text(text.replace(before, after), encoding="utf-8")
    fork.commit("a mistake")
    try:
        ran = fork.delivery("ci", PATH=path, expect=3 if "ended" in says else 2)
        assert says in ran.error
    finally:
        fork.git("reset", "--quiet", "--hard", head)

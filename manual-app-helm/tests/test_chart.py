"""What the chart promises, without a cluster: Helm renders, the tests read."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import pyhelm3
import pytest
import yaml

from delivery import pipeline as pipelines

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "manual-app-helm"
ARGOCD = ROOT / "argocd"
ENVIRONMENTS = [e.name for e in pipelines.load(ROOT).environments]
REPOSITORY = "registry.local:5000/manual-app"
DIGEST = "sha256:" + "0123456789abcdef" * 4
PLATFORM_DIGEST = "sha256:" + "f" * 64
MIGRATION = f"manual-app-migrate-{DIGEST.removeprefix('sha256:')[:12]}"

# Every way in which prod may differ from stage: (object, field) -> (stage, prod). Anything else fails.
DECLARED = {
    ("Service/manual-app", "spec.ports[http].nodePort"): (30082, 30083),
    ("Deployment/manual-app", "spec.template.spec.containers[manual-app].env[APP_ENVIRONMENT].value"): (
        "stage",
        "prod",
    ),
    (f"Job/{MIGRATION}", "spec.template.spec.containers[migrate].env[APP_ENVIRONMENT].value"): (
        "stage",
        "prod",
    ),
    # A suite may make the stand-in slow or wrong, and nobody in prod.
    ("Deployment/rates", "spec.template.spec.containers[rates].command[4]"): ("--faults", None),
}

Manifest = dict[str, Any]


class Helm:
    """The chart as Helm sees it, for one environment's values and digests."""

    def __init__(self, executable: str) -> None:
        self._client = pyhelm3.Client(executable=executable)
        self._command = pyhelm3.Command(executable=executable)
        self._chart = asyncio.run(self._client.get_chart(CHART))
        self._rendered: dict[str, list[Manifest]] = {}

    def values(self, environment: str) -> dict[str, Any]:
        values = load(CHART / f"values-{environment}.yaml")
        values["image"] = {"repository": REPOSITORY, "tag": "19", "digest": DIGEST}
        for part in ("postgresql", "rates"):
            values[part] = values.get(part, {}) | {"image": {"digest": PLATFORM_DIGEST}}
        return values

    def render(self, environment: str, values: dict[str, Any] | None = None) -> list[Manifest]:
        rendered = self._client.template_resources(
            self._chart, "manual-app", values or self.values(environment), namespace=environment
        )
        return list(asyncio.run(rendered))

    def environment(self, environment: str) -> list[Manifest]:
        """What Argo CD would apply there; rendered once."""
        if environment not in self._rendered:
            self._rendered[environment] = self.render(environment)
        return deepcopy(self._rendered[environment])

    def lint(self, environment: str) -> str:
        command = ["lint", "--strict", CHART, "--values", "-"]
        return asyncio.run(self._command.run(command, json.dumps(self.values(environment)).encode())).decode()

    def refusal(self, values: dict[str, Any]) -> str:
        """Why Helm refuses these values."""
        with pytest.raises(pyhelm3.Error) as refused:
            self.render("dev", values)
        return refused.value.stderr.decode()


def names(refusal: str, path: str) -> bool:
    """Whether a refusal says which value is wrong, in the words of Helm 4 and 3.19, or of 3.18's first releases."""
    return f"/{path.replace('.', '/')}" in refusal or f"- {path}" in refusal


@pytest.fixture(scope="session")
def helm(program: Callable[[str], Path]) -> Helm:
    return Helm(str(program("helm")))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def name(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def pod_specs(manifests: list[Manifest]) -> dict[str, Manifest]:
    return {name(m): m["spec"]["template"]["spec"] for m in manifests if "template" in m.get("spec", {})}


def pod_labels(manifest: Manifest) -> dict[str, str]:
    labels: dict[str, str] = manifest["spec"]["template"]["metadata"]["labels"]
    return labels


def containers(pod: Manifest) -> list[Manifest]:
    return [c for kind in ("initContainers", "containers", "ephemeralContainers") for c in pod.get(kind, [])]


def find(manifests: list[Manifest], wanted: str) -> Manifest:
    [found] = [m for m in manifests if name(m) == wanted]
    return found


def wave(manifest: Manifest) -> int:
    """When Argo CD applies it."""
    return int(manifest["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-wave", 0))


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its path; list items go by their name where they have one."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list) and node:
        for index, item in enumerate(node):
            label = item.get("name", index) if isinstance(item, dict) else index
            yield from leaves(item, f"{path}[{label}]")
    else:
        yield path, node


# The chart


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_lint(helm: Helm, environment: str) -> None:
    """`helm lint --strict` has nothing to say about any environment."""
    said = helm.lint(environment)
    assert "0 chart(s) failed" in said
    assert "WARNING" not in said


def test_prod_is_stage(helm: Helm) -> None:
    """What was tested in stage is what prod gets: every difference between them is declared above."""
    stage, prod = (
        {(name(m), path): value for m in helm.environment(e) for path, value in leaves(m)}
        for e in ("stage", "prod")
    )
    differences = {
        key: (stage.get(key), prod.get(key)) for key in stage | prod if stage.get(key) != prod.get(key)
    }
    assert differences == DECLARED


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_values_are_differences(environment: str) -> None:
    """An environment's file says only what is different there."""
    defaults = dict(leaves(load(CHART / "values.yaml")))
    repeated = {
        path: value
        for path, value in leaves(load(CHART / f"values-{environment}.yaml"))
        if defaults.get(path) == value
    }
    assert repeated == {}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_fresh_checkout_deploys_nothing(helm: Helm, environment: str) -> None:
    """Until a promotion has written a digest there is nothing to deploy: a fresh checkout does not render."""
    values = load(CHART / f"values-{environment}.yaml")
    if values["image"]["digest"] != "set-by-promotion":
        pytest.skip("not a fresh checkout: a digest is written")
    assert names(helm.refusal(values), "image.digest")


@pytest.mark.parametrize(
    "image",
    [
        pytest.param({"tag": "19"}, id="tag only"),
        pytest.param({"tag": "19", "digest": ""}, id="empty"),
        pytest.param({"tag": "19", "digest": None}, id="null"),
        pytest.param({"tag": "19", "digest": "set-by-promotion"}, id="set-by-promotion"),
        pytest.param({"tag": "19", "digest": "latest"}, id="a tag as digest"),
        pytest.param({"tag": "19", "digest": DIGEST.upper()}, id="upper case"),
        pytest.param({"tag": "19", "digest": DIGEST[:-1]}, id="short"),
        pytest.param({"tag": "19", "digest": DIGEST + "0"}, id="long"),
        pytest.param({"tag": "19", "digest": DIGEST + "\n"}, id="with a line break"),
        pytest.param({"tag": "19", "digest": DIGEST.removeprefix("sha256:")}, id="without algorithm"),
        pytest.param({"tag": "19", "digest": DIGEST.replace("256", "512")}, id="another algorithm"),
    ],
)
def test_only_a_digest_is_an_identity(helm: Helm, image: dict[str, Any]) -> None:
    """Nothing but a whole sha256 digest is accepted as the image to run."""
    assert "digest" in helm.refusal(helm.values("dev") | {"image": {"repository": REPOSITORY} | image})


@pytest.mark.parametrize("repository", ["", "set-by-promotion", "manual-app"])
def test_where_the_image_is_must_be_said(helm: Helm, repository: str) -> None:
    """Until a deployment or a promotion has named the site's repository, nothing is rendered."""
    image = {"repository": repository, "tag": "19", "digest": DIGEST}
    assert "/image/repository" in helm.refusal(helm.values("dev") | {"image": image})


@pytest.mark.parametrize("part", ["postgresql", "rates"])
@pytest.mark.parametrize("digest", ["set-by-up", "", "17", DIGEST.upper()])
def test_platform_images_too(helm: Helm, part: str, digest: str) -> None:
    """The database and the stand-in are pinned by digest as well."""
    values = helm.values("dev")
    values[part]["image"]["digest"] = digest
    assert names(helm.refusal(values), "image.digest")


@pytest.mark.parametrize(
    "path",
    [
        "typo",
        "image.tags",
        "service.port",
        "database.password",
        "database.owner.password",
        "readers.token",
        "metrics.port",
        "migration.wave",
        "resources.limits.gpu",
        "global.typo",
        "postgresql.typo",
        "postgresql.image.tag",
        "postgresql.auth.password",
        "postgresql.auth.app.password",
        "postgresql.storage.class",
        "rates.typo",
        "rates.image.tag",
        "rates.resources.limit",
    ],
)
def test_unknown_keys(helm: Helm, path: str) -> None:
    """A misspelt or unknown key is refused by name, in the chart and in both subcharts."""
    values = helm.values("dev")
    *parents, key = path.split(".")
    at = values
    for parent in parents:
        at = at.setdefault(parent, {})
    at[key] = "x"
    refusal = helm.refusal(values)
    assert f"'{key}'" in refusal or f"property {key} " in refusal


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("environment", "Prod!"),
        ("environment", ""),
        ("replicas", 0),
        ("service", {"nodePort": 80}),
        ("image", {"tag": 19, "digest": DIGEST}),
        ("migration", {"rollout": "after"}),
        ("exchangeRates", {"url": "rates:8080"}),
    ],
)
def test_wrong_values(helm: Helm, key: str, value: Any) -> None:
    """A value that cannot work is refused when rendering, not found out in the cluster."""
    assert names(helm.refusal(helm.values("dev") | {key: value}), key)


def restricted(pod: Manifest) -> list[str]:
    """What Pod Security `restricted` has against this pod; stricter in that it wants things said outright."""
    wrong = [f"{key} is set" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
    allowed = {"configMap", "emptyDir", "secret", "projected", "downwardAPI", "persistentVolumeClaim", "csi"}
    wrong += [f"volume {v['name']}" for v in pod.get("volumes", []) if not v.keys() - {"name"} <= allowed]
    security = pod.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
        wrong.append("may run as root")
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        wrong.append("seccomp")
    if security.get("sysctls") or security.get("seLinuxOptions"):
        wrong.append("sysctls or seLinuxOptions")
    for container in containers(pod):
        own = container.get("securityContext", {})
        if own.keys() - {"allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities"}:
            wrong.append(f"{container['name']} overrides the pod's security")
        if own.get("allowPrivilegeEscalation") is not False:
            wrong.append(f"{container['name']} may gain privileges")
        if own.get("capabilities") != {"drop": ["ALL"]}:
            wrong.append(f"{container['name']} keeps capabilities")
        if any("hostPort" in port for port in container.get("ports", [])):
            wrong.append(f"{container['name']} takes a host port")
    return wrong


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_pod_security(helm: Helm, environment: str) -> None:
    """Every pod satisfies `restricted`, has a read-only root, and no token of the Kubernetes API."""
    pods = pod_specs(helm.environment(environment))
    expected = {"Deployment/manual-app", f"Job/{MIGRATION}", "StatefulSet/postgresql", "Deployment/rates"}
    assert pods.keys() == expected
    for who, pod in pods.items():
        assert restricted(pod) == [], who
        assert pod["automountServiceAccountToken"] is False, who
        assert pod["enableServiceLinks"] is False, who
        for container in containers(pod):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, who


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_resources(helm: Helm, environment: str) -> None:
    """Every container says what it needs, and may not take all of the node's memory or disk; none is throttled."""
    for who, pod in pod_specs(helm.environment(environment)).items():
        for container in containers(pod):
            needs = container["resources"]
            assert needs["requests"].keys() == {"cpu", "memory", "ephemeral-storage"}, who
            assert needs["limits"].keys() == {"memory", "ephemeral-storage"}, who


def test_alive_is_less_than_ready(helm: Helm) -> None:
    """A restart is for a process that does not answer; what it needs of others keeps requests away, and no more."""
    pods = pod_specs(helm.environment("prod"))
    probes = {
        who: (container["livenessProbe"], container["readinessProbe"])
        for who, pod in pods.items()
        for container in pod["containers"]
        if "livenessProbe" in container
    }
    assert probes.keys() == {"Deployment/manual-app", "StatefulSet/postgresql", "Deployment/rates"}
    for who in ("Deployment/manual-app", "Deployment/rates"):
        alive, ready = probes[who]
        assert (alive["httpGet"]["path"], ready["httpGet"]["path"]) == ("/healthz", "/readyz")
    alive, ready = probes["StatefulSet/postgresql"]
    assert "pg_isready" in alive["exec"]["command"][-1]
    assert "--command=SELECT 1" in ready["exec"]["command"]


@pytest.mark.parametrize(("said", "alive"), [(0, True), (1, True), (2, False), (3, False)])
def test_a_database_that_recovers_is_alive(helm: Helm, tmp_path: Path, said: int, alive: bool) -> None:
    """While it recovers it takes nobody, and a restart would only make it begin anew; without any answer it is dead."""
    [container] = pod_specs(helm.environment("dev"))["StatefulSet/postgresql"]["containers"]
    (tmp_path / "pg_isready").write_text(f"#!/bin/sh\nexit {said}\n")
    (tmp_path / "pg_isready").chmod(0o755)
    command = container["livenessProbe"]["exec"]["command"]
    done = subprocess.run(command, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert (done.returncode == 0) is alive


def test_pod_security_check_works(helm: Helm) -> None:
    """The check above sees what it is for."""
    pod = pod_specs(helm.environment("dev"))["Deployment/manual-app"]
    broken: list[tuple[str, Any]] = [
        ("hostNetwork", True),
        ("volumes", [{"name": "host", "hostPath": {"path": "/"}}]),
        ("securityContext", {"seccompProfile": {"type": "RuntimeDefault"}, "runAsNonRoot": True}),
        ("initContainers", [{"name": "init"}]),
        ("containers", [{"name": "app", "securityContext": {"privileged": True}}]),
    ]
    for key, value in broken:
        assert restricted(pod | {key: value}), key


# An image whose first start makes a volume in two steps, as the public image of PostgreSQL does; while a file `stuck`
# is beside its data, it does not come further than the first.
FIRST_START = {
    "docker-entrypoint.sh": """\
        echo started >>"$VOLUME/starts"
        mkdir "$PGDATA" && echo 15 >"$PGDATA/PG_VERSION"
        while [ -e "$VOLUME/stuck" ]; do sleep 0.05; done
        echo made >"$PGDATA/database"
        while [ ! -e "$VOLUME/stop" ]; do sleep 0.05; done
        """,
    "pg_isready": '[ -e "$PGDATA/database" ]',
    "pg_ctl": 'touch "$VOLUME/stop"',
    "postgres": 'echo "$PGDATA" >>"$VOLUME/roles"',  # alone, for the roles
}


@pytest.fixture
def first_start(helm: Helm, tmp_path: Path) -> Callable[[], subprocess.Popen[str]]:
    """Run what the database's pod runs before the database, on the folder `volume`."""
    database = find(helm.environment("dev"), "StatefulSet/postgresql")
    [container] = database["spec"]["template"]["spec"]["initContainers"]
    assert container["command"] == ["sh", "/prepare/prepare.sh"]
    volume, programs = tmp_path / "volume", tmp_path / "bin"
    volume.mkdir()
    programs.mkdir()
    for name, script in FIRST_START.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    names = {one["name"]: one.get("value", "") for one in container["env"]}
    environment = names | {
        "PATH": f"{programs}:/usr/bin:/bin",
        "VOLUME": str(volume),
        "NAMESPACE": "dev",
        "PGDATA": str(volume / "pgdata"),
    }
    mounted = tmp_path / "prepare"
    mounted.mkdir()
    for name, text in find(helm.environment("dev"), "ConfigMap/postgresql")["data"].items():
        (mounted / name).write_text(text)

    def run() -> subprocess.Popen[str]:
        command = ["sh", str(mounted / "prepare.sh")]
        return subprocess.Popen(
            command, env=environment, text=True, start_new_session=True, stdout=subprocess.PIPE
        )

    return run


def test_a_killed_first_start_of_the_database_begins_anew(
    first_start: Callable[[], subprocess.Popen[str]], tmp_path: Path
) -> None:
    """The public image takes a volume whose first start was killed for a whole one; here nothing is left of it."""
    volume = tmp_path / "volume"
    (volume / "stuck").touch()
    killed = first_start()
    while not (volume / "pgdata.new" / "PG_VERSION").exists():
        assert killed.poll() is None
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert not (volume / "pgdata").exists()
    (volume / "stuck").unlink()
    ended = first_start()
    ended.communicate(timeout=20)
    assert ended.returncode == 0
    assert sorted(file.name for file in (volume / "pgdata").iterdir()) == ["PG_VERSION", "database"]
    assert not (volume / "pgdata.new").exists()


def test_a_database_that_is_there_is_left_alone(
    first_start: Callable[[], subprocess.Popen[str]], tmp_path: Path
) -> None:
    """A restart of the pod does not touch the data; its roles are looked after each time."""
    fill(tmp_path / "volume" / "pgdata", databases=4)
    ended = first_start()
    assert (ended.communicate(timeout=20)[0], ended.returncode) == ("", 0)
    assert not (tmp_path / "volume" / "starts").exists()
    assert (tmp_path / "volume" / "roles").read_text() == f"{tmp_path}/volume/pgdata\n"


@pytest.mark.parametrize(
    ("files", "databases", "says"),
    [
        (("PG_VERSION",), 0, "its first start was killed"),
        (("PG_VERSION", "global/pg_control"), 3, "it has no database manual_app"),
        (("something",), 0, "there is something else in it"),
    ],
)
def test_a_half_made_database_is_recognised(
    first_start: Callable[[], subprocess.Popen[str]],
    tmp_path: Path,
    files: tuple[str, ...],
    databases: int,
    says: str,
) -> None:
    """A volume that was left half made, whoever did it, is told as such with what mends it, and nothing is removed."""
    data = tmp_path / "volume" / "pgdata"
    fill(data, files, databases)
    before = sorted(data.rglob("*"))
    ended = first_start()
    said, _ = ended.communicate(timeout=20)
    assert ended.returncode == 1
    assert (
        f"the database volume is half made: {says}\nhint: begin anew, WITHOUT its data: kubectl -n dev"
        in said
    )
    assert "pvc/data-postgresql-0 pod/postgresql-0" in said
    assert sorted(data.rglob("*")) == before


def fill(
    data: Path, files: tuple[str, ...] = ("PG_VERSION", "global/pg_control"), databases: int = 0
) -> None:
    """PostgreSQL's files, as far as it matters, with this many databases."""
    for name in files:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text("15")
    for number in range(databases):
        (data / "base" / str(number + 1)).mkdir(parents=True)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_images_are_pinned(helm: Helm, environment: str) -> None:
    """Every container, of the platform too, runs an image named by its digest."""
    images = [
        c["image"] for pod in pod_specs(helm.environment(environment)).values() for c in containers(pod)
    ]
    assert images
    for image in images:
        assert re.fullmatch(r"registry\.local:5000/[a-z0-9/-]+@sha256:[0-9a-f]{64}", image)


def test_a_private_registry(helm: Helm) -> None:
    """My registry lets nobody pull without a login: every pod, the database's and the stand-in's too, brings it."""
    assert not any("imagePullSecrets" in pod for pod in pod_specs(helm.environment("dev")).values())
    secrets = [{"name": "registry"}]
    values = helm.values("dev") | {"global": {"imagePullSecrets": secrets}}
    pods = pod_specs(helm.render("dev", values))
    assert len(pods) == 4
    assert all(pod["imagePullSecrets"] == secrets for pod in pods.values())


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_migration_is_the_same_image(helm: Helm, environment: str) -> None:
    """The migration runs the very image that is deployed, after its database is there, and is no replica of the app."""
    manifests = helm.environment(environment)
    app, job = find(manifests, "Deployment/manual-app"), find(manifests, f"Job/{MIGRATION}")
    images = [c["image"] for m in (app, job) for c in containers(m["spec"]["template"]["spec"])]
    assert images == [f"registry.local:5000/manual-app@{DIGEST}"] * 2
    database = find(manifests, "StatefulSet/postgresql")
    assert wave(database) < wave(job) <= wave(app)
    needed = [m for m in manifests if m["kind"] in ("NetworkPolicy", "ServiceAccount")]
    assert all(wave(m) < wave(job) for m in needed)
    selector = app["spec"]["selector"]["matchLabels"]
    assert not selector.items() <= job["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_nobody_asks_a_version_whose_database_is_not_ready(helm: Helm, environment: str) -> None:
    """stage and prod start a new version when its migration is done; in dev both start at once, and no request
    reaches the new pods before they call themselves ready.
    """
    manifests = helm.environment(environment)
    app, job = find(manifests, "Deployment/manual-app"), find(manifests, f"Job/{MIGRATION}")
    assert (wave(job) < wave(app)) == (environment != "dev")
    [container] = app["spec"]["template"]["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert app["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_another_digest_is_another_job(helm: Helm) -> None:
    """A finished migration of one version cannot be mistaken for that of the next."""
    values = helm.values("dev")
    values["image"]["digest"] = PLATFORM_DIGEST
    [job] = [name(m) for m in helm.render("dev", values) if m["kind"] == "Job"]
    assert job != f"Job/{MIGRATION}"


def test_a_new_build_touches_only_the_app(helm: Helm) -> None:
    """A deployment changes the Deployment and the migration; the database and all else stay as they are."""
    values = helm.values("stage")
    values["image"] = {"repository": REPOSITORY, "tag": "20", "digest": PLATFORM_DIGEST}
    before = {name(m): m for m in helm.environment("stage")}
    after = {name(m): m for m in helm.render("stage", values)}
    changed = {who for who in before | after if before.get(who) != after.get(who)}
    changed = {re.sub("-[0-9a-f]{12}$", "", who) for who in changed}
    assert changed == {"Deployment/manual-app", "Job/manual-app-migrate"}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_no_password_in_git(helm: Helm, environment: str) -> None:
    """No Secret and no password is rendered; pods read it from a Secret's file, which `delivery up` makes."""
    manifests = helm.environment(environment)
    assert not [m for m in manifests if m["kind"] == "Secret"]
    secrets = set()
    for pod in pod_specs(manifests).values():
        secrets |= {v["secret"]["secretName"] for v in pod.get("volumes", []) if "secret" in v}
        for entry in (e for c in containers(pod) for e in c.get("env", [])):
            assert set(entry.get("valueFrom", {})) <= {"fieldRef"}  # the pod's own facts
            if re.search("PASSWORD|SECRET|TOKEN|KEY", entry["name"]):
                assert entry["name"].endswith("_FILE")
                assert entry["value"].startswith("/run/secrets/")
    assert secrets == {"postgresql", "postgresql-owner", "postgresql-superuser", "orders-reader"}


def mounted(pod: Manifest) -> dict[str, set[str]]:
    """The files of Secrets that each container of a pod has, by container."""
    volumes = {v["name"]: v["secret"] for v in pod.get("volumes", []) if "secret" in v}
    return {
        c["name"]: {
            f"{volumes[m['name']]['secretName']}/{item['key']}"
            for m in c.get("volumeMounts", [])
            if m["name"] in volumes
            for item in volumes[m["name"]]["items"]
        }
        for c in containers(pod)
    }


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_each_has_the_passwords_that_it_needs(helm: Helm, environment: str) -> None:
    """The app never sees the owner's or the server's password, the migration not the app's, the server itself none."""
    seen = {who: mounted(pod) for who, pod in pod_specs(helm.environment(environment)).items()}
    passwords = {"postgresql/password", "postgresql-owner/password", "postgresql-superuser/password"}
    assert seen == {
        "Deployment/manual-app": {"manual-app": {"postgresql/password", "orders-reader/token"}},
        f"Job/{MIGRATION}": {"migrate": {"postgresql-owner/password"}},
        "StatefulSet/postgresql": {"prepare": passwords, "postgresql": set()},
        "Deployment/rates": {"rates": set()},
    }
    made = pipelines.load(ROOT).app.secrets
    assert {f"{name}/{key}" for name, keys in made.items() for key in keys} == passwords | {
        "orders-reader/token"
    }


@pytest.mark.parametrize(("environment", "replicas"), [("dev", 1), ("stage", 2), ("prod", 2)])
def test_availability(helm: Helm, environment: str, replicas: int) -> None:
    """Stage and prod have two replicas and keep one in maintenance; no rollout has fewer than asked for."""
    manifests = helm.environment(environment)
    app = find(manifests, "Deployment/manual-app")["spec"]
    assert app["replicas"] == replicas
    assert app["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    budgets = [m["spec"] for m in manifests if m["kind"] == "PodDisruptionBudget"]
    assert [b["selector"] for b in budgets] == ([app["selector"]] if replicas > 1 else [])
    [container] = app["template"]["spec"]["containers"]
    assert container["readinessProbe"]["periodSeconds"] == 1
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert 0 < pause < app["template"]["spec"]["terminationGracePeriodSeconds"]


def test_selectors_meet_their_pods(helm: Helm) -> None:
    """Each Service reaches the pods it is named for and no others."""
    manifests = helm.environment("prod")
    pods = {who: pod_labels(m) for m in manifests if (who := name(m)) in pod_specs(manifests)}
    reached = {
        m["metadata"]["name"]: [
            who for who, has in pods.items() if m["spec"]["selector"].items() <= has.items()
        ]
        for m in manifests
        if m["kind"] == "Service"
    }
    assert reached == {
        "manual-app": ["Deployment/manual-app"],
        "postgresql": ["StatefulSet/postgresql"],
        "rates": ["Deployment/rates"],
    }


def test_network_policies(helm: Helm) -> None:
    """By default nothing talks to anything; each policy that opens a way is for pods that exist."""
    manifests = helm.environment("prod")
    pods = {who: pod_labels(m) for m in manifests if (who := name(m)) in pod_specs(manifests)}
    policies = {m["metadata"]["name"]: m["spec"] for m in manifests if m["kind"] == "NetworkPolicy"}
    assert policies.pop("default-deny") == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    def selected(selector: dict[str, Any]) -> set[str]:
        wanted = {key: [value] for key, value in selector["matchLabels"].items()}
        wanted |= {e["key"]: e["values"] for e in selector.get("matchExpressions", [])}
        return {who for who, has in pods.items() if all(has[key] in values for key, values in wanted.items())}

    app, migration = "Deployment/manual-app", f"Job/{MIGRATION}"
    assert {policy: selected(spec["podSelector"]) for policy, spec in policies.items()} == {
        "manual-app": {app},
        "manual-app-egress": {app, migration},
        "postgresql": {"StatefulSet/postgresql"},
        "rates": {"Deployment/rates"},
    }
    users, operators = policies["manual-app"]["ingress"]
    assert ("from" in users, [one["port"] for one in users["ports"]]) == (False, [8080])
    [monitoring] = operators["from"]
    assert monitoring == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    assert [one["port"] for one in operators["ports"]] == [9090]
    [to_database] = policies["postgresql"]["ingress"]
    assert selected(to_database["from"][0]["podSelector"]) == {app, migration}
    [to_rates] = policies["rates"]["ingress"]
    assert selected(to_rates["from"][0]["podSelector"]) == {app}
    _, database, rates = policies["manual-app-egress"]["egress"]
    assert selected(database["to"][0]["podSelector"]) == {"StatefulSet/postgresql"}
    assert selected(rates["to"][0]["podSelector"]) == {"Deployment/rates"}


def test_metrics_are_for_operators(helm: Helm) -> None:
    """No Service leads to the port of /metrics; who may ask there is a value, and nobody may where it is empty."""
    manifests = helm.environment("prod")
    [container] = pod_specs(manifests)["Deployment/manual-app"]["containers"]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert ports == {"http": 8080, "ops": 9090}
    targets = {port["targetPort"] for m in manifests if m["kind"] == "Service" for port in m["spec"]["ports"]}
    assert not targets & {"ops", 9090}
    closed = helm.render("prod", helm.values("prod") | {"metrics": {"namespace": ""}})
    [only] = find(closed, "NetworkPolicy/manual-app")["spec"]["ingress"]
    assert [one["port"] for one in only["ports"]] == [8080]


def test_app_and_database_agree(helm: Helm) -> None:
    """App and migration ask for the database, the roles and the Secrets that the database was made with; so does CI."""
    values = load(CHART / "values.yaml")
    made = load(CHART / "charts/postgresql/values.yaml")["auth"] | values["postgresql"].get("auth", {})
    asked = values["database"]
    assert asked["name"] == made["database"]
    for ours, theirs in ((asked, made["app"]), (asked["owner"], made["owner"])):
        assert (ours["user"], ours["existingSecret"]) == (theirs["username"], theirs["existingSecret"])
    [prepare] = pod_specs(helm.environment("dev"))["StatefulSet/postgresql"]["initContainers"]
    chart = {one["name"]: one["value"] for one in prepare["env"] if "value" in one}
    assert pipelines.load(ROOT).ci.services["postgresql"].environment == chart
    assert asked["host"] == "postgresql"


def test_managed_database(helm: Helm) -> None:
    """A fork with a managed database and the real rates API turns the subcharts off, the app reaches out."""
    values = helm.values("prod") | {"postgresql": {"enabled": False}, "rates": {"enabled": False}}
    values |= {
        "database": {"host": "db.example.test"},
        "exchangeRates": {"url": "https://rates.example.test"},
    }
    manifests = helm.render("prod", values)
    assert pod_specs(manifests).keys() == {"Deployment/manual-app", f"Job/{MIGRATION}"}
    egress = find(manifests, "NetworkPolicy/manual-app-egress")["spec"]["egress"]
    open_ports = [rule["ports"][0]["port"] for rule in egress if "to" not in rule]
    assert open_ports == [5432, 443]


# The stand-in for the rates API


@contextmanager
def stand_in(*options: str) -> Iterator[httpx.Client]:
    script = CHART / "charts/rates/files/rates.py"
    command = [sys.executable, "-I", "-B", "-W", "error", str(script), "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        port = json.loads(process.stdout.readline())["port"]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5, trust_env=False) as client:
            yield client
        process.send_signal(signal.SIGTERM)
        events = [json.loads(line)["event"] for line in process.stdout]
        assert process.wait(5) == 0
        assert events[-1] == "stopped"


@pytest.fixture
def rates() -> Iterator[httpx.Client]:
    with stand_in("--faults") as client:
        yield client


def fault(rates: httpx.Client, mode: str, **facts: float) -> None:
    rates.put("/_fault", json={"mode": mode} | facts).raise_for_status()


def test_rates_answer(rates: httpx.Client) -> None:
    """The stand-in speaks as the real API does: base, date, the symbols asked for, 404 for an unknown one."""
    assert rates.get("/healthz").status_code == 200
    answer = rates.get("/v1/latest", params={"base": "EUR", "symbols": "USD,JPY"}).json()
    assert answer == {
        "amount": 1.0,
        "base": "EUR",
        "date": "2026-11-20",
        "rates": {"JPY": 163.42, "USD": 1.0823},
    }
    assert len(rates.get("/v1/latest").json()["rates"]) >= 10
    assert rates.get("/v1/latest", params={"base": "USD", "symbols": "EUR"}).json()["rates"] == {
        "EUR": 0.92396
    }
    for query in ({"symbols": "XXX"}, {"base": "XXX"}, {"symbols": "USD,XXX"}):
        unknown = rates.get("/v1/latest", params=query)
        assert (unknown.status_code, unknown.json()) == (404, {"message": "not found"})
    assert rates.get("/elsewhere").status_code == 404
    assert "Python" not in rates.get("/healthz").headers["server"]


def test_no_fault_can_be_asked_of_prod(helm: Helm) -> None:
    """The switch is there where suites ask for it, in stage; elsewhere the stand-in knows no such path."""
    for environment in ("dev", "stage", "prod"):
        [container] = pod_specs(helm.render(environment))["Deployment/rates"]["containers"]
        assert ("--faults" in container["command"]) is (environment == "stage")
    with stand_in() as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/_fault").status_code == 404
        assert client.put("/_fault", json={"mode": "error"}).status_code == 404
        assert client.get("/v1/latest").status_code == 200


def test_rates_faults(rates: httpx.Client) -> None:
    """Slow, failing and talking nonsense on demand, while it stays healthy; `ok` ends it."""
    ask = {"symbols": "USD"}
    good = rates.get("/v1/latest", params=ask).json()

    fault(rates, "slow", seconds=0.3)
    started = time.monotonic()
    assert rates.get("/v1/latest", params=ask).json() == good
    assert time.monotonic() - started >= 0.3

    fault(rates, "error")
    assert rates.get("/v1/latest", params=ask).status_code == 500
    assert rates.get("/healthz").status_code == 200
    assert rates.get("/_fault").json() == {"mode": "error", "seconds": 0}

    fault(rates, "nonsense")
    bodies = [rates.get("/v1/latest", params=ask) for _ in range(8)]
    assert {body.status_code for body in bodies} == {200}
    assert len({body.text for body in bodies}) == 8
    assert not [body.text for body in bodies if re.search(r'"USD": *[1-9]', body.text)]

    fault(rates, "ok")
    assert rates.get("/v1/latest", params=ask).json() == good


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"slow",
        b"[]",
        b'{"mode":"gone"}',
        b'{"mode":"slow","seconds":-1}',
        b'{"mode":"slow","seconds":1e9}',
        b'{"mode":"slow","seconds":"5"}',
        b'{"mode":"slow","seconds":NaN}',
        b'{"mode":"ok","for":5}',
    ],
)
def test_rates_bad_fault(rates: httpx.Client, body: bytes) -> None:
    """A fault that cannot be is refused with the reason, and changes nothing."""
    refused = rates.put("/_fault", content=body)
    assert refused.status_code == 422
    assert refused.json()["message"]
    assert rates.get("/_fault").json()["mode"] == "ok"


def test_rates_stop_while_slow(rates: httpx.Client) -> None:
    """A stand-in told to be slow for a minute still stops at once when it is told to."""
    fault(rates, "slow", seconds=60)
    with pytest.raises(httpx.ReadTimeout):
        rates.get("/v1/latest", timeout=0.1)


# Argo CD


def test_project(helm: Helm) -> None:
    """A project allows exactly the kinds that the chart has in one environment or another."""
    [allowed] = load(ARGOCD / "projects" / "kinds.yaml")
    rendered = {
        (m["apiVersion"].rpartition("/")[0], m["kind"]) for e in ENVIRONMENTS for m in helm.environment(e)
    }
    assert {(kind["group"], kind["kind"]) for kind in allowed["value"]} == rendered

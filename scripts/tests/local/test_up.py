"""What `up` makes of the repository, and of which sites."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from delivery import cli
from delivery import pipeline as pipelines
from delivery.desired import derived
from delivery.errors import BadInput
from delivery.parts import openpgp
from local import cluster as clusters
from local import install, keys, seed
from scripts.tests.world import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from scripts.tests.world import World


def test_a_chart_that_uses_nothing_of_the_platform(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app without the platform's images gets no commit at `up`; one that names an unknown image is told."""
    monkeypatch.setattr(clusters.Cluster, "git_url", world.context.site.git.url)
    app = world.context.pipeline.app
    none = world.ruled(app=app.model_copy(update={"platform_images": {}}))
    before = world.head()
    seed.record_platform(none.local, {"python": f"sha256:{'a' * 64}"})
    assert world.head() == before
    with pytest.raises(BadInput, match="a local site has no image postgresql") as refused:
        seed.record_platform(world.local, {"python": f"sha256:{'a' * 64}"})
    assert "python" in refused.value.hint


@pytest.mark.parametrize("verb", ["up", "down --force", "doctor"])
def test_a_site_of_a_team_is_left_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    """What makes and removes local sites does not touch another one."""
    monkeypatch.setattr(sys, "argv", ["delivery", "--site", "team", *verb.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    error, hint = capsys.readouterr().err.splitlines()[-2:]
    assert "site team is not made here" in error
    assert "local sites of pipeline.yaml: local, e2e" in hint


def test_a_local_platform_reads_its_own_git_server(
    kustomize: Callable[[Path], dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """My files name GitHub, and `up` applies the same with the address of its own server and the keys of its gates."""
    url = "http://elsewhere/a b.git"
    monkeypatch.setattr(clusters.Cluster, "git_seen_as", url)
    monkeypatch.setenv("DELIVERY_STATE", str(tmp_path))
    folders = ("manual-promotion", "release-branch", "projects")
    cluster = clusters.chosen("local", ROOT)
    for name in ("gate-stage", "gate-prod"):
        _, certificate = openpgp.generate(f"{name} <{name}@example.test>")
        file = keys.commit_key(cluster, name)[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(certificate)
    known = {
        one: openpgp.signing_key_id(keys.commit_key(cluster, f"gate-{one}")[1].read_text())
        for one in ("stage", "prod")
    }
    with install.as_seen_here(cluster) as work:
        applied = {folder: kustomize(Path(work, folder)) for folder in folders}
    for folder, found in applied.items():
        text = json.dumps(kustomize(ROOT / "argocd" / folder))
        wanted = json.loads(text.replace(derived.seen(pipelines.load(ROOT)).git_url, url))
        if folder == "projects":
            for name, key in known.items():
                [rule] = wanted[name]["spec"]["sourceIntegrity"]["git"]["policies"]
                assert rule["gpg"]["keys"] == [derived.UNSET]
                rule["gpg"]["keys"] = [key]
        assert found == wanted

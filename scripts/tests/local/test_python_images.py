"""The images that the app is built on: updated each week, and reaching what this host reaches."""

import os
import re
import subprocess
import sys
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import certifi
import pytest

from delivery.parts import certificates
from local import catalog as catalogs
from local import recipes, trust
from local.catalog import Catalog
from local.closed.images import Closed
from local.online import Online
from scripts.tests.world import ROOT


class NextWeek(datetime):
    """The clock, seven days later."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        """Next week."""
        return super().now(tz) + timedelta(days=7)


@pytest.fixture(params=[Online, Closed])
def source(request: pytest.FixtureRequest) -> Online | Closed:
    """Where images come from, on either kind of machine."""
    return request.param(Catalog(ROOT))  # type: ignore[no-any-return]


def test_python_is_updated_each_week(source: Online | Closed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The security suite fails for a package with a pending update, so what the app runs on has this week's.

    The public Python is as old as its pin: it is the base of ours, and not what the app runs on.
    """
    build, runtime = source.python_images
    assert {recipes.PREFIX} == {name.partition("/")[0] for name in (build, runtime)}
    monkeypatch.setattr(catalogs, "datetime", NextWeek)
    later = type(source)(Catalog(ROOT))
    assert not {build, runtime} & set(later.python_images)
    assert source.python_images == (build, runtime)  # a run that crosses midnight keeps its names


def test_a_build_stage_trusts_what_the_host_trusts(
    source: Online | Closed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a proxy that re-signs TLS, or with a package index of its own, the app builds on either path."""
    bundle = tmp_path / "our proxy.pem"
    bundle.write_text("a certificate")
    monkeypatch.setattr(
        trust, "_pip", lambda: {"cert": str(bundle), "index-url": "https://index.test/simple"}
    )
    before = source.python_images
    made = Catalog(ROOT).python_build(recipes.Recipe("python", "FROM a"))
    files = made.files()
    assert (files["ca-certificates.crt"], files["pip.conf"]) == (
        bundle,
        b"[global]\nindex-url = https://index.test/simple\n",
    )
    bundle.write_text("another certificate")
    after = source.python_images
    # Made anew for another certificate; the runtime has neither, so its name is the same.
    assert (before[0] != after[0], before[1] == after[1]) == (True, True)


def test_pip_is_asked_and_not_guessed() -> None:
    """The environment wins over the files, as in pip; settings for other commands and local folders stay out."""
    settings = trust.pip_settings(
        ":env:.index-url='https://one.test/simple'\n"
        ":env:.find-links='/wheels'\n"
        "download.trusted-host='no.test'\n"
        "global.cert='/a folder/ca.pem'\n"
        "global.extra-index-url='https://two.test/simple\\nhttps://three.test/100%'\n"
        "global.index-url='https://user:pass%40word@four.test/simple'\n"
        "install.trusted-host='three.test'\n"
    )
    assert settings["cert"] == "/a folder/ca.pem"
    assert trust.pip_conf(settings) == (
        "[global]\n"
        "extra-index-url = https://two.test/simple\n    https://three.test/100%\n"
        "index-url = https://one.test/simple\n"
        "trusted-host = three.test\n"
    )


def test_pip_reads_what_was_written_for_it(tmp_path: Path) -> None:
    """What stands in the build stage's pip.conf means there what it means on the host."""
    wanted = {
        "extra-index-url": "https://two.test/simple https://three.test/simple",
        "index-url": "https://user:pass%40word@one.test/simple",
        "trusted-host": "three.test",
    }
    file = tmp_path / "pip.conf"
    file.write_text(trust.pip_conf(wanted))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        env=clean | {"PIP_CONFIG_FILE": str(file)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = trust.pip_settings(listed)
    assert {name: " ".join(found[name].split()) for name in wanted} == wanted


def test_certificates_are_found_on_any_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without a bundle of its own, or that names one that is gone, still builds: with the public one."""
    monkeypatch.setattr(trust, "_pip", dict)
    monkeypatch.setattr(certificates, "_FILES", ("/nowhere/ca.pem",))
    monkeypatch.setattr(certificates.ssl, "get_default_verify_paths", lambda: SimpleNamespace(cafile=None))
    for name in certificates.VARIABLES:
        monkeypatch.setenv(name, "/gone/ca.pem")
    assert trust.ca_bundle() == Path(certifi.where())


def test_the_app_is_built_by_hand_on_the_same_python() -> None:
    """`docker build manual-app` starts from the Python that versions.yaml names, Debian's release included."""
    text = (ROOT / "manual-app" / "Dockerfile").read_text(encoding="utf-8")
    defaults = re.findall(r"^ARG (?:BUILD|RUNTIME)_IMAGE=(\S+)$", text, re.M)
    public = Catalog(ROOT).versions["online"]["python"].partition("@")[0]
    assert defaults == [public, public]

"""Clones of this very repository, whatever it is called by now, that a test may change."""

import shutil
from pathlib import Path

import pytest

from scripts.tests.world import ROOT, git


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Git has of this repository, as a repository of its own."""
    folder = tmp_path_factory.mktemp("original") / "fork"
    for name in git(ROOT, "ls-files").splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    git(folder, "init", "--quiet", "--template=", "--initial-branch=main")
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--message", "the beginning")
    return folder


@pytest.fixture
def fork(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone that a test may change."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("DELIVERY_STATE", "DELIVERY_SITE", "GIT_DIR", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "fork"
    git(tmp_path, "clone", "--quiet", str(original), str(folder))
    monkeypatch.chdir(folder)
    return folder


def forget_local(folder: Path) -> None:
    """Whoever has this folder in PYTHONPATH cannot import `local`."""
    # The installed package leads to scripts/ by a finder of its own: what it would find is gone.
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class Gone:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'local':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Gone())\n"
    )

"""pipeline.yaml: one place for environments and their order, and errors that name the line."""

from pathlib import Path

import pytest

from delivery import pipeline
from delivery.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]
WEEKEND = "{ from: '0 16 * * FRI', zone: UTC, hours: 64, reason: the weekend }"
TEXT = (ROOT / "pipeline.yaml").read_text()


def written(folder: Path, text: str) -> Path:
    (folder / "pipeline.yaml").write_text(text)
    return folder


def test_order_and_sources() -> None:
    """A digest goes dev, stage, prod: each environment takes it from the one before, dev from the build."""
    loaded = pipeline.load(ROOT)
    assert [(e.name, e.source) for e in loaded.environments] == [
        ("dev", None),
        ("stage", "dev"),
        ("prod", "stage"),
    ]


def test_all_but_the_first_have_a_gate() -> None:
    """dev follows the branch; stage and prod take what their own gate signed."""
    found = pipeline.load(ROOT)
    assert [(one.name, one.guarded) for one in found.environments] == [
        ("dev", False),
        ("stage", True),
        ("prod", True),
    ]
    assert found.signed_by == ("build", "dev", "stage", "prod", "gate-stage", "gate-prod", "approver")


def test_unknown_environment() -> None:
    """An unknown environment is bad input, and the error lists those there are."""
    with pytest.raises(BadInput, match="no environment 'qa'") as refused:
        pipeline.load(ROOT).environment("qa")
    assert "dev, stage, prod" in refused.value.hint


@pytest.mark.parametrize(
    ("before", "after", "line", "says"),
    [
        ("    namespace: stage\n", "    namespace: stage\n    gate: none\n", "gate: none", "Extra inputs"),
        ("    namespace: stage\n", "    namespace: stage\n    source: dev\n", "source: dev", "Extra inputs"),
        ("admits: anything", "admits: most", "admits: most", "'anything', 'pinned' or 'tested'"),
        ("admits: anything", "admits: tested", 1, "dev comes first"),
        ("admits: anything", "admits: pinned\n    sync: automatic", "sync: automatic", "Extra inputs"),
        ("    namespace: prod\n", "    namespace: stage\n", 1, "share one namespace"),
        ("registry: 15001", "registry: 5001", 1, "a port is used twice"),
        ("registry: 15001", "registry: none", "registry: none", "valid integer"),
        ("cluster: manual-app-e2e", "cluster: Not_A_Name", "cluster: Not_A_Name", "pattern"),
        ("  - name: e2e", "  - name: team\n  - name: e2e", "name: team", r"sites\.1\.git: Field required"),
        (
            "  - name: e2e",
            "  - { name: team, git: { url: nowhere }, image: { name: ghcr.io/team/app } }\n  - name: e2e",
            "nowhere",
            r"sites\.1\.git\.url: .*pattern",
        ),
        ("dev: 18081, ", "", 1, "one port for each of dev, stage, prod"),
        ("rollout: 180", "rollout: 0", "rollout: 0", "greater than 0"),
        (
            "freeze: []",
            f"freeze: [{WEEKEND}, {WEEKEND.replace('weekend', 'same')}]",
            "freeze",
            "the freeze from '0 16 . . FRI' is there twice",
        ),
        ("path: manual-app-helm", "path: ../elsewhere", "path: ../elsewhere", "pattern"),
        ("first_build_number: 15", "first_build_number: '15'", "first_build_number", "integer"),
        ("image:\n", "image: [\n", "first_build_number", "not YAML"),
        ("git:\n", "image:\n", "image:", "not YAML"),
        ("strategy: manual-promotion", "strategy: by-hand", "strategy: by-hand", "'release-branch'"),
        ("branch: main", "branch: release", 1, "the branch of the strategy release-branch"),
    ],
)
def test_wrong_pipeline(tmp_path: Path, before: str, after: str, line: int | str, says: str) -> None:
    """A wrong pipeline.yaml is refused with file, line and what is wrong with it."""
    assert before in TEXT
    text = TEXT.replace(before, after)
    with pytest.raises(BadInput, match=says) as refused:
        pipeline.load(written(tmp_path, text))
    said = refused.value.message
    assert said.startswith(f"{tmp_path / 'pipeline.yaml'}:")
    number = int(said.removeprefix(f"{tmp_path / 'pipeline.yaml'}:").partition(":")[0])
    if isinstance(line, int):
        assert number == line
    else:
        assert line in "\n".join(text.splitlines()[number - 1 : number + 1])
    assert refused.value.hint


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text"])
def test_no_pipeline_in_it(tmp_path: Path, text: str) -> None:
    """A file without a pipeline in it is refused, not taken as an empty one."""
    with pytest.raises(BadInput):
        pipeline.load(written(tmp_path, text))


def test_outside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a checkout the error says where to run it."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"no pipeline\.yaml"):
        pipeline.load()


def test_below_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From any folder inside the checkout the same pipeline is found."""
    inside = written(tmp_path, TEXT) / "a" / "b"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert pipeline.load().root == tmp_path


def test_sites(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The site is what is asked for, else DELIVERY_SITE, else the first; its state is its own folder."""
    loaded = pipeline.load(ROOT)
    monkeypatch.delenv("DELIVERY_SITE", raising=False)
    monkeypatch.delenv("DELIVERY_STATE", raising=False)
    assert loaded.site().state == ROOT / ".delivery" / "local"
    monkeypatch.setenv("DELIVERY_SITE", "e2e")
    monkeypatch.setenv("DELIVERY_STATE", str(tmp_path))
    assert loaded.site().state == tmp_path / "e2e"
    assert loaded.site("local").state == tmp_path / "local"
    monkeypatch.setenv("DELIVERY_SITE", "production")
    with pytest.raises(BadInput, match="no site 'production'") as refused:
        loaded.site()
    assert "local, e2e" in refused.value.hint

"""An environment more or less: one command, a diff to read, and no lock that opens by it."""

import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from delivery import cli, pipeline
from delivery.desired import amend, derived
from delivery.errors import BadInput, DeliveryError, Refused
from delivery.gate.weaker import weaker
from delivery.parts import values
from delivery.pipeline import Pipeline
from delivery.site import LocalSite
from delivery.verbs import environment, generate
from scripts.tests.world import git

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "pipeline.yaml").read_text()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with everything that an environment touches, committed."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    folder = tmp_path / "checkout"
    for path in ("argocd", "policy", "manual-app-helm"):
        shutil.copytree(ROOT / path, folder / path)
    for suite in ("smoke", "integration", "performance", "security"):
        (folder / "e2e/suites" / suite).mkdir(parents=True)
        (folder / "e2e/suites" / suite / "__init__.py").touch()
    (folder / "pipeline.yaml").write_text(TEXT)
    git(tmp_path, "init", "--quiet", str(folder))
    commit(folder)
    monkeypatch.chdir(folder)
    return folder


def commit(folder: Path) -> None:
    """What a person does after having read the diff."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "a step")


def changed(folder: Path) -> set[str]:
    """The files that are not as they were committed."""
    lines = git(folder, "status", "--porcelain", "-uall").splitlines()
    return {line.split(maxsplit=1)[1].strip('"') for line in lines}


def names(folder: Path) -> list[str]:
    """The environments, in order."""
    return [one.name for one in pipeline.load(folder).environments]


def test_a_new_environment(checkout: Path) -> None:
    """`delivery environment add qa --after dev`: everything is there, stage takes from qa, and I saw the diff."""
    said = environment.add(pipeline.load(), "qa", "dev")
    after = pipeline.load()
    assert [(one.name, one.source) for one in after.environments] == [
        ("dev", None),
        ("qa", "dev"),
        ("stage", "qa"),
        ("prod", "stage"),
    ]
    qa = after.environment("qa")
    assert (qa.namespace, qa.application, qa.values) == (
        "qa",
        "manual-app-qa",
        "manual-app-helm/values-qa.yaml",
    )
    assert (qa.guarded, qa.admits, qa.tests) == (True, "tested", after.environment("dev").tests)
    assert [list(s.local.environments.values()) for s in after.sites if isinstance(s, LocalSite)] == [
        [8081, 8084, 8082, 8083],
        [18081, 18084, 18082, 18083],
    ]
    derived.check(checkout, derived.files(after))
    written = {
        *("pipeline.yaml", "manual-app-helm/values-qa.yaml", "policy/namespaces.yaml"),
        *("policy/roles.yaml", "policy/writers.yaml", "policy/evidence.yaml"),
        *(
            "argocd/base/kustomization.yaml",
            "argocd/base/manual-app-qa.yaml",
            "argocd/projects/kustomization.yaml",
        ),
        "argocd/projects/qa.yaml",
    }
    assert changed(checkout) == written
    assert {line[6:] for line in said.splitlines() if line.startswith("+++ b/")} == written
    assert "+      environments: { dev: 8081, qa: 8084, stage: 8082, prod: 8083 }" in said
    assert generate.run(after) == "", "there is nothing left to generate"


def test_its_values_are_its_own(checkout: Path) -> None:
    """The values file has the differences of the one before, a node port of its own, and no digest yet."""
    dev = checkout / "manual-app-helm/values-dev.yaml"
    dev.write_text(values.replace(dev.read_text(), {("image", "tag"): "17"}, dev.name))
    commit(checkout)
    environment.add(pipeline.load(), "qa", "dev")
    text = (checkout / "manual-app-helm/values-qa.yaml").read_text()
    assert text.startswith("# qa: differences from values.yaml only.\nenvironment: qa\n")
    assert "`delivery promote qa`, never by hand" in text
    assert YAML(typ="safe").load(text) == {
        "environment": "qa",
        "image": dict.fromkeys(("repository", "tag", "digest"), "set-by-promotion"),
        "replicas": 1,
        "service": {"nodePort": 30084},
        "migration": {"rollout": "during"},
    }


def test_every_comment_survives(checkout: Path) -> None:
    """pipeline.yaml is mine: the verb adds its lines, and every line of before is still there, byte for byte."""
    environment.add(pipeline.load(), "qa", "stage")
    lines = (checkout / "pipeline.yaml").read_text().splitlines()
    before = [line for line in TEXT.splitlines() if "environments: {" not in line]
    rest = iter(lines)
    assert all(line in rest for line in before)
    at = lines.index("  - name: qa")
    assert lines[at - 1] == ""
    assert lines[at - 2].strip().startswith("soak: 0"), "after the last line of stage"
    assert (
        "    tests:\n      requires: [smoke, integration, performance, security]\n      without:\n"
        in "\n".join(lines)
    )


def test_there_and_back(checkout: Path) -> None:
    """An environment that is added and removed leaves nothing, wherever it was."""
    for after in ("dev", "stage", "prod"):
        environment.add(pipeline.load(), "qa", after)
        commit(checkout)
        said = environment.remove(pipeline.load(), "qa")
        assert "+++ /dev/null" in said
        commit(checkout)
        assert git(checkout, "diff", "--stat", "HEAD~2") == ""
        assert (checkout / "pipeline.yaml").read_text() == TEXT


def test_after_the_last_one(checkout: Path) -> None:
    """What comes after prod is entered as prod is: by an approval, with prod's evidence and an entry of its own."""
    environment.add(pipeline.load(), "live", "prod")
    after = pipeline.load()
    live, prod = after.environment("live"), after.environment("prod")
    assert (live.guarded, live.admits, live.approval) == (True, "tested", prod.approval)
    evidence = (checkout / "policy/evidence.yaml").read_text()
    assert '"stage": "dev",\n          "prod": "stage",\n          "live": "prod",' in evidence
    assert '"prod": "entry.prod",\n          "live": "entry.live",' in evidence
    assert '"live": ["approval.live.approver"],' in evidence


def test_the_lock_follows(checkout: Path) -> None:
    """An environment between stage and prod: the cluster asks for its evidence in prod from now on, not for stage's."""
    environment.add(pipeline.load(), "preprod", "stage")
    evidence = (checkout / "policy/evidence.yaml").read_text()
    assert '"stage": "dev",\n          "preprod": "stage",\n          "prod": "preprod",' in evidence
    assert '["PASSED", "preprod"]' in evidence


def test_a_dry_run_writes_nothing(checkout: Path) -> None:
    """--dry-run shows the same difference, and every file is as it was."""
    shown = environment.add(pipeline.load(), "qa", "dev", dry_run=True)
    assert changed(checkout) == set()
    assert environment.add(pipeline.load(), "qa", "dev") == shown
    commit(checkout)
    shown = environment.remove(pipeline.load(), "qa", dry_run=True)
    assert changed(checkout) == set()
    assert environment.remove(pipeline.load(), "qa") == shown


@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        ("add stage --after dev", BadInput, "there is an environment stage already"),
        ("add qa --after test", BadInput, "there is no environment 'test'"),
        ("add Q_A --after dev", BadInput, "'Q_A' cannot be an environment's name here"),
        ("add -x --after dev", BadInput, "No such option"),
        (f"add {'q' * 64} --after dev", BadInput, "cannot be an environment's name"),
        ("add no --after dev", BadInput, "'no' is no name"),
        ("add kube-qa --after dev", BadInput, "belongs to Kubernetes"),
        ("add argocd --after dev", BadInput, "belongs to Kubernetes or to the platform"),
        ("add build --after dev", BadInput, "cannot be called build"),
        ("add approver --after dev", BadInput, "must differ by name"),
        ("add qa --after dev --requires load", BadInput, "there is no suite 'load'"),
        ("add qa", BadInput, "Missing option '--after'"),
        (
            "add qa --after stage --requires smoke",
            Refused,
            "qa does not require integration, performance, security",
        ),
        ("remove stage", Refused, "prod would take the evidence of dev: dev does not require integration"),
        ("remove dev", BadInput, "dev is the first environment"),
        ("remove qa", BadInput, "there is no environment 'qa'"),
    ],
)
def test_what_is_refused(
    checkout: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    kind: type[DeliveryError],
    says: str,
) -> None:
    """Bad input and whatever would open a lock: one line, a hint, its exit code, and nothing is written."""
    monkeypatch.setattr("sys.argv", ["delivery", "environment", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    error, hint = capsys.readouterr().err.splitlines()[-2:]
    assert ended.value.code == kind.exit_code
    assert says in error
    assert hint.startswith("hint: ")
    assert changed(checkout) == set()


def test_the_only_one_stays(checkout: Path) -> None:
    """The last environment that is left cannot be removed."""
    for name in ("prod", "stage"):
        environment.remove(pipeline.load(), name)
        commit(checkout)
    assert names(checkout) == ["dev"]
    assert not (checkout / "policy/evidence.yaml").exists(), "nobody asks for evidence any more"
    with pytest.raises(BadInput, match="the only environment"):
        environment.remove(pipeline.load(), "dev")


@pytest.mark.parametrize("path", ["pipeline.yaml", "a new file"])
def test_a_dirty_tree(checkout: Path, path: str) -> None:
    """What I have not committed could not be told from what the verb writes: it refuses."""
    with (checkout / path).open("a") as file:
        file.write("# mine\n")
    for ask in (
        lambda: environment.add(pipeline.load(), "qa", "dev"),
        lambda: environment.remove(pipeline.load(), "prod"),
    ):
        with pytest.raises(BadInput, match="the tree is dirty"):
            ask()
    assert changed(checkout) == {path}


def test_a_values_file_that_is_there(checkout: Path) -> None:
    """A values file of that name is somebody's: it is not written over."""
    (checkout / "manual-app-helm/values-qa.yaml").write_text("environment: qa\n")
    commit(checkout)
    with pytest.raises(BadInput, match=r"values-qa\.yaml is there already"):
        environment.add(pipeline.load(), "qa", "dev")
    assert changed(checkout) == set()


def test_a_file_that_cannot_be_written(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full in the middle, everything is as it was."""
    written = Path.write_bytes

    def fails(self: Path, data: bytes) -> int:
        if self.name == "namespaces.yaml" and b"name: qa" in data:
            raise OSError(28, "No space left on device")
        return written(self, data)

    monkeypatch.setattr(Path, "write_bytes", fails)
    with pytest.raises(OSError, match="No space left"):
        environment.add(pipeline.load(), "qa", "dev")
    assert changed(checkout) == set()


SITES = """\
environments:
  - name: dev
  # the second one
  - name: stage # as it is
    tests: { requires: [smoke] }

    # what follows stays with stage
    soak: 1

# after all of them
sites:
  - name: local
    local: { git: 3000, environments: { dev: 8081, stage: 8082 } }
  - name: ours
    local:
      git: 3001
      environments:
        dev: 8083 # the first
        stage: 8090
      registry: 5001
  - name: acme
    environments:
      dev: { context: acme-test }
      stage:
        context: acme-stage
        url: https://stage.example
    signers:
      stage: { key: "awskms:///alias/stage" }
"""


def test_sites_of_every_kind() -> None:
    """A local site gets a free port for it, flow or block; of a remote one nothing is invented, and all of it goes."""
    more = amend.added(SITES, "qa", "dev", "  - name: qa\n")
    assert "  - name: dev\n\n  - name: qa\n  # the second one\n" in more
    assert "environments: { dev: 8081, qa: 8084, stage: 8082 }" in more
    assert "        dev: 8083 # the first\n        qa: 8091\n        stage: 8090\n" in more
    assert more.count("qa") == 3
    assert amend.removed(more, "qa").replace("  - name: dev\n\n", "  - name: dev\n") == SITES
    less = amend.removed(SITES, "stage")
    assert YAML(typ="safe").load(less)["sites"] == [
        {"name": "local", "local": {"git": 3000, "environments": {"dev": 8081}}},
        {"name": "ours", "local": {"git": 3001, "environments": {"dev": 8083}, "registry": 5001}},
        {"name": "acme", "environments": {"dev": {"context": "acme-test"}}, "signers": {}},
    ]
    assert "# after all of them" in less
    assert "what follows stays" not in less


def test_what_cannot_be_changed_alone() -> None:
    """Anchors and flow lists are not guessed at: I am told to change them by hand."""
    with pytest.raises(BadInput, match="must be a list"):
        amend.added("environments: [{ name: dev }]\n", "qa", "dev", "  - name: qa\n")
    with pytest.raises(BadInput, match="written out plainly"):
        amend.removed("environments:\n  - &one\n    name: *one\n".replace("*one", "dev"), "qa")


def edited(*changes: tuple[str, str]) -> str:
    """pipeline.yaml with some lines changed."""
    text = TEXT
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    return text


def rules(*changes: tuple[str, str]) -> Pipeline:
    """The same, read."""
    return pipeline.parse(edited(*changes), ROOT)


STAGE = "requires: [smoke, integration, performance, security]"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ((STAGE, "requires: [smoke]"), "stage does not require integration, performance, security"),
        (("admits: tested\n", "admits: pinned\n"), "prod would admit pinned, not only what is tested"),
        (("admits: tested #", "admits: anything #"), "stage would admit anything, not only what is tested"),
        (("    approval: #", "    # approval:"), "prod would be entered with fewer approvals"),
        (("soak: 0", "soak: 0\n    approval: { required: 1, maximum_age: 1 }"), ""),
        (("[smoke] # suites", "[smoke, security] # suites"), ""),
    ],
)
def test_a_lock_that_opens_is_seen(change: tuple[str, str], says: str) -> None:
    """Fewer suites, approvals or demands of the cluster: named by environment. More of them is nobody's loss."""
    if "approval: #" in change[0]:
        after = rules()
        prod = after.environment("prod").model_copy(update={"approval": None})
        after = after.model_copy(update={"environments": (*after.environments[:-1], prod)})
    else:
        after = rules(change)
    found = "; ".join(weaker(rules(), after))
    assert says in found
    assert bool(says) == bool(found)


def test_a_stricter_environment_cannot_be_taken_out() -> None:
    """An environment that asks for approvals and a soak time of its own: what follows it would enter without."""
    approver = "  - { name: approver, identity: approver@localhost }\n"
    text = edited(
        ("requires: [smoke] # suites", f"{STAGE} # suites"),
        ("soak: 0 #", "soak: 5 #"),
        ("admits: tested # our", "approval: { required: 2, maximum_age: 1 }\n    admits: tested # our"),
        (approver, f"{approver}  - {{ name: other, identity: other@localhost }}\n"),
    )
    after = pipeline.parse(amend.removed(text, "stage"), ROOT)
    assert weaker(pipeline.parse(text, ROOT), after) == [
        "prod would take the evidence of dev: dev has no such soak time as stage",
        "prod would take the evidence of dev: dev admits anything, and stage only what is tested",
        "fewer people would approve what enters prod than stage asks for now",
    ]


def test_generate_checks(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`delivery generate --check` names what is stale and exits 1; `delivery generate` mends it and shows how."""
    text = TEXT.replace("name: manual-app-e2e", "name: other").replace(
        "application: manual-app-prod", "application: manual-app-live"
    )
    (checkout / "pipeline.yaml").write_text(text)
    monkeypatch.setattr("sys.argv", ["delivery", "generate", "--check"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    stale = (
        "argocd/base/kustomization.yaml, argocd/base/manual-app-live.yaml, argocd/base/manual-app-prod.yaml"
    )
    assert stale in said
    assert changed(checkout) == {"pipeline.yaml"}
    assert "+  name: manual-app-live" in generate.run(pipeline.load())
    generate.run(pipeline.load(), check=True)


def test_lint_finds_what_is_stale() -> None:
    """`make lint` asks `delivery generate --check`."""
    [line] = [line for line in (ROOT / "Makefile").read_text().splitlines() if "generate --check" in line]
    assert "mypy &&" in line

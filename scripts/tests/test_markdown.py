"""The proof on a forge's page: it says what the proof says, and nothing that a pod says becomes markup."""

import pytest

from delivery.show import markdown
from scripts.tests.test_page import DIGEST, document


def proof(**changes: object) -> dict[str, object]:
    """A proof of one environment."""
    wanted = {"commit": "c" * 40, "image": f"registry.local/app@{DIGEST}", "digest": DIGEST, "build": "15"}
    [environment] = document()["environments"]
    return {
        "verdict": environment["verdict"],
        "site": "team",
        "environments": [environment | {"desired": wanted} | changes],
    }


def test_the_table_says_what_runs() -> None:
    """Verdict, build, digest and commit of each environment stand in a table that a forge shows."""
    lines = markdown.proofs(proof()).splitlines()
    assert lines[0] == "### PROVEN on team"
    assert lines[4] == f"| dev | 15 | {DIGEST[:19]} | {'c' * 12} | PROVEN |"


def test_every_reason_is_below_it() -> None:
    """What is wrong and what is not known stand below the table, each on a line."""
    said = markdown.proofs(proof(mismatches=["two pods too many"], unknowns=["no answer"], desired=None))
    assert said.splitlines()[4].startswith("| dev | ? | ? | ? |")
    assert "- dev: two pods too many\n- dev: no answer" in said


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("<img src=x>", r"\<img src=x\>"),
        ("[a](http://evil)", r"\[a\]\(http://evil\)"),
        ("a | b", r"a \| b"),
        ("@everyone, #12", r"\@everyone, \#12"),
        ("`x` **y** _z_", r"\`x\` \*\*y\*\* \_z\_"),
        ("a\n\nb", "a b"),
        (r"\| a", r"\\\| a"),
    ],
)
def test_what_a_pod_says_is_shown_as_it_is(said: str, shown: str) -> None:
    """Names and messages come from pods and commits: none of it is a link, a mention, a cell or HTML."""
    assert markdown.proofs(proof(mismatches=[said])).splitlines()[-1] == f"- dev: {shown}"

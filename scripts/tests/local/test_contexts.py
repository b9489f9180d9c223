"""Who the verbs and the suites come as, on a local site."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ruamel.yaml import YAML

from local import contexts
from scripts.tests.fake_cluster import kubeconfig

if TYPE_CHECKING:
    from scripts.tests.world import World


def test_each_role_has_a_context_of_its_own() -> None:
    """`up` puts the deployer and the tester beside the administrator; a second one changes their tokens alone."""
    yaml = YAML(typ="safe")
    before = yaml.load(kubeconfig("kind-x", "https://127.0.0.1:1"))
    once = contexts.with_contexts(before, "kind-x", {"deployer": "one", "tester": "two"})
    again = contexts.with_contexts(once, "kind-x", {"deployer": "three", "tester": "four"})
    assert [one["name"] for one in again["contexts"]] == ["kind-x", "deployer", "tester"]
    assert {one["context"]["cluster"] for one in again["contexts"]} == {"c"}
    assert {one["name"]: one["user"]["token"] for one in again["users"]} == {
        "u": "t",
        "deployer": "three",
        "tester": "four",
    }
    assert again["current-context"] == "kind-x"


def test_the_verbs_of_a_local_site_come_as_the_deployer(world: World) -> None:
    """The site that `up` writes has the deployer's context, and for the suites, but in prod, the tester's."""
    world.local.publish({}, "a", "b")
    places = world.local.site.load().environments
    assert {name: (place.context, place.tester) for name, place in places.items()} == {
        "dev": ("deployer", "tester"),
        "stage": ("deployer", "tester"),
        "prod": ("deployer", None),
    }

"""The Docker daemon's images: what nothing needs any more is taken away, and nothing else."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from docker.errors import APIError

from local import store


class PlayedImages:
    """A daemon's images, of which it keeps those that a container uses."""

    def __init__(self, ages: dict[str, int], used: tuple[str, ...] = ()) -> None:
        self.ages, self.used = dict(ages), used

    def list(self) -> list[Any]:
        made = {name: datetime.now(UTC) - timedelta(days=days) for name, days in self.ages.items()}
        return [
            SimpleNamespace(tags=[name], attrs={"Created": f"{at:%Y-%m-%dT%H:%M:%S.%f}789Z"})
            for name, at in made.items()
        ]

    def remove(self, name: str) -> None:
        if name in self.used or name not in self.ages:
            raise APIError("conflict, or not there")
        del self.ages[name]


def test_images_of_weeks_ago_go() -> None:
    """Each week makes new ones: old ones of ours go, unless a cluster still runs from them; a user's own stay."""
    ages = {
        "delivery-platform/node:old": 20,
        "delivery-platform/node:used": 20,
        "delivery-platform/node:new": 3,
    }
    images = PlayedImages(ages | {"postgres:17": 400}, used=("delivery-platform/node:used",))
    store.remove_older(SimpleNamespace(images=images), "delivery-platform/", days=14)
    assert sorted(images.ages) == ["delivery-platform/node:new", "delivery-platform/node:used", "postgres:17"]

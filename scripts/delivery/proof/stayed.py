"""Did the pods stay the same while they were tested? Seen before and after, compared by a pure rule.

A pod that was restarted, replaced or added makes the result one about something else, unless a test said that
it would restart that very pod; even then the images must be the same.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from delivery.proof.decide import Pod, runs


def changes(
    before: Iterable[Pod],
    after: Iterable[Pod],
    restarted: Iterable[str],
    app: str,
    image: str,
    children: Collection[str] = (),
) -> list[str]:
    """How the pods did not stay the same; `restarted` names those that tests said they would restart.

    `children` are the digests that a node may show for the image, where its digest is of an index.
    """
    first, last, declared = tuple(before), tuple(after), set(restarted)
    reasons = [
        f"pod {pod.name}, container {name} ran {image_id or 'nothing'}, not {image}"
        for pod in (*first, *last)
        if pod.app == app
        for name, _, image_id in _images(pod)
        if not runs(image_id, image, children)
    ]
    kept = {(pod.name, pod.uid): pod for pod in last}
    gone: Counter[str] = Counter()
    for pod in first:
        same = kept.pop((pod.name, pod.uid), None)
        if same is None and pod.name in declared:
            gone[pod.app] += 1
        elif same is None:
            reasons.append(f"pod {pod.name} was replaced during the tests")
        elif _images(same) != _images(pod):
            reasons.append(f"pod {pod.name} changed its containers during the tests")
        elif same.restarts != pod.restarts and pod.name not in declared:
            reasons.append(f"pod {pod.name} restarted during the tests")
    known: Mapping[str, set[Any]] = {one.app: set() for one in first}
    for pod in first:
        known[pod.app].add(_images(pod))
    for pod in kept.values():
        gone[pod.app] -= 1
        if gone[pod.app] < 0:
            reasons.append(f"pod {pod.name} came during the tests")
        elif _images(pod) not in known.get(pod.app, set()):
            reasons.append(f"pod {pod.name} came back with other containers")
    reasons += [f"a pod of {name} did not come back" for name, count in gone.items() if count > 0]
    return reasons


def _images(pod: Pod) -> tuple[tuple[str, str, str], ...]:
    """Container, image as asked for, imageID."""
    return tuple(sorted((c.name, c.image, c.image_id) for c in pod.containers))

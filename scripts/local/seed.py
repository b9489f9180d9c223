"""The Git server's first commits: the checkout's own history, then the digests of this cluster's images."""

from collections.abc import Mapping

from delivery.errors import BadInput
from delivery.parts import git, values
from delivery.site import GitServer

from local.cluster import Cluster

# Image of the platform -> where the chart names its digest.
_CHART_VALUES = {"postgresql": ("postgresql", "image", "digest"), "python": ("rates", "image", "digest")}


def publish(cluster: Cluster) -> None:
    """Push the checkout's commit as the first main; a main that is there is left alone."""
    server, branch = _server(cluster), cluster.pipeline.git.branch
    repository = git.Repository(cluster.root, server)
    if git.server_ref(server, f"refs/heads/{branch}") is not None:
        return
    if repository.run("rev-parse", "--is-shallow-repository") == "true":
        raise BadInput("this checkout is shallow: its history is not whole", "git fetch --unshallow")
    repository.push(repository.commit("HEAD"), branch)


def record_platform(cluster: Cluster, digests: Mapping[str, str]) -> None:
    """Commit the digests of the images that stand beside the app, where they differ from main's."""
    digests = {image: digests[image] for image in _CHART_VALUES}
    name = f"{cluster.pipeline.chart.path}/values.yaml"
    with git.clone(_server(cluster), cluster.pipeline.git.branch) as clone:
        file = clone.path / name
        before = file.read_text(encoding="utf-8")
        after = values.replace(before, {path: digests[image] for image, path in _CHART_VALUES.items()}, name)
        if after == before:
            return
        file.write_text(after, encoding="utf-8")
        lines = [f"platform: the images of cluster {cluster.name}", ""]
        lines += [f"Digest-{image}: {digests[image]}" for image in _CHART_VALUES]
        author = ("-c", "user.name=delivery", "-c", "user.email=delivery@localhost")
        clone.run(*author, "commit", "--quiet", "--all", "--message", "\n".join(lines))
        clone.push(clone.commit("HEAD"), cluster.pipeline.git.branch)


def _server(cluster: Cluster) -> GitServer:
    return GitServer(url=cluster.git_url, credentials=cluster.git_credentials)

"""The Git server's first commits: the checkout's own history, then the digests of this cluster's images."""

from collections.abc import Mapping

from delivery.errors import BadInput
from delivery.parts import git, values
from delivery.pipeline import FILE
from delivery.site import GitServer
from local.cluster import Cluster


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
    """Commit the digests of the platform's images that the chart uses, where they differ from main's."""
    wanted = cluster.pipeline.app.platform_images
    if unknown := sorted(set(wanted) - set(digests)):
        raise BadInput(
            f"{FILE}: app.platform_images: a local site has no image {unknown[0]}",
            f"one of: {', '.join(sorted(digests))}",
        )
    name = f"{cluster.pipeline.chart.path}/values.yaml"
    with git.clone(_server(cluster), cluster.pipeline.git.branch) as clone:
        file = clone.path / name
        before = file.read_text(encoding="utf-8")
        changes = {tuple(path.split(".")): digests[image] for image, path in wanted.items()}
        after = values.replace(before, changes, name)
        if after == before:
            return
        file.write_text(after, encoding="utf-8")
        lines = [f"platform: the images of cluster {cluster.name}", ""]
        lines += [f"Digest-{image}: {digests[image]}" for image in wanted]
        author = ("-c", "user.name=delivery", "-c", "user.email=delivery@localhost")
        clone.run(*author, "commit", "--quiet", "--all", "--message", "\n".join(lines))
        clone.push(clone.commit("HEAD"), cluster.pipeline.git.branch)


def _server(cluster: Cluster) -> GitServer:
    server = GitServer(url=cluster.git_url, credentials=cluster.git_credentials)
    return server.seen_from(cluster.root)

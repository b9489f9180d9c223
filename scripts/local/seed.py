"""The Git server's first commits: the checkout's own history, then the digests of this cluster's images."""

from collections.abc import Mapping

from delivery.errors import BadInput
from delivery.parts import git, values
from delivery.pipeline import FILE, Cluster, Pipeline


def publish(pipeline: Pipeline, cluster: Cluster) -> None:
    """Push the checkout's commit as the first main; a main that is there is left alone."""
    repository = git.Repository(pipeline.root, cluster.git_credentials)
    branch = pipeline.git.branch
    if git.server_ref(cluster.git_url, f"refs/heads/{branch}") is not None:
        return
    if repository.run("rev-parse", "--is-shallow-repository") == "true":
        raise BadInput("this checkout is shallow: its history is not whole", "git fetch --unshallow")
    repository.push(cluster.git_url, repository.commit("HEAD"), branch)


def record_platform(pipeline: Pipeline, cluster: Cluster, digests: Mapping[str, str]) -> None:
    """Commit the digests of the platform's images that the chart uses, where they differ from main's."""
    wanted = pipeline.app.platform_images
    if unknown := sorted(set(wanted) - set(digests)):
        raise BadInput(
            f"{FILE}: app.platform_images: a local site has no image {unknown[0]}",
            f"one of: {', '.join(sorted(digests))}",
        )
    name = f"{pipeline.chart.path}/values.yaml"
    with git.clone(cluster.git_url, pipeline.git.branch, cluster.git_credentials) as clone:
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
        clone.push(cluster.git_url, clone.commit("HEAD"), pipeline.git.branch)

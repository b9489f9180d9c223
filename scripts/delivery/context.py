"""What every verb is about: the rules, the site that was chosen, the checkout. Loaded once and passed down."""

from dataclasses import dataclass
from pathlib import Path

from delivery import pipeline as pipelines
from delivery.pipeline import Environment, Pipeline
from delivery.site import LocalSite, Site


@dataclass(frozen=True)
class Context:
    """One pipeline on one site, as this checkout has it."""

    pipeline: Pipeline
    site: Site

    @property
    def checkout(self) -> Path:
        """The folder of the checkout, which has the pipeline.yaml."""
        return self.pipeline.root

    @property
    def environments(self) -> tuple[Environment, ...]:
        """All environments, in order."""
        return self.pipeline.environments

    def environment(self, name: str) -> Environment:
        """The environment of that name, or BadInput that lists those there are."""
        return self.pipeline.environment(name)


def load(site: str | None = None, folder: Path | None = None) -> Context:
    """Read pipeline.yaml of the checkout around the current folder, and choose the site.

    BadInput when the file or the site's name is wrong, PlatformError when a local site is not up.
    """
    pipeline = pipelines.load(folder)
    return of(pipeline, site)


def of(pipeline: Pipeline, site: str | None = None) -> Context:
    """The same for a pipeline.yaml that is already read."""
    chosen = pipeline.site(site)
    there = chosen.load() if isinstance(chosen, LocalSite) else chosen
    return Context(pipeline, there.model_copy(update={"git": there.git.seen_from(pipeline.root)}))

"""Git's history for a proof: a clone of the server's branch, made while what it is held against is loaded and read."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from delivery.context import Context
from delivery.errors import Unknown
from delivery.parts import git

History = Future[git.Repository | Unknown]


@contextmanager
def begun(context: Context, repository: git.Repository | None = None) -> Iterator[History]:
    """The branch as the server has it now, asked in the background; why it cannot be had, as Unknown.

    `repository` is a clone of it, where one is at hand: then its HEAD is what Git asks, and nothing is cloned.
    """
    with ExitStack() as cloned, ThreadPoolExecutor(max_workers=1) as pool:

        def cloning() -> git.Repository | Unknown:
            try:
                return repository or cloned.enter_context(
                    git.clone(context.site.git, context.pipeline.git.branch, bare=True)
                )
            except (git.GitFailed, git.ServerUnreachable) as error:
                return Unknown(error.message)

        yield pool.submit(cloning)

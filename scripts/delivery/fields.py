"""The kinds of words that pipeline.yaml is made of."""

from typing import Annotated

from pydantic import Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
# A path inside the repository: relative, and it stays inside.
RepositoryPath = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][\w.-]*(/[A-Za-z0-9_-][\w.-]*)*$")]

"""The kinds of words that pipeline.yaml is made of."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Hours = Annotated[float, Field(gt=0, le=8760)]
Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
# A path inside the repository: relative, and it stays inside.
RepositoryPath = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][\w.-]*(/[A-Za-z0-9_-][\w.-]*)*$")]


class Model(BaseModel):
    """Data of pipeline.yaml: it never changes, and a key that nobody knows is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    _root: Path = PrivateAttr(default=Path())

    def model_post_init(self, context: Any) -> None:
        self._root = (context or {}).get("root", Path())

    @property
    def root(self) -> Path:
        """The checkout that this pipeline.yaml belongs to."""
        return self._root

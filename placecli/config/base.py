"""What every section of a preset shares: unknown keys are refused, values are checked, nothing changes later."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from placecli.records import PlaceError

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Weight = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]


class ConfigError(PlaceError):
    """A preset or a `--set` that does not hold: names the file, the path of the key and the nearest valid one."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

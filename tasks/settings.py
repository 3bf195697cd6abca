"""What a worker needs to know: the same environment as the API's."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.files import FileSettings


class TaskSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="TRELLIS_", hide_input_in_errors=True)

    state_dir: Path = Path(".state")
    database_url: str = Field(default="", repr=False)
    redis_url: str = Field(default="", repr=False)
    secret_key: SecretStr = SecretStr("")
    webhooks_inside: bool = False
    files: FileSettings = Field(default_factory=FileSettings)

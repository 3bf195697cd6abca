"""What an operator decides about an installation: environment variables `TRELLIS_<FIELD>`."""

import secrets
from functools import cache
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from server.embedded import StateFolder
from services.files import FileSettings

PROJECT = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """One installation; without `database_url` the embedded one that `trellis up` keeps in `state_dir`."""

    model_config = SettingsConfigDict(env_prefix="TRELLIS_", hide_input_in_errors=True)

    state_dir: Path = PROJECT / ".state"
    """What the installation remembers on disk: see `server.embedded.StateFolder`."""

    database_url: str = Field(default="", repr=False)
    """PostgreSQL as the application's role, which owns nothing and is bound by row-level security."""

    database_owner_url: str = Field(default="", repr=False)
    """The same database as the role that owns it. For migrations only."""

    redis_url: str = Field(default="", repr=False)

    secret_key: SecretStr = SecretStr("")
    """Signs tokens and encrypts stored secrets. Embedded, it is made once and kept in `state_dir`."""

    api_host: str = "127.0.0.1"
    api_port: int = 8080

    public_url: str = ""
    """How browsers reach the API, without a slash at the end. Default: its host and port."""

    files: FileSettings = Field(default_factory=FileSettings)
    """Where content lies: `TRELLIS_FILES_<FIELD>`; by default the folder `files` of `state_dir`."""

    webhooks_inside: bool = False
    """Development only: webhooks may go to private addresses, and over http to loopback."""
    registration_without_code: bool = False
    """Whether people may register as end users without proving their e-mail address."""

    pool_size: int = 16
    """Database connections of one API process."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        self.state_dir = self.state_dir.absolute()
        if not self.public_url:
            self.public_url = f"http://{self.api_host}:{self.api_port}"
        self.public_url = self.public_url.rstrip("/")
        if not self.secret_key.get_secret_value():
            if self.database_url:
                raise ValueError("TRELLIS_SECRET_KEY must be set together with TRELLIS_DATABASE_URL")
            made = StateFolder(self.state_dir).remembered("secret_key", lambda: secrets.token_urlsafe(48))
            self.secret_key = SecretStr(made)
        return self


@cache
def get_settings() -> Settings:
    """The settings of this process."""
    return Settings()

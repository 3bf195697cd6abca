"""Where content lies, as the operator decides: environment variables `TRELLIS_FILES_<FIELD>`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self

from obstore.store import S3Store
from pydantic import SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.files.store import FileStore
from services.keys import Keys

if TYPE_CHECKING:
    from obstore.store import S3Config

SCHEME = "s3://"


class FileSettings(BaseSettings):
    """A bucket of an S3-compatible store; without one a folder of the installation's own, which all of its processes
    must share."""

    model_config = SettingsConfigDict(env_prefix="TRELLIS_FILES_", hide_input_in_errors=True)

    url: str = ""
    """``s3://bucket`` or ``s3://bucket/prefix``."""
    endpoint: str = ""
    """The server's address where it is not Amazon's; over http only where it says so."""
    region: str = "us-east-1"
    access_key_id: str = ""
    """Without one, the credentials of the machine that this runs on."""
    secret_access_key: SecretStr = SecretStr("")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.url and not self.url.removeprefix(SCHEME).strip("/"):
            raise ValueError("TRELLIS_FILES_URL must name a bucket")
        if self.url and not self.url.startswith(SCHEME):
            raise ValueError(f"TRELLIS_FILES_URL must begin with {SCHEME}")
        if bool(self.access_key_id) != bool(self.secret_access_key.get_secret_value()):
            raise ValueError("TRELLIS_FILES_ACCESS_KEY_ID and TRELLIS_FILES_SECRET_ACCESS_KEY go together")
        return self

    def bucket(self) -> S3Store | None:
        if not self.url:
            return None
        name, _, prefix = self.url.removeprefix(SCHEME).strip("/").partition("/")
        config: S3Config = {"region": self.region}
        if self.endpoint:
            config["endpoint"] = self.endpoint
        if self.access_key_id:
            config["access_key_id"] = self.access_key_id
            config["secret_access_key"] = self.secret_access_key.get_secret_value()
        return S3Store(
            name,
            prefix=prefix or None,
            config=config,
            client_options={
                "allow_http": self.endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=5),
                "timeout": timedelta(minutes=10),
            },
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=30)},
        )


def open_store(folder: Path, keys: Keys, settings: FileSettings) -> FileStore:
    """The store of an installation. With a bucket, ``folder`` holds only what is on its way."""
    return FileStore(folder, keys, settings.bucket())

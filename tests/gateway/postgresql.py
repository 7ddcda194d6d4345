"""A real PostgreSQL of the tests' own, in a folder of its own, on a free port."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.up import free_port

USER = "postgres"  # the server refuses to run as root
START_TIMEOUT_S = 60.0


def binaries() -> Path | None:
    """The folder of initdb and postgres, None where they are not installed."""
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


class PostgreSQL:
    """A running server; its databases are made by `create`."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.port = free_port()
        self._programs = programs
        self._folder = folder
        self._number = 0
        self.start()

    def start(self) -> None:
        """Starts it over the same data, on the same port, and waits until it answers."""
        options = ["-h", "127.0.0.1", "-p", str(self.port), "-k", str(self._folder), "-F"]
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data"), *options]
        self._process = subprocess.Popen(as_user(command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_TIMEOUT_S
        while self._psql("SELECT 1", check=False) != 0:
            assert self._process.poll() is None, "PostgreSQL ended"
            assert time.monotonic() < deadline, "PostgreSQL did not start"

    def stop(self) -> None:
        """Ends it at once, as a crash would."""
        subprocess.run(
            as_user(
                [str(self._programs / "pg_ctl"), "-D", str(self._folder / "data"), "-m", "immediate", "-s", "stop"]
            ),
            check=True,
        )
        self._process.wait(START_TIMEOUT_S)

    def create(self) -> str:
        """The URL of a new, empty database."""
        self._number += 1
        name = f"test_{self._number}"
        self._psql(f"CREATE DATABASE {name}")
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"

    def _psql(self, statement: str, *, check: bool = True) -> int:
        command = [
            str(self._programs / "psql"),
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            USER,
            "-qAtc",
            statement,
        ]
        return subprocess.run(command, check=check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


def as_user(command: list[str]) -> list[str]:
    """The command as PostgreSQL's user where root runs the tests."""
    return (
        ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *command] if os.getuid() == 0 else command
    )


@contextmanager
def postgresql(programs: Path) -> Iterator[PostgreSQL]:
    """A server over new data, both gone at the end."""
    with tempfile.TemporaryDirectory(prefix="pcbd-postgresql-") as name:
        folder = Path(name)
        if os.getuid() == 0:
            shutil.chown(folder, USER, USER)
        command = [str(programs / "initdb"), "-D", str(folder / "data"), "-U", USER, "-A", "trust", "-E", "UTF8"]
        command += ["--locale=C", "--no-sync"]
        subprocess.run(as_user(command), check=True, stdout=subprocess.DEVNULL, cwd=folder)
        server = PostgreSQL(programs, folder)
        try:
            yield server
        finally:
            server.stop()

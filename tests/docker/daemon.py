"""A Docker daemon of one's own, Debian's, and the images that stand in where no registry is reached."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ROOT

PATIENCE_S = 60.0
PACKAGES = "python3,python3-venv,libpython3.11,ca-certificates"
BASE = "pcbd-stand-in/python"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
STAND_INS = ("prometheus", "alertmanager", "grafana", "triton")


class TrialError(RuntimeError):
    """Something did not hold, or could not be tried."""


@contextmanager
def daemon(work: Path) -> Iterator[dict[str, str]]:
    """A daemon whose data, socket and networks are its own; yields the environment in which commands reach it."""
    socket = f"unix://{work}/docker.sock"
    options = ["--iptables=false", "--ip-masq=false", "--bridge=none"]  # this host's firewall stays as it is
    options += [f"--data-root={work}/data", f"--exec-root={work}/exec", f"--pidfile={work}/docker.pid"]
    # Debian's client belongs to Debian's daemon: others need a plug-in to build.
    environment = {
        **os.environ,
        "DOCKER_HOST": socket,
        "DOCKER_BUILDKIT": "1",
        "PATH": f"/usr/bin:{os.environ['PATH']}",
    }
    with (work / "dockerd.log").open("w") as log:
        process = subprocess.Popen(
            ["dockerd", f"--host={socket}", *options], stdout=log, stderr=log, env=_beside_a_gpu_hook(work)
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while subprocess.run(["docker", "info"], env=environment, capture_output=True, check=False).returncode:
            if process.poll() is not None or time.monotonic() > deadline:
                raise TrialError(f"dockerd does not run; see {work}/dockerd.log")
        yield environment
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)


def _beside_a_gpu_hook(work: Path) -> dict[str, str]:
    """An environment in which dockerd grants the GPUs that a container reserves, and hands over none.

    It knows the driver "nvidia" where it finds NVIDIA's hook, which is given the container's state before the start
    (moby, daemon/nvidia_linux.go).
    """
    hook = work / "bin" / "nvidia-container-runtime-hook"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexec cat > /dev/null\n")
    hook.chmod(0o755)
    return {**os.environ, "PATH": f"{hook.parent}:{os.environ['PATH']}"}


def run(command: list[str], environment: dict[str, str], stdin: str = "") -> str:
    """What a command printed on stdout.

    Raises:
        TrialError: it failed; the end of what it said is in the message.
    """
    done = subprocess.run(command, cwd=ROOT, env=environment, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TrialError(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
    return done.stdout


def stand_in_images(work: Path, environment: dict[str, str]) -> dict[str, str]:
    """Makes them, and returns the variables of docker/.env that name them."""
    if not run(["docker", "images", "--quiet", BASE], environment):
        root = work / "rootfs"
        run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root)], environment)
        (root / "etc/pip.conf").write_text(f"[global]\ncert = {CERTIFICATES}\n")
        (root / CERTIFICATES.relative_to("/")).write_bytes(CERTIFICATES.read_bytes())  # whom this host trusts
        run(["tar", f"--directory={root}", "--create", f"--file={root}.tar", "."], environment)
        run(["docker", "import", f"{root}.tar", BASE], environment)
    for name in STAND_INS:
        build = ["docker", "build", "--network=host", "--file=tests/docker/stand_ins.Dockerfile", f"--target={name}"]
        run([*build, f"--tag=pcbd-stand-in/{name}", "."], environment)
    return {"PYTHON_IMAGE": BASE} | {f"{name.upper()}_IMAGE": f"pcbd-stand-in/{name}" for name in STAND_INS}

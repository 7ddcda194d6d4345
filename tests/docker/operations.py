"""What operators do to a running service, by the commands of docs/docker.md: upgrade, keys, catalog, TLS."""

import ssl
from pathlib import Path
from typing import Any

import httpx

from tests.docker.daemon import run
from tests.docker.service import PATIENCE_S, TAG, Service, require, wait_until

NEXT_TAG = "0.1.1"
REVOKED_WITHIN_S = 10.0
CHANGED = {"severity": "critical"}
REPOSITORY = ("--repository", "/models/repository", "--triton", "triton:8001")


def another_precision_is_built_promoted_and_taken_back(service: Service) -> None:
    build = ("run", "--rm", service.export, "--target", "openvino", "--precision", "fp32")
    service.timed("export_fp32_s", lambda: service.compose(*build))
    command = ("run", "--rm", "--entrypoint", "python3", service.export, "-m", "export.repository")
    service.compose(*command, "promote", "2", *REPOSITORY)
    wait_until(lambda: service.detect()["model"]["version"] == "2", "version 2 answers")
    service.compose(*command, "rollback", *REPOSITORY)
    wait_until(lambda: service.detect()["model"]["version"] == "1", "version 1 answers")


def keys_are_required(service: Service) -> None:
    service.client.headers["Authorization"] = f"Bearer {_key(service)}"
    service.environment["PCBD_API_KEYS"] = "required"
    service.up()
    without = httpx.get(f"{service.client.base_url}/defects").status_code
    require(without == 401, f"GET /defects without a key: {without}")
    service.detect()


def an_upgrade_and_the_way_back_keep_key_and_catalog(service: Service) -> None:
    changed = service.client.patch("/defects/spur", json=CHANGED)
    require(changed.status_code == 200, f"PATCH /defects/spur: {changed.status_code} {changed.text}")
    for tag, name in ((NEXT_TAG, "upgrade_s"), (TAG, "roll_back_s")):
        service.environment["PCBD_TAG"] = tag
        if tag == NEXT_TAG:
            service.build()
        service.timed(name, service.up)
        for container in (service.export, service.triton, service.gateway):
            image = service.inspect(container)["Config"]["Image"]
            require(image.endswith(f":{tag}"), f"{container} runs {image}, expected {tag}")
        service.detect()  # with the key
        require(_spur(service) == changed.json(), f"the catalog after {name}: {_spur(service)}")


def a_key_is_replaced(service: Service) -> None:
    former = str(service.client.headers["Authorization"])
    service.client.headers["Authorization"] = f"Bearer {_key(service)}"
    wait_until(lambda: service.client.get("/defects").status_code == 200, "the new key known", REVOKED_WITHIN_S)
    service.in_gateway("python", "-m", "gateway.access", "revoke", former.split("_")[1])

    def status() -> int:
        return service.client.get("/defects", headers={"Authorization": former}).status_code

    service.timed("revoked_s", lambda: wait_until(lambda: status() == 401, "the former refused", REVOKED_WITHIN_S))
    service.detect()


def the_catalog_is_restored(service: Service) -> None:
    export = ("python", "-m", "gateway.catalog", "export", "-")
    kept = service.in_gateway(*export)
    service.client.patch("/defects/spur", json={"severity": "info"}).raise_for_status()
    service.client.delete("/defects/scratch").raise_for_status()
    require(service.in_gateway(*export) != kept, "the catalog was changed, its export is as before")
    service.in_gateway("python", "-m", "gateway.catalog", "import", "-", stdin=kept)
    require(service.in_gateway(*export) == kept, "what was exported and imported again differs")
    require(_spur(service)["severity"] == CHANGED["severity"], f"answered after the import: {_spur(service)}")


def the_database_is_restored(service: Service) -> None:
    """By the commands of docs/operations.md; the backup stays in the volume, since `run` here feeds text only."""
    backup = "import sqlite3; sqlite3.connect('/data/gateway.db').backup(sqlite3.connect('/data/backup.db'))"
    service.in_gateway("python", "-c", backup)
    kept = _spur(service)
    changed = {"severity": "info"}
    service.client.patch("/defects/spur", json=changed).raise_for_status()
    service.compose("stop", service.gateway)
    restore = "rm -f /data/gateway.db-wal /data/gateway.db-shm; cat /data/backup.db > /data/gateway.db"
    service.compose("run", "--rm", "--no-deps", "-T", service.gateway, "sh", "-c", restore)
    service.up()
    require(_spur(service) == kept, f"restored: {_spur(service)}")
    service.client.patch("/defects/spur", json=changed).raise_for_status()  # the database can be written


def https_is_answered(service: Service) -> None:
    certificate = _certificate(service)
    key = certificate.with_name("tls_key")
    service.environment |= {"TLS_CERTIFICATE_FILE": str(certificate), "TLS_KEY_FILE": str(key)}
    service.files = (*service.files, "--file=docker/compose.tls.yaml")
    service.up()
    _trust(service, certificate)
    service.detect()


def a_renewed_certificate_is_served_after_a_restart(service: Service) -> None:
    _trust(service, _certificate(service))
    require(not service.is_ready(), "the gateway is trusted before it has the new certificate")
    service.compose("restart", service.gateway)
    wait_until(service.is_ready, "the gateway ready, with the new certificate")


def _certificate(service: Service) -> Path:
    """A new one, and its key, as new files in the place of the former."""
    folder = service.work / "secrets"
    make = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    of = ["-days", "2", "-subj", "/CN=gateway", "-addext", "subjectAltName=IP:127.0.0.1"]
    run([*make, *of, "-keyout", str(folder / "key.new"), "-out", str(folder / "certificate.new")], service.environment)
    (folder / "key.new").chmod(0o644)
    (folder / "key.new").replace(folder / "tls_key")
    return (folder / "certificate.new").replace(folder / "tls_certificate")


def _trust(service: Service, certificate: Path) -> None:
    """Asks by https from now on, and believes this certificate alone."""
    service.client = httpx.Client(
        base_url=str(service.client.base_url).replace("http:", "https:"),
        headers=service.client.headers,
        timeout=PATIENCE_S,
        verify=ssl.create_default_context(cafile=str(certificate)),
    )


def _key(service: Service) -> str:
    create = ("create", "--name=line-3", "--scope=detect", "--scope=catalog")
    key = service.in_gateway("python", "-m", "gateway.access", *create).strip()
    require(key.startswith("pcbd_"), f"no key came, but {key}")
    return key


def _spur(service: Service) -> Any:  # noqa: ANN401 - JSON
    return service.client.get("/defects/spur").json()

"""Pictures in a folder, and in an S3 bucket where moto's server is on the PATH: pipx install 'moto[server,s3]'."""

import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import httpx
import pytest
from PIL import Image

from gateway.errors import ImageStoreError, NotFoundError
from gateway.review.images import PATH, ImageStore
from gateway.up import free_port
from tests.conftest import BOARD
from tests.gateway.test_failures import wait_until

AT = datetime(2026, 11, 26, 1, tzinfo=timezone(timedelta(hours=8)))  # the 25th in UTC


@pytest.fixture(scope="session")
def bucket_url() -> Iterator[str]:
    """A new bucket."""
    server = shutil.which("moto_server")
    if server is None:
        pytest.skip("moto's S3 server is not installed; pipx install 'moto[server,s3]'")
    endpoint = f"http://127.0.0.1:{(port := free_port())}"
    with subprocess.Popen([server, "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: _answers(f"{endpoint}/moto-api/"))
            httpx.put(f"{endpoint}/boards").raise_for_status()
            with pytest.MonkeyPatch.context() as patch:
                credentials = {"ACCESS_KEY_ID": "me", "SECRET_ACCESS_KEY": "secret", "REGION": "us-east-1"}
                for name, value in {**credentials, "ENDPOINT_URL": endpoint}.items():
                    patch.setenv(f"AWS_{name}", value)
                yield "s3://boards/line 4/images"
        finally:
            process.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(params=["folder", "bucket"])
def images(request: pytest.FixtureRequest, tmp_path: Path) -> ImageStore:
    """An empty store of each kind."""
    if request.param == "folder":
        return ImageStore(f"file://{tmp_path}/a folder, 图片/images")
    return ImageStore(request.getfixturevalue("bucket_url"))


def stored(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("kind", "media_type", "suffix"),
    [
        ("JPEG", "image/jpeg", ".jpg"),
        ("PNG", "image/png", ".png"),
        ("BMP", "image/bmp", ".bmp"),
        ("TIFF", "image/tiff", ".tiff"),
    ],
)
def test_a_picture_comes_back_as_it_was_sent(images: ImageStore, kind: str, media_type: str, suffix: str) -> None:
    buffer = io.BytesIO()
    with Image.open(BOARD) as board:
        board.save(buffer, kind)
    path, found_type = images.put(buffer.getvalue(), AT)
    assert (found_type, path[:11], Path(path).suffix) == (media_type, "2026/11/25/", suffix)
    assert images.get(path) == buffer.getvalue()
    assert [each for each, _ in images.paths()] == [path]
    images.delete([path, path])
    with pytest.raises(NotFoundError, match=path):
        images.get(path)


def test_a_large_picture_comes_in_pieces(images: ImageStore) -> None:
    data = bytes(10) + os.urandom(4_000_000)
    path, _ = images.put(data, AT)
    size_bytes, pieces = images.open(path)
    lengths = [len(piece) for piece in pieces]
    assert sum(lengths) == size_bytes == len(data)
    assert len(lengths) > 2  # a bucket sends them as long as it likes


def test_only_pictures_of_its_own_are_listed_and_swept(tmp_path: Path) -> None:
    images = ImageStore(f"file://{tmp_path}")
    path, _ = images.put(b"BM", AT)
    others = ["notes.txt", "2026/11/25/notes.png", "2026/11/25/notes.png#1", "2026/11/x/" + "0" * 32 + ".png"]
    for name in (*others, path + "#1"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (0, 0))
    assert [each for each, _ in images.paths()] == [path]
    (tmp_path / f"{path}#2").symlink_to("gone")  # as of a write that is over since it was listed
    assert images.sweep_stages(datetime.now(UTC)) == 1
    assert stored(tmp_path) == sorted([path, *others])


@pytest.mark.parametrize("url", ["file:///proc/nowhere/images", "ftp://host/images", "s3://"])
def test_a_store_that_there_cannot_be_is_named(url: str) -> None:
    with pytest.raises(ValueError, match="PCBD_IMAGE_STORE"):
        ImageStore(url)


def test_a_store_that_fails_is_a_fault_with_a_name(tmp_path: Path) -> None:
    images = ImageStore(f"file://{tmp_path}/images")
    path, _ = images.put(b"BM", AT)
    day = (tmp_path / "images" / path).parent
    (day / Path(path).name).unlink()
    day.rmdir()
    day.write_text("")  # a file where the folder should be
    with pytest.raises(ImageStoreError, match="PCBD_IMAGE_STORE"):
        images.put(b"BM", AT)
    assert PATH.fullmatch(path)

"""When a picture in a watched folder is asked about again."""

from pathlib import Path

from gateway.client.folder_watch import Folder, Results


def test_a_picture_that_is_put_off_again_waits_twice_as_long(tmp_path: Path) -> None:
    picture = tmp_path / "1.png"
    picture.write_bytes(b"BM")
    camera, pauses = Folder(tmp_path, settle_s=0), []
    with Results(tmp_path / "results.jsonl") as done:
        (arrived,) = camera.look(done)
        for _ in range(5):
            pauses.append(camera.put_off(arrived, 5, 30))
            assert (camera.look(done), camera.is_settled) == ([], False)
        picture.write_bytes(b"BM, another")
        (changed,) = camera.look(done)
        pauses.append(camera.put_off(changed, 5, 30))
    assert pauses == [5, 10, 20, 30, 30, 5]

"""Downloads: resumed, verified, never a part for the whole."""

import errno
import hashlib
import json
import subprocess
import sys
import time

import numpy as np
import pytest

from keras_hybrid.weights.pretrained import download
from keras_hybrid.weights.pretrained.download import DownloadError, fetch
from keras_hybrid.weights.pretrained.homes import GitHubRelease, GoogleDrive, HuggingFace

CONTENT = np.random.default_rng(0).bytes(3_000_000)
HUB = HuggingFace("timm/a_model", "model.safetensors")
GITHUB = GitHubRelease("someone/project", "v0.9", "weights.pth")
DRIVE = GoogleDrive("some-id", "weights.pth.tar")


@pytest.fixture
def stocked(homes):
    homes.hugging_face("timm/a_model", "model.safetensors", CONTENT)
    homes.github("someone/project", "v0.9", "weights.pth", CONTENT)
    homes.drive("some-id", CONTENT)
    return homes


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("home", [HUB, GITHUB, DRIVE], ids=["hugging_face", "github", "drive"])
class TestEveryHome:
    def test_downloads_then_asks_no_more(self, stocked, tmp_path, home):
        path, is_new = fetch([home], tmp_path / "f")
        assert is_new and path.read_bytes() == CONTENT
        assert names(tmp_path / "f") == [home.file, f"{home.file}.sha256.json"]
        record = json.loads((tmp_path / "f" / f"{home.file}.sha256.json").read_text())
        assert record == {
            "sha256": hashlib.sha256(CONTENT).hexdigest(),
            "size": len(CONTENT),
            "url": home.url,
        }
        asked = len(stocked.requests)
        assert fetch([home], tmp_path / "f") == (path, False)
        assert len(stocked.requests) == asked

    def test_a_cut_download_goes_on_where_it_stopped(self, stocked, tmp_path, home):
        stocked.cut_after = 2_000_000
        path, _ = fetch([home], tmp_path / "f")
        assert path.read_bytes() == CONTENT
        assert stocked.requests[-1][2] == "bytes=2000000-"

    def test_the_next_call_goes_on_where_the_last_stopped(
        self, stocked, tmp_path, home, monkeypatch
    ):
        monkeypatch.setattr(download, "ATTEMPTS", 0)  # any cut ends the call
        stocked.cut_after = 1_500_000
        with pytest.raises(DownloadError, match="1500000 of 3000000 bytes"):
            fetch([home], tmp_path / "f")
        assert not (tmp_path / "f" / home.file).exists()
        path, _ = fetch([home], tmp_path / "f")
        assert path.read_bytes() == CONTENT
        assert stocked.requests[-1][2] == "bytes=1500000-"

    def test_starts_over_where_the_file_changed_meanwhile(
        self, stocked, tmp_path, home, monkeypatch
    ):
        monkeypatch.setattr(download, "ATTEMPTS", 0)
        stocked.cut_after = 1_500_000
        with pytest.raises(DownloadError):
            fetch([home], tmp_path / "f")
        for path in stocked.files:
            stocked.files[path] = CONTENT[::-1]
        path, _ = fetch([home], tmp_path / "f")
        assert path.read_bytes() == CONTENT[::-1]

    def test_starts_over_where_the_server_does_not_continue(self, stocked, tmp_path, home):
        stocked.ranges = False
        stocked.cut_after = 1_000_000
        path, _ = fetch([home], tmp_path / "f")
        assert path.read_bytes() == CONTENT

    def test_missing_file_names_address_and_place(self, homes, tmp_path, home):
        with pytest.raises(DownloadError) as error:
            fetch([home], tmp_path / "f")
        assert "HTTP 404" in str(error.value) and home.url in str(error.value)
        assert str(tmp_path / "f" / home.file) in str(error.value)
        assert names(tmp_path / "f") == []


def test_the_next_home_is_asked_when_one_has_not_the_file(stocked, tmp_path):
    missing = HuggingFace("timm/a_model", "missing.safetensors")
    path, _ = fetch([missing, HUB], tmp_path / "f")
    assert path.name == "model.safetensors"


def test_what_arrived_is_not_given_up_for_the_next_home(stocked, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ATTEMPTS", 0)
    stocked.cut_after = 1_500_000
    mirror = HuggingFace("timm/a_model", "weights.pth")
    stocked.hugging_face("timm/a_model", "weights.pth", CONTENT)
    with pytest.raises(DownloadError, match="1500000 of 3000000"):
        fetch([GITHUB, mirror], tmp_path / "f")
    path, _ = fetch([GITHUB, mirror], tmp_path / "f")
    assert path.read_bytes() == CONTENT
    assert stocked.requests[-1][2] == "bytes=1500000-"


def test_drive_without_confirmation(stocked, tmp_path):
    stocked.confirm = False
    path, _ = fetch([DRIVE], tmp_path / "f")
    assert path.read_bytes() == CONTENT


def test_drives_quota_page_is_refused(stocked, tmp_path):
    stocked.quota = True
    with pytest.raises(DownloadError, match="Quota exceeded.*by hand.*weights.pth.tar"):
        fetch([DRIVE], tmp_path / "f")
    assert names(tmp_path / "f") == []


def test_a_page_that_hides_its_type_is_refused(stocked, tmp_path):
    stocked.files["/timm/a_model/resolve/main/model.safetensors"] = b"<html><title>Log in</title>"
    with pytest.raises(DownloadError, match="web page .'Log in'."):
        fetch([HUB], tmp_path / "f")
    assert names(tmp_path / "f") == []


def test_bytes_that_the_home_does_not_announce_are_refused(stocked, tmp_path):
    stocked.announced = "0" * 64
    with pytest.raises(DownloadError, match="the home announces 0000"):
        fetch([HUB], tmp_path / "f")
    assert names(tmp_path / "f") == []


def test_offline_is_known_at_once(monkeypatch, tmp_path, homes):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(DownloadError) as error:
        fetch([HUB], tmp_path / "f")
    assert time.monotonic() - start < 5
    assert "no connection" in str(error.value)
    assert "http://127.0.0.1:9/timm/a_model/resolve/main/model.safetensors" in str(error.value)
    assert str(tmp_path / "f" / "model.safetensors") in str(error.value)


def test_a_busy_server_is_asked_again_and_then_given_up(stocked, tmp_path):
    stocked.status = 503
    with pytest.raises(DownloadError, match="HTTP 503"):
        fetch([HUB], tmp_path / "f")
    assert len(stocked.requests) == download.ATTEMPTS


def test_a_changed_file_is_refused(stocked, tmp_path):
    path, _ = fetch([HUB], tmp_path / "f")
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(ValueError, match="not the one that was downloaded first"):
        fetch([HUB], tmp_path / "f")


def test_a_home_that_serves_another_file_later_is_refused(stocked, tmp_path):
    path, _ = fetch([HUB], tmp_path / "f")
    path.unlink()
    stocked.hugging_face("timm/a_model", "model.safetensors", CONTENT[::-1])
    with pytest.raises(DownloadError, match="at first download it had"):
        fetch([HUB], tmp_path / "f")
    assert not path.exists()


def test_a_file_put_there_by_hand_is_taken_and_recorded(homes, tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / HUB.file).write_bytes(CONTENT)
    assert fetch([HUB], folder) == (folder / HUB.file, False)
    assert download.recorded_checksum(folder / HUB.file) == hashlib.sha256(CONTENT).hexdigest()
    assert homes.requests == []


def test_a_page_put_there_by_hand_is_refused(homes, tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / HUB.file).write_bytes(b"<!DOCTYPE html><html><title>Sign in</title></html>")
    with pytest.raises(ValueError, match="web page .'Sign in'"):
        fetch([HUB], folder)


def test_no_room_is_told_before_a_byte_is_written(stocked, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DownloadError, match="disk is full.*KERAS_HOME"):
        fetch([HUB], tmp_path / "f")
    assert names(tmp_path / "f") == []


def test_a_disk_that_fills_up_gets_its_room_back(stocked, tmp_path, monkeypatch):
    def no_room(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download.os, "fsync", no_room)
    with pytest.raises(DownloadError, match="disk is full"):
        fetch([HUB], tmp_path / "f")
    assert names(tmp_path / "f") == []


def test_an_answer_without_size_is_refused(stocked, tmp_path, monkeypatch):
    import homes_server

    plain = homes_server.Handler.send_header

    def without_length(handler, name, value):
        if name != "Content-Length" or "cdn" not in handler.path:
            plain(handler, name, value)
        else:
            handler.close_connection = True

    monkeypatch.setattr(homes_server.Handler, "send_header", without_length)
    with pytest.raises(DownloadError, match="does not tell its size"):
        fetch([HUB], tmp_path / "f")


@pytest.mark.large
def test_an_interrupted_program_leaves_no_whole_file(stocked, tmp_path):
    """Killed in the middle, the file is not there; the next call finishes it."""
    folder = tmp_path / "f"
    program = (
        "import os, sys\n"
        "from keras_hybrid.weights.pretrained import download\n"
        "from keras_hybrid.weights.pretrained.homes import HuggingFace\n"
        "receive = download._save\n"
        "def die(response, part, total, name):\n"
        "    part.path.write_bytes(response.read(1_000_000))\n"
        "    os._exit(9)\n"
        "download._save = die\n"
        f"download.fetch([{HUB!r}], {str(folder)!r})\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    assert not (folder / HUB.file).exists()
    path, _ = fetch([HUB], folder)
    assert path.read_bytes() == CONTENT
    assert stocked.requests[-1][2] == "bytes=1000000-"

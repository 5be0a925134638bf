"""`.tflite` files in a browser: the server by itself, and the page in headless Chromium."""

import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request

import numpy as np
import pytest
from PIL import Image

from keras_hybrid.benchmark import read_rows
from keras_hybrid.benchmark.browser import secure
from keras_hybrid.benchmark.browser.litertjs import find_litertjs
from keras_hybrid.benchmark.browser.server import PageServer, ServedModel
from keras_hybrid.cli.serve import _invitation
from keras_hybrid.engines.chromium import FLAGS, Page, find_chromium

LABELS = ("bright", "dark", "grey", "red", "blue")
POSTED = {
    "model": "a.tflite",
    "accelerator": "webgpu",
    "threads": 1,
    "times": [2.0, 1.0, 4.0, 3.0],
    "init_ms": 30.5,
    "first_ms": 9,
    "whole": True,
    "messages": [],
    "agent": "Mozilla/5.0 (Linux; Android 16)",
    "gpu": "arm mali",
    "cores": 8,
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """What looks like an installation of LiteRT.js."""
    folder = tmp_path_factory.mktemp("npm")
    for name in ("core", "wasm-utils"):
        package = folder / "node_modules" / "@litertjs" / name
        (package / "dist").mkdir(parents=True)
        (package / "package.json").write_text('{"version": "2.5.3"}')
        (package / "dist" / "index.js").write_text("export {};")
    (folder / "secret.txt").write_text("not served")
    return find_litertjs(folder)


@pytest.fixture
def server(engine, tmp_path):
    """A server of one file, and what asks it: `server.ask("/models.json")`."""
    path = tmp_path / "a.tflite"
    path.write_bytes(b"model")
    server = serve({"a.tflite": ServedModel(path, LABELS)}, engine, tmp_path / "rows.jsonl")
    yield server
    server.stop()


def serve(models, engine, rows, tls=None):
    server = PageServer(models, engine, rows, say=lambda line: None, tls=tls)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def ask(path, body=None, kind="application/json"):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        method, headers = ("GET", {}) if body is None else ("POST", {"Content-Type": kind})
        connection.request(method, path, body and json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def stop():
        server.shutdown()
        thread.join()
        server.server_close()

    server.ask, server.stop = ask, stop
    return server


def open_securely(server, authority, tmp_path, host="localhost"):
    (tmp_path / "authority.pem").write_bytes(authority.cert_pem.bytes())
    trusting = ssl.create_default_context(cafile=tmp_path / "authority.pem")
    return urllib.request.urlopen(f"https://{host}:{server.port}/", context=trusting, timeout=10)


def test_over_https_a_page_is_served_to_those_who_trust_it(engine, tmp_path, require, capfd):
    require(module="trustme")
    path = tmp_path / "a.tflite"
    path.write_bytes(b"model")
    authority = secure.make_authority()
    tls = secure.server_context(authority, ["192.0.2.7"])
    server = serve({"a.tflite": ServedModel(path, LABELS)}, engine, tmp_path / "rows.jsonl", tls)
    try:
        assert server.scheme == "https"
        # One who says nothing and one who speaks http keep nobody waiting, and are no news.
        silent = socket.create_connection(("127.0.0.1", server.port))
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while plain.recv(1024):
                pass
        with pytest.raises(OSError, match="certificate verify failed"):
            urllib.request.urlopen(f"https://localhost:{server.port}/", timeout=10)
        for host in ("localhost", "127.0.0.1"):
            with open_securely(server, authority, tmp_path, host) as page:
                assert b"<html" in page.read()
        silent.close()
    finally:
        server.stop()
    assert "Traceback" not in capfd.readouterr().err


def test_the_address_is_told_as_a_picture_and_in_words(server, require):
    require(module="segno")
    (local,) = secure.addresses_of("127.0.0.1")
    lines = _invitation(server, local)
    assert lines[0] == f"http://localhost:{server.port}" and "adb reverse" in lines[1]
    lines = _invitation(server, "192.0.2.7")
    assert lines[0] == f"http://192.0.2.7:{server.port}" and "--https" in lines[1]
    server.scheme = "https"
    picture, address, *words = _invitation(server, "192.0.2.7")
    assert address == f"https://192.0.2.7:{server.port}" and "certificate" in words[0]
    # A picture of the code by itself, two rows a line, with a quiet zone of one module or more.
    modules = len(list(segno_of(address).matrix))
    assert len(picture.splitlines()) >= (modules + 2) // 2
    assert secure.addresses_of("0.0.0.0") != ["0.0.0.0"]


def segno_of(text):
    import segno

    return segno.make(text, micro=False)


def test_the_server_has_the_page_the_engine_and_the_files_and_nothing_else(server):
    for path, kind in (
        ("/", "text/html"),
        ("/page.js", "text/javascript"),
        ("/style.css", "text/css"),
        ("/litertjs/core/dist/index.js", "text/javascript"),
        ("/models/a.tflite", "application/octet-stream"),
    ):
        status, headers, body = server.ask(path)
        assert status == 200 and body and headers["Content-Type"].startswith(kind), path
        # Threads and fine clocks need a page that is alone.
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    for path in ("/server.py", "/../server.py", "/litertjs/../../secret.txt", "/models/b.tflite"):
        assert server.ask(path)[0] == 404, path
    (model,) = json.loads(server.ask("/models.json")[2])["models"]
    assert (model["name"], model["bytes"], tuple(model["labels"])) == ("a.tflite", 5, LABELS)


def test_the_page_takes_nothing_from_elsewhere(server):
    for path in ("/", "/page.js", "/style.css"):
        assert b"http://" not in server.ask(path)[2] and b"https://" not in server.ask(path)[2]


def test_a_row_is_the_benchmark_s(server):
    assert json.loads(server.ask("/rows", POSTED)[2]) == {"status": "ok"}
    in_part = {**POSTED, "whole": False, "messages": ["MUL: not supported"]}
    assert json.loads(server.ask("/rows", in_part)[2]) == {"status": "fell_back"}
    whole, part = read_rows(server.rows_path)
    assert (whole.target, whole.delegate, whole.model) == ("browser", "gpu", "a.tflite")
    assert (whole.median_ms, whole.min_ms, whole.max_ms, whole.runs) == (2.5, 1.0, 4.0, 4)
    assert whole.p90_ms == pytest.approx(np.percentile(POSTED["times"], 90))
    assert whole.device["system"] == POSTED["agent"] and whole.device["soc"] == "arm mali"
    assert whole.binary == {"name": "LiteRT.js", "version": "2.5.3", "flavour": "webgpu"}
    assert "MUL: not supported" in part.notes and part.session == whole.session


@pytest.mark.parametrize(
    "change",
    [
        {"model": "b.tflite"},
        {"accelerator": "npu"},
        {"times": []},
        {"times": [1, "2"]},
        {"times": [-1.0]},
        {"times": None},
        {"threads": None},
        {"init_ms": True},
    ],
    ids=str,
)
def test_what_no_page_of_ours_posts_is_refused_and_not_kept(server, change):
    status, _, body = server.ask("/rows", {**POSTED, **change})
    assert status == 400 and "expected" in json.loads(body)["error"]
    assert not server.rows_path.exists()


def test_forms_of_other_pages_are_refused(server):
    assert server.ask("/rows", POSTED, kind="text/plain")[0] == 400
    assert server.ask("/other", POSTED)[0] == 400
    assert server.ask("/rows", {**POSTED, "agent": "a" * 2**21})[0] == 400


def test_a_missing_engine_is_told_with_what_fetches_it(tmp_path):
    with pytest.raises(ValueError, match="serve --install.*Received: --litertjs="):
        find_litertjs(tmp_path)


@pytest.mark.large
def test_the_command_serves_until_it_is_interrupted(classifier, engine, tmp_path):
    from keras_hybrid.export.convert import export_tflite

    path = export_tflite(classifier, tmp_path / "small.tflite", labels=list(LABELS))
    command = [sys.executable, "-m", "keras_hybrid", "serve", path, "--port=0"]
    process = subprocess.Popen(
        [*command, f"--litertjs={engine.folder}", f"--out={tmp_path}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://localhost:\d+", address)
        assert "adb reverse" in process.stdout.readline()
        assert str(tmp_path / "rows.jsonl") in process.stdout.readline()
        with urllib.request.urlopen(f"{address}/models.json", timeout=30) as answer:
            (model,) = json.loads(answer.read())["models"]
        assert (model["name"], tuple(model["labels"])) == ("small.tflite", LABELS)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def litertjs(require):
    """The real one: of `keras-hybrid serve --install`, or of a folder that a variable names."""
    if find_chromium() is None:
        require(program="chromium")
    try:
        return find_litertjs(os.environ.get("KERAS_HYBRID_LITERTJS"))
    except ValueError:
        require(program="LiteRT.js (keras-hybrid serve --install)")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file that normalises inside and one that does not, of one network, and a photo."""
    import keras
    from harness import randomise

    import keras_hybrid

    folder = tmp_path_factory.mktemp("browser")
    keras.utils.set_random_seed(0)
    model = keras_hybrid.MobileFormer26M(weights=None, classes=5, input_shape=(64, 64, 3))
    model = randomise(model)
    for name, inside in (("inside", True), ("outside", False)):
        keras_hybrid.export_tflite(
            model, folder / f"{name}.tflite", preprocessing=inside, labels=list(LABELS)
        )
    noise = np.random.default_rng(0).integers(0, 256, (16, 24, 3)).astype("uint8")
    Image.fromarray(noise).resize((192, 128), Image.Resampling.NEAREST).save(folder / "photo.png")
    (folder / "text.jpg").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def page_server(files, litertjs):
    from keras_hybrid.cli.serve import _described

    models = {name: _described(files / name) for name in ("inside.tflite", "outside.tflite")}
    server = serve(models, litertjs, files / "rows.jsonl")
    yield server
    server.stop()


def said(page, pattern):
    """Waits for what the page says."""
    return page.wait_for(
        f"(found => found && {pattern}.test(found.textContent) && found.textContent)"
        "(document.getElementById('said'))"
    )


@pytest.mark.large
def test_a_phone_classifies_a_photo_and_measures_all_files(files, page_server, tmp_path):
    from keras_hybrid.export.verify import run_tflite

    page = Page(f"http://127.0.0.1:{page_server.port}")
    try:
        said(page, "/Choose a photo/")
        assert page.evaluate("crossOriginIsolated")
        page.choose_files("#photo", files / "text.jpg")
        assert "text.jpg is no picture" in said(page, "/no picture/")
        # The same class on both engines, normalised inside and by the page, as LiteRT says here.
        photo = Image.open(files / "photo.png").resize((64, 64), Image.Resampling.BILINEAR)
        pixels = np.asarray(photo, "float32")[None]
        (scores,) = run_tflite(files / "inside.tflite", pixels).values()
        page.choose_files("#photo", files / "photo.png")
        for name, accelerator in (("inside", "wasm"), ("outside", "wasm"), ("inside", "webgpu")):
            page.evaluate(
                f"document.getElementById('answers').replaceChildren();"
                f"document.getElementById('model').value = '{name}.tflite';"
                f"document.getElementById('accelerator').value = '{accelerator}';"
                "document.getElementById('accelerator').dispatchEvent(new Event('change'))"
            )
            best = page.wait_for("document.querySelector('#answers li')?.innerText")
            label, share = best.split("\n")
            assert label == LABELS[scores.argmax()], (accelerator, name)
            assert float(share.rstrip(" %")) == pytest.approx(100 * scores.max(), abs=4)
        page.evaluate("document.getElementById('measure').click()")
        said(page, "/^Done: the rows/")
        page.screenshot(tmp_path / "page.png")
        assert Image.open(tmp_path / "page.png").width == 2 * 390
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        rows = read_rows(page_server.rows_path)
        assert {(row.model, row.delegate) for row in rows} == {
            (f"{name}.tflite", delegate)
            for name in ("inside", "outside")
            for delegate in ("cpu", "gpu")
        }
        assert all(row.target == "browser" and row.runs >= 5 for row in rows)
        assert all(row.status in ("ok", "fell_back") for row in rows)
        # The connection is lost: a sentence, no row.
        page.call("Network.enable")
        page.call(
            "Network.emulateNetworkConditions",
            offline=True,
            latency=0,
            downloadThroughput=0,
            uploadThroughput=0,
        )
        page.evaluate("document.getElementById('measure').click()")
        assert "does not answer" in said(page, "/does not answer/")
        assert len(read_rows(page_server.rows_path)) == len(rows)
    finally:
        page.close()


@pytest.mark.large
def test_a_browser_without_webgpu_says_so(page_server):
    flags = [flag for flag in FLAGS if "gpu" not in flag and "GPU" not in flag]
    page = Page(f"http://127.0.0.1:{page_server.port}", [*flags, "--disable-features=WebGPU"])
    try:
        said(page, "/Choose a photo/")
        assert "WebGPU" in page.evaluate("document.getElementById('webgpu').textContent")
        options = page.evaluate(
            "[...document.getElementById('accelerator').options].map(item => item.value)"
        )
        assert options == ["wasm"]
    finally:
        page.close()

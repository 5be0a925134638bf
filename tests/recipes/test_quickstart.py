"""The programs in recipes/: help, bad input, and the main job from images to a report."""

import re

import pytest


@pytest.fixture(scope="module")
def program(programs, root, require):
    require(module="tensorflow_datasets")
    require(module="sklearn")

    def call(name, *arguments, **options):
        return programs(f"recipes/{name}", *arguments, cwd=root, **options)

    return call


@pytest.mark.large
@pytest.mark.parametrize("name", ["train.py", "evaluate.py", "quickstart.py"])
def test_help_shows_commands_and_flags(program, name):
    done = program(name, "--help", fresh=True)
    text = done.stdout + done.stderr
    assert f"python recipes/{name}" in text and "--data_dir" in text


@pytest.mark.large
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--recipe=digits", "--data=digits", "epoch=3"), "Did you mean `epochs`?"),
        (("--recipe=none", "--data=digits"), "A recipe is a Python file"),
        (("--recipe=digits", "--data=digits", "--variant=MobileViTXX"), "`MobileViTXXS`"),
        (("--recipe=digits",), "--data"),
    ],
)
def test_train_refuses_bad_input_in_a_line(program, tmp_path, arguments, message):
    done = program("train.py", f"--out={tmp_path / 'run'}", f"--data_dir={tmp_path}", *arguments)
    assert done.returncode != 0
    assert message in done.stderr and "Traceback" not in done.stderr


def test_evaluate_refuses_a_folder_without_a_run(program, tmp_path):
    done = program("evaluate.py", f"--run={tmp_path}")
    assert done.returncode == 1
    assert "evaluate.py: A finished run's folder holds `model.keras`" in done.stderr


@pytest.mark.large
def test_quickstart_goes_from_images_to_a_report(program, tmp_path, require):
    """One epoch, so that it takes a minute: accuracy is measured by the command itself."""
    require(module="ai_edge_litert")
    folder = tmp_path / "runs" / "first"
    done = program(
        "quickstart.py",
        "--model=IFormerT",
        "--name=first",
        f"--runs={tmp_path / 'runs'}",
        f"--data_dir={tmp_path / 'tfds'}",
        "--int8_epochs=0",
        "epochs=2",
        "warmup_epochs=0.5",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warning" not in done.stderr
    report = (folder / "report.md").read_text()
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", report, re.M))
    assert rows["same class as Keras"] == "355 of 355 images" or "- Test image" in report
    assert float(rows["largest relative difference"]) < 1e-4
    assert rows["input of the .tflite"] == "(1, 64, 64, 3) float32, RGB from 0 to 255"
    assert re.fullmatch(r"\d+\.\d+ ms of one thread", rows["latency"])
    assert rows["parameters"] == "2,658,362"
    assert re.search("^epochs +2$", report.replace(" = ", " "), re.M) and "--name=first" in report
    for picture in re.findall(r"!\[.*?\]\((.+?)\)", report):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    assert (folder / "model.tflite").stat().st_size > 8e6
    # Float, int8 and int8_cpu in one table, of one measurement.
    lines = [line for line in report.splitlines() if re.match(r"\| (float|post-training)", line)]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[1] for row in table] == ["float32", "int8", "int8_cpu"]
    assert len({len(line) for line in lines}) == 1, "columns are aligned"
    assert rows["latency"].startswith(table[0][6]) and table[0][7] == "1.00"
    assert min(float(row[3].rstrip("%")) for row in table) >= 99, "of the same class as Keras"
    assert "A partition is" in report
    assert "post-training | int8_cpu" in done.stdout and "agreement" not in done.stdout
    page = (folder / "report.html").read_text()
    assert all(row[6] in page for row in table) and "data:image/jpeg;base64," in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
    assert (folder / re.search(r"\[Layer by layer\]\((.+?)\)", report).group(1)).exists()

    # The trained run is read by the other program, which finds the same accuracy.
    evaluated = program("evaluate.py", f"--run={folder}", f"--data_dir={tmp_path / 'tfds'}")
    accuracy = re.search(r"355 images: top-1 (\S+%), top-5", evaluated.stdout).group(1)
    assert rows["test accuracy"].startswith(accuracy)

"""Installs keras-hybrid: mobile hybrid CNN-transformer networks for Keras 3."""

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (ROOT / "keras_hybrid" / "version.py").read_text(), re.M
).group(1)

# The repository's address: what the variable says, on GitHub the build's own, else unknown.
HOME = os.environ.get("KERAS_HYBRID_HOME") or "/".join(
    filter(None, (os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")))
)
# Folders of programs, which the wheel has as keras_hybrid/programs/.
PROGRAMS = ("recipes", "tflite")


class BuildWithPrograms(build_py):
    """Puts the programs beside the package's modules; in a clone they are used where they are."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        for folder in PROGRAMS:
            for file in sorted((ROOT / folder).rglob("*.py")):
                target = Path(self.build_lib, "keras_hybrid", "programs", file.relative_to(ROOT))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)


def long_description():
    """The README as PyPI shows it, away from the repository: links and pictures are absolute.

    Where the repository's address is not known, their words stay and the links go.
    """
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    here = r"\[([^\]]*)\]\((?!https?://|#)([^)]+)\)"
    if not HOME:
        return re.sub(rf"!?{here}", r"\1", text)
    text = re.sub(rf"!{here}", rf"![\1]({HOME}/raw/main/\2)", text)
    return re.sub(here, rf"[\1]({HOME}/blob/main/\2)", text)


EXTRAS = {
    # Recipes: real data, augmentation, plots.
    "train": [
        "tensorflow-datasets>=4.9.7,<5",
        # Not asked for, pip takes minutes over old ones that do not fit today's protobuf (3.10).
        "tensorflow-metadata>=1.17",
        # Runs and data in buckets. Later versions need Python 3.11, which not every index says.
        "etils[epath]>=1.7; python_version >= '3.11'",
        "etils[epath]>=1.7,<1.14; python_version < '3.11'",
        "importlib_resources",  # tensorflow-datasets 4.9.10 needs it and does not say so
        "scikit-learn>=1.4",
        "tqdm>=4.60",
        "matplotlib>=3.8",
    ],
    # Converting is TensorFlow's; running, verifying and timing a .tflite is LiteRT's.
    "tflite": [
        "ai-edge-litert>=2.0,<3",
        "flatbuffers>=24",
        "tensorflow-model-optimization>=0.8,<0.9",
        "tf_keras>=2.18,<3",
        "matplotlib>=3.8",
    ],
    # COCO's average precision; KerasCV's metrics beside it.
    "detection": ["pycocotools>=2.0.7,<3", "keras-cv>=0.9,<0.10"],
    # Arm's compiler for its NPUs, which tells what an NPU takes of a file.
    "engines": ["ethos-u-vela>=5.2,<6"],
    # A page for other devices' browsers: its certificate, and its address as a QR code.
    "serve": ["trustme>=1.2,<2", "segno>=1.6,<2"],
    "torch": ["torch>=2.6"],
    "jax": ["jax>=0.4.30"],
    # Other implementations that the tests compare with.
    "peers": ["transformers>=4.45"],
    "test": [
        "pytest>=8",
        "pytest-xdist>=3.5",
        "pytest-timeout>=2.3",
        "hypothesis>=6.100",
        "ruff>=0.6",
        "mypy>=1.13",  # what editors and type checkers see of the package
        "pyright>=1.1.390",
        "jedi>=0.19",
        "nbclient>=0.10",  # notebooks are executed
        "ipykernel>=6.29",
    ],
}

setup(
    name="keras-hybrid",
    version=VERSION,
    description="Mobile-Former, MobileViT and iFormer in Keras 3, from training to the phone",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    url=HOME,
    project_urls={
        name: f"{HOME}{path}"
        for name, path in (
            ("Source", ""),
            ("Documentation", "/blob/main/BUILD.md"),
            ("Changelog", "/blob/main/CHANGELOG.md"),
            ("Issues", "/issues"),
        )
        if HOME
    },
    keywords="keras mobile vision transformer tflite litert quantization android",
    python_requires=">=3.10",
    packages=find_packages(include=["keras_hybrid", "keras_hybrid.*"]),
    cmdclass={"build_py": BuildWithPrograms},
    entry_points={"console_scripts": ["keras-hybrid = keras_hybrid.cli.command:main"]},
    package_data={
        "keras_hybrid": ["py.typed", "*.pyi"],
        "keras_hybrid.benchmark.browser": ["page/*"],
        "keras_hybrid.tasks.segmentation": ["*.tsv"],
        "keras_hybrid.weights": ["*.tsv"],
    },
    install_requires=[
        "absl-py>=1.4",
        "filelock>=3.13",
        "h5py>=3.10",
        "keras>=3.12,<4",
        "ml_dtypes>=0.3",  # bfloat16 in checkpoints
        "numpy>=1.26",
        "pillow>=10.1",  # photos that TensorFlow does not read as they are shown
        "safetensors>=0.4.3",
        "tensorflow>=2.18,<3",
        "wrapt>=1.14",
    ],
    extras_require=EXTRAS,
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)

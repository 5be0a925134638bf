"""Where published checkpoint files are kept: Hugging Face, GitHub releases, Google Drive, Apple."""

import os
from dataclasses import dataclass

HUGGING_FACE_VARIABLE = "HF_ENDPOINT"
GITHUB_VARIABLE = "KERAS_HYBRID_GITHUB_ENDPOINT"
APPLE_VARIABLE = "KERAS_HYBRID_APPLE_ENDPOINT"
DRIVE_VARIABLE = "KERAS_HYBRID_DRIVE_ENDPOINT"


def _endpoint(variable, default):
    return (os.environ.get(variable) or default).rstrip("/")


@dataclass(frozen=True)
class HuggingFace:
    """A file of a Hugging Face repository; `HF_ENDPOINT` names a mirror.

    Attributes:
        repository: name of the repository, such as "timm/mobilevit_s.cvnets_in1k".
        file: name of the file in the repository.
        revision: name of a branch or tag, or a commit.
    """

    repository: str
    file: str
    revision: str = "main"

    @property
    def url(self) -> str:
        """Address of the file."""
        endpoint = _endpoint(HUGGING_FACE_VARIABLE, "https://huggingface.co")
        return f"{endpoint}/{self.repository}/resolve/{self.revision}/{self.file}"


@dataclass(frozen=True)
class GitHubRelease:
    """A file attached to a GitHub release; `KERAS_HYBRID_GITHUB_ENDPOINT` names a mirror.

    Attributes:
        repository: name of the repository, "owner/name".
        tag: name of the release.
        file: name of the file in the release.
    """

    repository: str
    tag: str
    file: str

    @property
    def url(self) -> str:
        """Address of the file."""
        endpoint = _endpoint(GITHUB_VARIABLE, "https://github.com")
        return f"{endpoint}/{self.repository}/releases/download/{self.tag}/{self.file}"


@dataclass(frozen=True)
class GoogleDrive:
    """A shared file on Google Drive; `KERAS_HYBRID_DRIVE_ENDPOINT` names a mirror.

    Drive answers with the file, with an HTML page that asks for a confirmation (files that it did
    not scan for viruses), or with an HTML page that refuses (quota).

    Attributes:
        id: Drive's identifier of the file.
        file: name to keep it under; Drive's address has none.
    """

    id: str
    file: str

    @property
    def url(self) -> str:
        """Address of the file."""
        endpoint = _endpoint(DRIVE_VARIABLE, "https://drive.google.com")
        return f"{endpoint}/uc?export=download&id={self.id}"


@dataclass(frozen=True)
class AppleAssets:
    """A file among Apple's research models; `KERAS_HYBRID_APPLE_ENDPOINT` names a mirror.

    Attributes:
        folder: where it lies, such as "segmentation".
        file: its name.
    """

    folder: str
    file: str

    @property
    def url(self) -> str:
        """Address of the file."""
        endpoint = _endpoint(
            APPLE_VARIABLE,
            "https://docs-assets.developer.apple.com/ml-research/models",
        )
        return f"{endpoint}/{self.folder}/{self.file}"


Home = HuggingFace | GitHubRelease | GoogleDrive | AppleAssets


def hugging_face_files(repository: str) -> tuple[Home, ...]:
    """The weights of a Hugging Face repository: its safetensors, then its pickle."""
    return tuple(HuggingFace(repository, f) for f in ("model.safetensors", "pytorch_model.bin"))

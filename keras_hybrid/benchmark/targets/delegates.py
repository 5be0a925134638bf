"""What a model can be run on, one row each: flags, libraries and names in the log."""

import dataclasses
import re
import shlex

CLASSIC = "classic"  # TensorFlow Lite's, now LiteRT's //tflite/tools/benchmark
LITERT = "litert"  # LiteRT 2.x's //litert/tools


@dataclasses.dataclass(frozen=True)
class Delegate:
    """What to run on, in the words of each program.

    In flags, files and paths `{folder}` stands for the folder on the phone.

    Args:
        name: the user's word for it.
        flags: by flavour; a flavour that is missing cannot do it.
        expected: a regular expression for the delegate's name in the log; None if the log need
            not name one.
        required: whether a log that does not name the delegate means that it did not run.
        libraries: beginnings of the names of the vendor's libraries that it needs beside the
            program; each is given with --library.
        files: name -> text of what is written beside the program.
        dsp_folders: where the loader of the phone's DSP looks beyond the folder.
        accelerator: what LiteRT's `run_model` calls it; None if that cannot run it.
    """

    name: str
    flags: dict[str, tuple[str, ...]]
    expected: str | None = None
    required: bool = True
    libraries: tuple[str, ...] = ()
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    dsp_folders: tuple[str, ...] = ()
    accelerator: str | None = None


_QUALCOMM_DSP = ("/vendor/dsp/cdsp", "/vendor/lib/rfsa/adsp", "/vendor/lib64/rfs/dsp")
_DELEGATES = (
    Delegate(
        "cpu",
        {CLASSIC: ("--use_xnnpack=true",), LITERT: ("--use_cpu=true",)},
        "XNNPACK",
        required=False,  # Linux builds do not log it
        accelerator="cpu",
    ),
    Delegate("builtin", {CLASSIC: ("--use_xnnpack=false",)}),
    Delegate(
        "gpu",
        {CLASSIC: ("--use_gpu=true",), LITERT: ("--use_gpu=true",)},
        "GPU|LITERT_CL|DRIFT",
        accelerator="gpu",
    ),
    Delegate("nnapi", {CLASSIC: ("--use_nnapi=true",)}, "NNAPI"),
    Delegate("npu", {LITERT: ("--use_npu=true",)}, "NPU|Dispatch", accelerator="npu"),
    # Vendors' own, from their documentation; none could be tried on a device here.
    # LiteRT 2.x with a file that the vendor's compiler has compiled before (ahead of time).
    Delegate(
        "dispatch",
        {LITERT: ("--use_npu=true", "--dispatch_library_path={folder}")},
        "NPU|Dispatch",
        libraries=("libLiteRtDispatch",),
        dsp_folders=_QUALCOMM_DSP,
        accelerator="npu",
    ),
    # LiteRT 2.x that compiles on the phone, with the vendor's compiler beside the dispatch.
    Delegate(
        "compiled",
        {
            LITERT: (
                "--use_npu=true",
                "--dispatch_library_path={folder}",
                "--compiler_plugin_library_path={folder}",
            )
        },
        "NPU|Dispatch",
        libraries=("libLiteRtDispatch", "libLiteRtCompilerPlugin"),
        dsp_folders=_QUALCOMM_DSP,
        accelerator="npu",
    ),
    # Qualcomm, docs.qualcomm.com: "Benchmark Qualcomm AI Runtime using an external delegate".
    Delegate(
        "qnn",
        {
            CLASSIC: (
                "--external_delegate_path={folder}/libQnnTFLiteDelegate.so",
                "--external_delegate_options=backend_type:htp;"
                "library_path:{folder}/libQnnHtp.so;skel_library_dir:{folder}",
            )
        },
        "QNN|EXTERNAL",
        libraries=("libQnnTFLiteDelegate.so", "libQnnHtp.so", "libQnnSystem.so", "libQnnHtpV"),
        dsp_folders=_QUALCOMM_DSP,
    ),
    # MediaTek's stable delegate: loaded by a file of settings, not by a path.
    Delegate(
        "neuron",
        {CLASSIC: ("--stable_delegate_settings_file={folder}/neuron_settings.json",)},
        "Neuron|STABLE",
        libraries=("libneuron_stable_delegate.so",),
        files={
            "neuron_settings.json": '{"delegate": "NONE", "stable_delegate_loader_settings": '
            '{"delegate_path": "{folder}/libneuron_stable_delegate.so"}}\n'
        },
    ),
    # Arm, on boards with Linux or Android: the file is one that Vela has compiled.
    Delegate(
        "ethosu",
        {CLASSIC: ("--external_delegate_path={folder}/libethosu_delegate.so",)},
        "Ethos|EXTERNAL",
        libraries=("libethosu_delegate.so",),
    ),
)
DELEGATES = {delegate.name: delegate for delegate in _DELEGATES}


def custom_delegate(definition: str) -> Delegate:
    """A delegate from `NAME[:EXPECTED] --flag=value ...`, quoted as for a shell.

    Args:
        definition: e.g. `dsp:Hexagon --use_hexagon=true "--hexagon_lib_path=/a b"`. EXPECTED is
            (a part of) the delegate's name in the log; without it the log is not asked.

    Raises:
        ValueError: if it is not of this form, or takes a built-in delegate's name.
    """
    try:
        name, *flags = shlex.split(definition)
        name, _, expected = name.partition(":")
    except ValueError:
        name, flags = "", []
    valid = re.fullmatch(r"[\w.+-]+", name) and flags and all(f.startswith("--") for f in flags)
    if not valid or name in DELEGATES:
        raise ValueError(
            "A delegate is defined as 'NAME[:EXPECTED] --flag=value ...' with a NAME other than "
            f"{sorted(DELEGATES)}. Received: {definition!r}"
        )
    flags = tuple(flags)
    pattern = re.escape(expected) if expected else None
    return Delegate(name, {CLASSIC: flags, LITERT: flags}, pattern)

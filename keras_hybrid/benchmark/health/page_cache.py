"""The page cache of a phone before a cold start."""

import shlex


def drop_page_cache(adb, files: list[str]) -> str:
    """Makes a phone forget the contents of files that it has read, and says what came of it.

    Dropping needs root; where there is none, the files are read as they are cached.

    Args:
        adb: an `Adb`.
        files: whose pages are read again after a failure, so that the state is known.

    Returns:
        "dropped" or "warm (..)", with the reason.
    """
    drop = "sync; echo 3 > /proc/sys/vm/drop_caches && echo @dropped"
    for root in ("sh -c", "su 0 sh -c", "su -c"):
        answer = adb.script(f"{root} {shlex.quote(drop)}", timeout=60.0)
        if "@dropped" in answer.output:
            return "dropped"
    adb.script(f"cat {shlex.join(files)} > /dev/null")
    return "warm (dropping it needs a rooted phone)"

"""A page that other devices' browsers call secure: https with a certificate made on the spot."""

import socket
import ssl

LOCAL = ("localhost", "127.0.0.1", "::1")


def addresses_of(host: str) -> list[str]:
    """Where other devices find a server that listens at `host`.

    Args:
        host: a name or an address; "0.0.0.0" and "::" stand for all of this machine's.
    """
    if host not in ("0.0.0.0", "::"):
        return [host]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it asks which way would be taken
            return [probe.getsockname()[0]]
        except OSError:  # no network
            return ["localhost"]


def make_authority():
    """An authority of this run alone, which issues its certificate: `trustme.CA`.

    Raises:
        ModuleNotFoundError: without trustme, which the extra "serve" installs.
    """
    import trustme

    return trustme.CA(organization_name="keras-hybrid serve, for one run")


def server_context(authority, names: list[str]) -> ssl.SSLContext:
    """What a server at these names and addresses, and at this machine's own, shows.

    Args:
        authority: of `make_authority`.
        names: names or addresses by which it is called.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*dict.fromkeys((*names, *LOCAL))).configure_cert(context)
    return context


def qr_code(text: str) -> str:
    """Lines of a terminal that a phone's camera reads as the text.

    Raises:
        ModuleNotFoundError: without segno, which the extra "serve" installs.
    """
    import io

    import segno

    lines = io.StringIO()
    segno.make(text, micro=False).terminal(lines, compact=True)
    return lines.getvalue().rstrip("\n")

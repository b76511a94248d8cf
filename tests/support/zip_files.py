"""Small zip archives for the tests: whole, and damaged in several ways."""

import io
import random
import zipfile

BODY = random.Random(0).randbytes(300_000)


def zip_bytes(members: dict, compression=zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive of name (or ZipInfo) -> bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as opened:
        for name, body in members.items():
            opened.writestr(name, body)
    return stream.getvalue()


def damaged_zip(kind: str) -> bytes:
    """An archive that is damaged as `kind` says."""
    whole = bytearray(zip_bytes({"index.csv": BODY}, zipfile.ZIP_STORED))
    if kind == "flipped bit":
        whole[1000] ^= 1
    elif kind == "truncated":
        del whole[len(whole) // 2 :]
    elif kind == "encrypted":
        whole[6] |= 1
        whole[whole.index(b"PK\x01\x02") + 8] |= 1
    elif kind == "page":
        return b"<html>try later</html>"
    elif kind == "empty":
        return b""
    elif kind == "no files":
        return zip_bytes({"folder/": b""})
    return bytes(whole)

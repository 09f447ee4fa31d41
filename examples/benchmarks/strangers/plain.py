"""Changes of bytes, of text, of TOML, JSON and safetensors, and of .npz archives."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from random import Random
from typing import Any

import numpy as np

#: Values that TOML and JSON can spell and few programs expect.
WORDS = (
    *("0", "-1", "1e308", "-0.0", "inf", "nan", "true", '""', "[]", "{}", "9" * 400, "9" * 5000, "0x" + "f" * 5000),
    *("2020-01-01", "null", "NaN", "Infinity", '"\\ud800"', '"\\u0000"', "'''x\ny'''", "0.1", "65536", "4294967296"),
    *("[" * 3000 + "]" * 3000, "{a=" * 300 + "1" + "}" * 300, '"' + "x" * 100_000 + '"', '{"a": [1, {"b": null}]}'),
)
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
SIGNS = ("[", "]", "{", "}", '"', "=", ".", ",", "\n", "#", "\0", "\ufeff", "\ud7ff", "[[a]]\n", "a.b.c = 1\n", ": ")


def changed_bytes(data: bytes, rng: Random) -> bytes:
    """Some bytes flipped, cut off, left out, repeated or put elsewhere."""
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 12))):
        size = max(1, len(result))
        at, length = rng.randrange(size), rng.choice((1, 2, 4, 8, rng.randrange(1, 200)))
        kind = rng.randrange(7)
        if kind < 3 and result:
            result[at % len(result)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 3:
            result[at : at + length] = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
        elif kind == 4:
            del result[at : at + length]
        elif kind == 5:
            source = rng.randrange(size)
            result[at:at] = result[source : source + length]
        elif rng.random() < 0.3:
            del result[at:]
    return bytes(result)


def changed_text(text: str, rng: Random) -> str:
    """A text like TOML or JSON with some of its values, keys and signs replaced."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        lines = text.split("\n")
        at = rng.randrange(len(lines))
        kind = rng.randrange(8)
        if kind < 4:
            for sign in ("=", ":"):
                head, found, _ = lines[at].partition(sign)
                if found:
                    lines[at] = f"{head}{sign} {rng.choice(WORDS)}{rng.choice(('', ','))}"
                    break
        elif kind == 4:
            lines.insert(at, lines[rng.randrange(len(lines))])
        elif kind == 5:
            del lines[at]
        else:
            place = rng.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:place] + rng.choice(SIGNS) + lines[at][place + rng.randrange(2) :]
        text = "\n".join(lines)
    return text


def changed_json(content: Any, rng: Random) -> Any:
    """A JSON value with one part of it replaced."""
    odd: list[Any] = [None, True, -1, 0, 1 << 31, 1 << 63, 1 << 200, 1.5, "", "x" * 5000, [], {}, [[]], {"a": 1}]
    if isinstance(content, dict) and content and rng.random() < 0.9:
        key = rng.choice(sorted(content))
        if rng.random() < 0.1:
            return {k: v for k, v in content.items() if k != key}
        name = rng.choice((key, key, key, key, "", "__metadata__", "data_offsets"))
        return {**{k: v for k, v in content.items() if k != key}, name: changed_json(content[key], rng)}
    if isinstance(content, list) and content and rng.random() < 0.8:
        at = rng.randrange(len(content))
        return [*content[:at], changed_json(content[at], rng), *content[at + rng.randrange(2) :]]
    return rng.choice(odd)


def changed_safetensors(data: bytes, rng: Random) -> bytes:
    """The header, or its length, replaced; the layout is: length of the header, header in JSON, numbers."""
    (size,) = struct.unpack_from("<Q", data)
    header = json.dumps(changed_json(json.loads(data[8 : 8 + size]), rng)).encode()
    stated = len(header) if rng.random() < 0.85 else rng.choice((0, 1, 1 << 20, 1 << 31, (1 << 63) - 1, (1 << 64) - 1))
    return struct.pack("<Q", stated) + header + data[8 + size :]


def changed_npz(data: bytes, rng: Random) -> bytes:
    """Members with other contents, headers, names, sizes and ways of packing."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(result, "w") as new:
        new.comment = old.comment if rng.random() < 0.7 else rng.choice((b"", b"x" * 300, b"\xff"))
        members = [(i.filename, old.read(i)) for i in old.infolist()]
        chosen = rng.randrange(len(members))
        for index, (name, content) in enumerate(members):
            if index == chosen and rng.random() < 0.1:
                continue
            if index == chosen:
                name, content = _changed_member(name, content, rng)
            packing = rng.choice((zipfile.ZIP_DEFLATED,) * 6 + PACKINGS)
            new.writestr(zipfile.ZipInfo(name), content, packing)
        if rng.random() < 0.1:
            name, content = members[chosen]
            new.writestr(rng.choice(("foreign.npy", "readme.txt", "../up.npy")), content, zipfile.ZIP_DEFLATED)
    return _changed_directory(result.getvalue(), rng) if rng.random() < 0.4 else result.getvalue()


def _changed_member(name: str, content: bytes, rng: Random) -> tuple[str, bytes]:
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice(("x.npy", name.removesuffix(".npy"), "", "a/b.npy", "é.npy", name * 40)), content
    if kind == 1:
        return name, bytes(rng.choice((0, 10, 50_000_000)))
    if kind == 2:
        return name, changed_bytes(content, rng)
    values = np.load(io.BytesIO(content), allow_pickle=False)
    other: Any = values.astype(rng.choice(("i1", "i8", "u4", "f8", "f2", "c16", "S3", "U2", ">i4", "?")))
    if kind == 4:
        column = values.reshape(-1, 1)
        other = rng.choice((values[:0], values[:1], values[None], np.append(values, 0), column, values.sum()))
    stream = io.BytesIO()
    if kind == 5:
        shape = rng.choice(((1 << 29,), (1 << 40,), (-1,), (1 << 62, 8), (), ("x",), (values.size, 1)))
        header = {"descr": rng.choice(("<i4", "<f8", "|O", "<U1000000", [("a", "<i4")])), "fortran_order": False}
        formats: Any = np.lib.format  # without types
        formats.write_array_header_1_0(stream, {**header, "shape": shape})
        return name, stream.getvalue() + content[128:]
    np.save(stream, other, allow_pickle=False)
    return name, stream.getvalue()


def _changed_directory(data: bytes, rng: Random) -> bytes:
    """A field of a local header or of the central directory replaced (APPNOTE 6.3.9, 4.3.7 and 4.3.12)."""
    result, signs = bytearray(data), (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06")
    sign = rng.choice(signs)
    starts = [i for i in range(len(data) - 4) if data[i : i + 4] == sign]
    if starts:
        at = rng.choice(starts) + rng.choice((4, 6, 8, 10, 14, 16, 18, 20, 22, 24, 26, 28, 30, 42))
        width = rng.choice((1, 2, 4))
        result[at : at + width] = rng.choice((bytes(width), b"\xff" * width, rng.randbytes(width)))
    return bytes(result)

# SPDX-License-Identifier: ISC
"""Tar archives byte by byte, for those that no library writes."""

BLOCK = 512
END = bytes(2 * BLOCK)


def pad(data):
    return data + bytes(-len(data) % BLOCK)


def header(name, size=0, kind=b"0", link=b"", size_field=None, prefix=b"", magic=b"ustar\x0000"):
    """A ustar header with the right checksum; the name is bytes."""
    head = bytearray(BLOCK)

    def put(at, length, value):
        assert len(value) <= length, value
        head[at:at + len(value)] = value

    put(0, 100, name)
    put(100, 8, b"0000644\0")
    put(108, 8, b"0000000\0")
    put(116, 8, b"0000000\0")
    put(124, 12, b"%011o\0" % size if size_field is None else size_field)
    put(136, 12, b"00000000000\0")
    put(148, 8, b" " * 8)
    put(156, 1, kind)
    put(157, 100, link)
    put(257, 8, magic)
    put(345, 155, prefix)
    put(148, 8, b"%06o\0 " % sum(head))
    return bytes(head)


def entry(name, data=b"", **how):
    if isinstance(name, str):
        name = name.encode()
    return header(name, len(data), **how) + pad(data)


def pax(**records):
    """The pax header of the entry that follows; keys may have dots as "__"."""
    data = b""
    for key, value in records.items():
        body = b" %b=%b\n" % (key.replace("__", ".").encode(), str(value).encode())
        length = len(body) + 1
        while length != len(body) + len(str(length)):
            length += 1
        data += str(length).encode() + body
    return entry(b"pax", data, kind=b"x")


def base256(value):
    """GNU's form of a size."""
    return bytes([0x80 if value >= 0 else 0xff]) + value.to_bytes(11, "big", signed=True)

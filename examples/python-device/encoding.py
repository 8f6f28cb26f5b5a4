"""MessagePack as docs/FORMATS.md ("Encoding") restricts it, and the hashes over it.

A value is None, a bool, a natural number, text, bytes or a list, and has one encoding: `decode` refuses every other one,
so that what was hashed and signed cannot be written in two ways. Fields are checked by small functions (`natural`,
`octets`, ...), put together by `fields`.
"""

import hashlib

MOST_BYTES = 4 * 1024 * 1024
MOST_NESTED = 32
MOST_VALUES = 262_144
MOST_NATURAL = 2**53 - 1


class Refused(Exception):
    """What must not be believed or sent. `code` is one of docs/ERRORS.md."""

    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")
        self.code = code


def malformed(reason):
    return Refused("malformed", reason)


def u64(number):
    return number.to_bytes(8, "big")


def hash_of(domain, *parts):
    """SHA-256 of domain, a zero byte and the parts: 32 bytes."""
    return hashlib.sha256(signed_bytes(domain, *parts)).digest()


def signed_bytes(domain, *parts):
    """What a signature covers that FORMATS says covers this domain and these parts."""
    return domain.encode("ascii") + b"\0" + b"".join(parts)


# Writing


def encode(value):
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return _encode_natural(value)
    if isinstance(value, str):
        text = value.encode("utf-8")
        short = bytes([0xA0 | len(text)]) if len(text) < 32 else None
        return (short or _length(len(text), 0xD9, 0xDA, 0xDB)) + text
    if isinstance(value, bytes):
        return _length(len(value), 0xC4, 0xC5, 0xC6) + value
    short = bytes([0x90 | len(value)]) if len(value) < 16 else None
    head = short or _length(len(value), None, 0xDC, 0xDD)
    return head + b"".join(encode(item) for item in value)


def _encode_natural(value):
    if not 0 <= value <= MOST_NATURAL:
        raise ValueError(f"expected 0 to 2^53-1, got {value}")
    if value < 0x80:
        return bytes([value])
    if value < 2**32:
        return _length(value, 0xCC, 0xCD, 0xCE)
    return b"\xd3" + u64(value)


def _length(length, one, two, four):
    if one is not None and length < 2**8:
        return bytes([one, length])
    if length < 2**16:
        return bytes([two]) + length.to_bytes(2, "big")
    return bytes([four]) + length.to_bytes(4, "big")


# Reading


def decode(data, most_bytes=MOST_BYTES):
    """The one value in `data`. Raises `Refused` (malformed)."""
    if len(data) > most_bytes:
        raise malformed(f"expected at most {most_bytes} bytes, got {len(data)}")
    reader = _Reader(data)
    value = reader.value(0)
    if reader.at != len(data):
        raise malformed("bytes after the value")
    return value


class _Reader:
    def __init__(self, data):
        self.data = data
        self.at = 0
        self.values = 0

    def take(self, length):
        end = self.at + length
        if end > len(self.data):
            raise malformed("a length greater than the bytes that are left")
        taken = bytes(self.data[self.at : end])
        self.at = end
        return taken

    def number(self, size, least):
        number = int.from_bytes(self.take(size), "big")
        if number < least:
            raise malformed("a longer form where a shorter one fits")
        return number

    def value(self, depth):
        self.values += 1
        if self.values > MOST_VALUES:
            raise malformed("too many values")
        first = self.take(1)[0]
        if first < 0x80:
            return first
        if 0x90 <= first <= 0x9F:
            return self.array(first & 0x0F, depth)
        if 0xA0 <= first <= 0xBF:
            return self.text(first & 0x1F)
        if first in _NAMED:
            return _NAMED[first]
        if first in _NUMBERS:
            size, least, most = _NUMBERS[first]
            number = self.number(size, least)
            if number > most:
                raise malformed("a number above 2^53-1")
            return number
        if first in _LENGTHS:
            kind, size, least = _LENGTHS[first]
            length = self.number(size, least)
            if kind == "text":
                return self.text(length)
            return self.take(length) if kind == "bytes" else self.array(length, depth)
        raise malformed(f"first byte {first:02x}")

    def text(self, length):
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError:
            raise malformed("text that is no UTF-8") from None

    def array(self, length, depth):
        if depth == MOST_NESTED:
            raise malformed("too many nested arrays")
        if length > len(self.data) - self.at:
            raise malformed("a length greater than the bytes that are left")
        return [self.value(depth + 1) for _ in range(length)]


_NAMED = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS = {
    0xCC: (1, 0x80, 2**8),
    0xCD: (2, 2**8, 2**16),
    0xCE: (4, 2**16, 2**32),
    0xD3: (8, 2**32, MOST_NATURAL),
}
_LENGTHS = {
    0xD9: ("text", 1, 32),
    0xDA: ("text", 2, 2**8),
    0xDB: ("text", 4, 2**16),
    0xC4: ("bytes", 1, 0),
    0xC5: ("bytes", 2, 2**8),
    0xC6: ("bytes", 4, 2**16),
    0xDC: ("array", 2, 16),
    0xDD: ("array", 4, 2**16),
}


# Fields: each check takes a decoded value and gives it back, or raises `Refused`.


def natural(most=MOST_NATURAL, least=0):
    def check(value):
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise malformed(f"expected an integer from {least} to {most}")
        return value

    return check


def octets(least, most=None):
    def check(value):
        if not isinstance(value, bytes) or not least <= len(value) <= (least if most is None else most):
            raise malformed(f"expected {least} to {most or least} bytes")
        return value

    return check


def text(most):
    def check(value):
        if not isinstance(value, str) or len(value.encode("utf-8")) > most:
            raise malformed(f"expected text of at most {most} bytes")
        return value

    return check


def optional(check):
    return lambda value: None if value is None else check(value)


def array(check, most, least=0):
    def check_all(value):
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise malformed(f"expected a list of {least} to {most}")
        return [check(item) for item in value]

    return check_all


def fields(*checks):
    """A structure: an array with these fields in this order."""

    def check_all(value):
        if not isinstance(value, list) or len(value) != len(checks):
            raise malformed(f"expected an array of {len(checks)}")
        return [check(item) for check, item in zip(checks, value)]

    return check_all


def variant(**checks_by_name):
    """`[number, fields]`; the names are `_1`, `_2`, ... for the numbers."""

    def check(value):
        if not isinstance(value, list) or len(value) != 2 or isinstance(value[0], bool):
            raise malformed("expected a variant")
        inner = checks_by_name.get(f"_{value[0]}")
        if inner is None:
            raise malformed(f"expected another variant than {value[0]}")
        return [value[0], inner(value[1])]

    return check


digest = octets(32)
version_1 = natural(1, 1)


def ascending(ids, what):
    if any(one >= other for one, other in zip(ids, ids[1:])):
        raise malformed(f"{what}: expected them ascending, each once")
    return ids

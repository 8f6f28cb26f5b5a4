"""A second evaluator of contracts, written from docs/FORMATS.md alone ("Encoding", "Scalars", "Contracts"); standard library only.

Each line of standard input is `CONTRACT RUN`, both encoded, in hexadecimal. RUN is `[values [[name, scalar] ...], readings
[[stream, scalar or nil, time] ...], state [scalar ...], now]`. Each line of standard output is the encoded outcome in hexadecimal:
`[1, decision, [[name, scalar] ...], state]`, `[2, rule]`, `[3, reason, place]`; or `refused` for a contract that is none.
"""
import hashlib
import math
import re
import struct
import sys


class Refused(Exception):
    """The contract is malformed or invalid."""


class Failed(Exception):
    """The run fails: a reason; the place is added by who knows it."""


# Encoding

class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise Refused("bytes")
        self.at += count
        return self.data[self.at - count:self.at]

    def size(self, count, below):
        value = int.from_bytes(self.take(count), "big")
        if value <= below:
            raise Refused("shortest form")
        return value

    def value(self, depth=0):
        first = self.take(1)[0]
        if first < 0x80:
            return first
        if 0xa0 <= first < 0xc0:
            return self.text(first - 0xa0)
        if 0x90 <= first < 0xa0:
            return self.array(first - 0x90, depth)
        if first == 0xc0:
            return None
        if first in (0xc2, 0xc3):
            return first == 0xc3
        if first in (0xc4, 0xc5, 0xc6):
            width = 1 << (first - 0xc4)
            return self.take(self.size(width, (-1, 0xff, 0xffff)[first - 0xc4]))
        if first in (0xcc, 0xcd, 0xce):
            width = 1 << (first - 0xcc)
            return self.size(width, (0x7f, 0xff, 0xffff)[first - 0xcc])
        if first == 0xd3:
            value = self.size(8, 0xffffffff)
            if value > 2 ** 53 - 1:
                raise Refused("range")
            return value
        if first in (0xd9, 0xda, 0xdb):
            width = 1 << (first - 0xd9)
            return self.text(self.size(width, (0x1f, 0xff, 0xffff)[first - 0xd9]))
        if first in (0xdc, 0xdd):
            width = 2 << (first - 0xdc)
            return self.array(self.size(width, (0xf, 0xffff)[first - 0xdc]), depth)
        raise Refused("type")

    def text(self, length):
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError:
            raise Refused("text")

    def array(self, length, depth):
        if depth >= 32 or length > len(self.data) - self.at:
            raise Refused("array")
        return [self.value(depth + 1) for _ in range(length)]


def decoded(data):
    reader = Reader(data)
    value = reader.value()
    if reader.at != len(data):
        raise Refused("end")
    return value


def encoded(value):
    if value is None:
        return b"\xc0"
    if value is True or value is False:
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        for limit, head, width in ((0x7f, b"", 1), (0xff, b"\xcc", 1), (0xffff, b"\xcd", 2), (0xffffffff, b"\xce", 4)):
            if value <= limit:
                return head + value.to_bytes(width, "big")
        return b"\xd3" + value.to_bytes(8, "big")
    if isinstance(value, str):
        data = value.encode()
        head = bytes([0xa0 + len(data)]) if len(data) < 32 else b"\xd9" + bytes([len(data)])
        return head + data
    if isinstance(value, bytes):
        return b"\xc4" + bytes([len(value)]) + value
    head = bytes([0x90 + len(value)]) if len(value) < 16 else b"\xdc" + len(value).to_bytes(2, "big")
    return head + b"".join(encoded(item) for item in value)


# Scalars: a binary64 is a float, an int64 an int, a boolean a bool, a text a str.

def is_list(value, low, high=None):
    return isinstance(value, list) and low <= len(value) <= (low if high is None else high)


def is_natural(value, most):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def scalar(wire):
    if not is_list(wire, 2) or isinstance(wire[0], bool):
        raise Refused("scalar")
    kind, value = wire
    if kind == 3 and isinstance(value, bool):
        return value
    if kind == 4 and isinstance(value, str) and len(value.encode()) <= 128:
        return value
    if kind not in (1, 2) or not isinstance(value, bytes) or len(value) != 8:
        raise Refused("scalar")
    if kind == 2:
        return struct.unpack(">q", value)[0]
    number = struct.unpack(">d", value)[0]
    if not math.isfinite(number) or value == b"\x80" + bytes(7):
        raise Refused("scalar")
    return number


def scalar_wire(value):
    if isinstance(value, bool):
        return [3, value]
    if isinstance(value, float):
        return [1, struct.pack(">d", value)]
    return [2, struct.pack(">q", value)]


# Contracts

WORDS = {"abs", "and", "false", "has", "if", "max", "min", "not", "now", "or", "sqrt", "time", "true"}
LEAVES = {1: 1, 2: 1, 3: 1, 4: 1, 5: 0}
NUMBERS, BOOLEANS = ("number", "number"), ("boolean", "boolean")
OPERATORS = {
    16: (NUMBERS, "number"), 17: (NUMBERS, "number"), 18: (NUMBERS, "number"), 19: (NUMBERS, "number"),
    20: (("number",), "number"), 21: (("number",), "number"), 22: (NUMBERS, "number"), 23: (NUMBERS, "number"),
    24: (("number",), "number"),
    32: (NUMBERS, "boolean"), 33: (NUMBERS, "boolean"), 34: (NUMBERS, "boolean"), 35: (NUMBERS, "boolean"),
    36: (NUMBERS, "boolean"), 37: (NUMBERS, "boolean"),
    48: (BOOLEANS, "boolean"), 49: (BOOLEANS, "boolean"), 50: (("boolean",), "boolean"),
    56: (("boolean", None, None), None),
}
REASONS = {"missing-input": 1, "wrong-input": 2, "no-reading": 3, "division-by-zero": 4, "not-finite": 5, "overflow": 6, "negative-root": 7}


def need(holds):
    if not holds:
        raise Refused("contract")


def is_field(value):
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,31}", value, re.ASCII) is not None


def is_name(value):
    return is_field(value) and value not in WORDS


def is_printable(value, low, high):
    return isinstance(value, str) and low <= len(value) <= high and all(" " <= c <= "~" for c in value)


def is_digest(value):
    return isinstance(value, bytes) and len(value) == 32


def is_ascending(values):
    return all(a < b for a, b in zip(values, values[1:]))


def is_topic(value):
    return is_printable(value, 1, 128) and not set(value) & set("+#")


def is_plain_filter(value):
    if not is_printable(value, 1, 128):
        return False
    levels = value.split("/")
    if levels[0] in ("", "mote") or levels[0][0] in "$+#":
        return False
    for i, level in enumerate(levels):
        if level == "#":
            if i != len(levels) - 1:
                return False
        elif level != "+" and set(level) & set("+#"):
            return False
    return True


def well_formed(node, depth=1):
    need(depth <= 16 and isinstance(node, list) and len(node) > 0)
    number = node[0]
    need(isinstance(number, int) and not isinstance(number, bool))
    if number in OPERATORS:
        need(len(node) == 1 + len(OPERATORS[number][0]))
        for operand in node[1:]:
            well_formed(operand, depth + 1)
        return
    need(number in LEAVES and len(node) == 1 + LEAVES[number])
    if number == 1:
        scalar(node[1])
    elif number != 5:
        need(is_name(node[1]))


class Contract:
    def __init__(self, data):
        need(len(data) <= 12 * 1024)
        fields = decoded(data)
        need(is_list(fields, 16))
        (form, name, version, about, arithmetic, callers, attested, publish, self.inputs, self.streams, self.state,
         self.let, self.rules, self.decide, self.values, self.set) = fields
        need(is_natural(form, 1) and form == 1)
        need(isinstance(name, str) and re.fullmatch(r"[a-z0-9-]{1,32}", name) is not None)
        need(is_natural(version, 2 ** 32 - 1) and is_printable(about, 0, 256))
        need(is_natural(arithmetic, 2) and arithmetic in (1, 2))
        self.integer = arithmetic == 2
        need(callers is None or is_list(callers, 0, 32) and all(map(is_digest, callers)) and is_ascending(callers))
        need(isinstance(attested, bool))
        need(is_list(publish, 0, 16) and all(map(is_plain_filter, publish)) and is_ascending(publish))
        self.shape()
        self.check()

    def shape(self):
        need(is_list(self.inputs, 0, 64) and is_list(self.streams, 0, 16) and is_list(self.state, 0, 32))
        for item in self.inputs:
            need(is_list(item, 2) and is_name(item[0]) and is_natural(item[1], 2) and item[1] in (1, 2))
        for item in self.streams:
            need(is_list(item, 5) and is_name(item[0]) and (item[1] is None or is_digest(item[1])))
            need(is_topic(item[2]) and is_field(item[3]) and isinstance(item[4], bool))
        for item in self.state:
            need(is_list(item, 2) and is_name(item[0]))
            scalar(item[1])
        for items, most in ((self.let, 64), (self.rules, 16), (self.set, 32)):
            need(is_list(items, 0, most))
            for item in items:
                need(is_list(item, 2) and is_name(item[0]))
                well_formed(item[1])
        need(is_list(self.decide, 1, 16))
        for item in self.decide:
            need(is_list(item, 2) and is_printable(item[1], 1, 64))
            if item[0] is not None:
                well_formed(item[0])
        need(is_list(self.values, 0, 16) and all(map(is_name, self.values)))

    def check(self):
        self.steps, self.types = 32 + 31 * len(self.streams), {}
        for name, kind in self.inputs:
            self.declare(name, "number" if kind == 1 else "boolean")
        for name, *_ in self.streams:
            self.declare(name, "number")
        self.stream_names = {name for name, *_ in self.streams}
        for name, initial in self.state:
            self.declare(name, self.type_of_scalar(scalar(initial)))
        for name, expression in self.let:
            self.declare(name, self.type_of(expression))
        names = [name for name, _ in self.rules]
        need(len(set(names)) == len(names))
        for _, expression in self.rules:
            need(self.type_of(expression) == "boolean")
        for i, (condition, decision) in enumerate(self.decide):
            need((condition is None) == (i == len(self.decide) - 1) and not decision.startswith("failed"))
            need(condition is None or self.type_of(condition) == "boolean")
        need(len(set(self.values)) == len(self.values) and all(name in self.types for name in self.values))
        self.steps += len(self.values)
        names, variables = [name for name, _ in self.set], [name for name, _ in self.state]
        need(len(set(names)) == len(names) and all(name in variables for name in names))
        for name, expression in self.set:
            need(self.type_of(expression) == self.types[name])
        need(self.steps <= 1024)

    def declare(self, name, kind):
        need(name not in self.types)
        self.types[name] = kind
        self.steps += 1

    def type_of_scalar(self, value):
        if isinstance(value, bool):
            return "boolean"
        need(isinstance(value, int if self.integer else float))
        return "number"

    def type_of(self, node):
        self.steps += 1
        number = node[0]
        if number == 1:
            return self.type_of_scalar(scalar(node[1]))
        if number == 2:
            need(node[1] in self.types)
            return self.types[node[1]]
        if number in (3, 4):
            need(node[1] in self.stream_names)
            return "number" if number == 3 else "boolean"
        if number == 5:
            return "number"
        wanted, result = OPERATORS[number]
        got = [self.type_of(operand) for operand in node[1:]]
        if number == 56:
            need(got[0] == "boolean" and got[1] == got[2])
            return got[1]
        need(tuple(got) == wanted)
        return result


# Runs

class Run:
    def __init__(self, contract, run):
        values, readings, state, now = run
        self.contract, self.now = contract, now
        self.given = {name: scalar(value) for name, value in values}
        self.readings = {name: (None if value is None else scalar(value), time) for name, value, time in readings}
        self.state = [scalar(value) for value in state]
        self.known = {}
        self.place = ""

    def outcome(self):
        try:
            return self.run()
        except Failed as failure:
            return [3, REASONS[str(failure)], self.place]

    def run(self):
        contract = self.contract
        for (name, _), value in zip(contract.state, self.state):
            self.known[name] = value
        for name, kind in contract.inputs:
            self.place = name
            if name not in self.given:
                raise Failed("missing-input")
            value = self.admitted(self.given[name], kind == 2)
            if value is None:
                raise Failed("wrong-input")
            self.known[name] = value
        for name, expression in contract.let:
            self.place = name
            self.known[name] = self.value(expression)
        for name, expression in contract.rules:
            self.place = "rule " + name
            if not self.value(expression):
                return [2, name]
        for i, (condition, decision) in enumerate(contract.decide):
            self.place = "decision %d" % (i + 1)
            if condition is None or self.value(condition):
                break
        shown = []
        for name in contract.values:
            self.place = name
            shown.append([name, scalar_wire(self.named(name))])
        following = {}
        for name, expression in contract.set:
            self.place = "set " + name
            following[name] = self.value(expression)
        return [1, decision, shown, [scalar_wire(following.get(name, self.known[name])) for name, _ in contract.state]]

    def admitted(self, given, boolean=False):
        if boolean or isinstance(given, bool):
            return given if boolean and isinstance(given, bool) else None
        if not self.contract.integer:
            return given if isinstance(given, float) else None
        if isinstance(given, int):
            return given
        whole = isinstance(given, float) and given.is_integer() and abs(given) <= 2 ** 53 - 1
        return int(given) if whole else None

    def reading(self, name):
        value, time = self.readings.get(name, (None, 0))
        value = None if value is None else self.admitted(value)
        return None if value is None else (value, time)

    def present(self, name):
        reading = self.reading(name)
        if reading is None:
            raise Failed("no-reading")
        return reading

    def named(self, name):
        return self.known[name] if name in self.known else self.present(name)[0]

    def time(self, milliseconds):
        return milliseconds if self.contract.integer else float(milliseconds)

    def value(self, node):
        number = node[0]
        if number == 1:
            return scalar(node[1])
        if number == 2:
            return self.named(node[1])
        if number == 3:
            return self.time(self.present(node[1])[1])
        if number == 4:
            return self.reading(node[1]) is not None
        if number == 5:
            return self.time(self.now)
        if number == 48:
            return self.value(node[1]) and self.value(node[2])
        if number == 49:
            return self.value(node[1]) or self.value(node[2])
        if number == 56:
            return self.value(node[2] if self.value(node[1]) else node[3])
        return self.applied(number, *[self.value(operand) for operand in node[1:]])

    def applied(self, number, a, b=None):
        if number == 50:
            return not a
        if number == 20:
            return self.result(self.time(0) - a)
        if number == 21:
            return a if a >= 0 else self.result(self.time(0) - a)
        if number == 24:
            return self.root(a)
        if number == 19:
            return self.quotient(a, b)
        if number == 22:
            return a if a <= b else b
        if number == 23:
            return a if a >= b else b
        if number in (16, 17, 18):
            return self.result(a + b if number == 16 else a - b if number == 17 else a * b)
        return {32: a < b, 33: a <= b, 34: a > b, 35: a >= b, 36: a == b, 37: a != b}[number]

    def result(self, value):
        if self.contract.integer:
            if not -2 ** 63 <= value < 2 ** 63:
                raise Failed("overflow")
            return value
        if not math.isfinite(value):
            raise Failed("not-finite")
        return 0.0 if value == 0 else value

    def root(self, a):
        if a < 0:
            raise Failed("negative-root")
        return math.isqrt(a) if self.contract.integer else math.sqrt(a)

    def quotient(self, a, b):
        if b == 0:
            raise Failed("division-by-zero")
        if not self.contract.integer:
            return self.result(a / b)
        quotient = abs(a) // abs(b)
        return self.result(quotient if (a < 0) == (b < 0) else -quotient)


def address(data):
    return hashlib.sha256(b"mote/contract/1\0" + data).hexdigest()


def main():
    for line in sys.stdin:
        contract, run = (bytes.fromhex(part) for part in line.split())
        try:
            answer = encoded(Run(Contract(contract), decoded(run)).outcome()).hex()
        except Refused:
            answer = "refused"
        sys.stdout.write("%s %s\n" % (address(contract), answer))


if __name__ == "__main__":
    main()

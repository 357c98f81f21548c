"""Count what a compiled program launches, from XLA's text of it, `compiled.as_text()`. This module does not use JAX."""

import re
from collections import Counter
from typing import NamedTuple

NO_KERNEL = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"),
    *("opt-barrier", "add-dependency", "copy-done", "async-done", "async-update"),
}
HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
OPCODE = re.compile(r"(?:^|[\s)}\]])([a-z][a-z0-9\-]*)\(")
TRIPS = re.compile(r'known_trip_count"?:\{"?n"?:"?(\d+)')
CALLED = re.compile(r"(?:calls|to_apply|called_computations)=\{?%?([\w.\-]+)")
BODY = re.compile(r"body=%?([\w.\-]+)")
BRANCH = re.compile(r"(?:true|false)_computation=%?([\w.\-]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
TARGET = re.compile(r'custom_call_target="([^"]+)"')


class Instruction(NamedTuple):
    """An instruction. `text` is everything after the equals sign: result, operands and attributes."""

    name: str
    opcode: str
    text: str

    @property
    def result(self):
        """The type of the result."""
        return self.text[: self.text.index(f"{self.opcode}(")]

    @property
    def operation(self):
        """The opcode. For a library call, its name is added."""
        target = TARGET.search(self.text) if self.opcode == "custom-call" else None
        if "__triton_gemm" in self.text or "triton_nested_gemm" in self.text:
            return "gemm"
        return f"custom-call {target[1]}" if target else self.opcode


class Loop(NamedTuple):
    """A `while` loop of a compiled program.

    `depth` is the number of loops around it. `trips` is None if their number is known only at run time. `launched` is
    `{instruction: launches}` in one trip.
    """

    name: str
    depth: int
    trips: int | None
    launched: Counter

    @property
    def launches(self):
        """Launches per trip, by operation."""
        return by_operation(self.launched)

    @property
    def kernels(self):
        """Launches per trip."""
        return self.launched.total()


class Counts(NamedTuple):
    """What one call of a program launches, `{instruction: launches}`, and its loops, the outermost last.

    A loop of known length counts once per trip, and a loop of unknown length counts once. A conditional counts as one
    launch and its longest branch. `large_copies` are the names of instructions in loops that make a new array with one
    of the given axes.
    """

    launched: Counter
    loops: list[Loop]
    conditionals: int
    large_copies: list[str]

    @property
    def launches(self):
        """Launches by operation."""
        return by_operation(self.launched)

    @property
    def kernels(self):
        return self.launched.total()

    @property
    def unknown_loops(self):
        return sum(loop.trips is None for loop in self.loops)

    @property
    def main_loop(self):
        """The outermost loop that launches most."""
        outermost = [loop for loop in self.loops if loop.depth == 0]
        return max(outermost, key=lambda loop: (loop.trips or 1) * loop.kernels)


def count(text, axes=()):
    """Return the `Counts` of a program. `axes` are the axis lengths that identify a replay buffer."""
    computations, entry = parse(text)
    large = re.compile(rf"[\[,](?:{'|'.join(map(str, axes))})[,\]]") if axes else None
    loops, large_copies, conditionals = [], [], 0

    def updates_in_place(instruction):
        called = CALLED.search(instruction.text)
        inside = computations.get(called[1], []) if called else [instruction]
        return any(part.opcode in ("dynamic-update-slice", "scatter") for part in inside)

    def walk(name, depth):
        nonlocal conditionals
        launched = Counter()
        for instruction in computations[name]:
            opcode, said = instruction.opcode, instruction.text
            if opcode in NO_KERNEL:
                continue
            if opcode == "while":
                known = TRIPS.search(said)
                loop = Loop(
                    instruction.name, depth, int(known[1]) if known else None, walk(BODY.search(said)[1], depth + 1)
                )
                loops.append(loop)
                launched += times(loop.launched, loop.trips or 1)
            elif opcode in ("call", "async-start"):
                launched += walk(CALLED.search(said)[1], depth)
            elif opcode == "conditional":
                several = BRANCHES.search(said)
                branches = [x.strip().lstrip("%") for x in several[1].split(",")] if several else BRANCH.findall(said)
                conditionals += 1
                launched += Counter([instruction]) + max((walk(x, depth) for x in branches), key=Counter.total)
            else:
                launched[instruction] += 1
                if depth and large and large.search(instruction.result) and not updates_in_place(instruction):
                    large_copies.append(instruction.name)
        return launched

    return Counts(walk(entry, 0), loops, conditionals, large_copies)


def times(launched, number):
    return Counter({instruction: number * once for instruction, once in launched.items()})


def by_operation(launched):
    """Return `{operation: launches}` of `{instruction: launches}`."""
    launches = Counter()
    for instruction, number in launched.items():
        launches[instruction.operation] += number
    return launches


def parse(text):
    """Return `({name of a computation: its instructions}, name of the entry)`."""
    computations, entry, current = {}, None, None
    for line in text.splitlines():
        if header := HEADER.match(line):
            current = computations[header[2]] = []
            entry = header[2] if header[1] else entry
        elif (found := INSTRUCTION.match(line)) and current is not None:
            opcode = OPCODE.search(found[3])
            current.append(Instruction(found[2], opcode[1] if opcode else "unknown", found[3]))
    return computations, entry

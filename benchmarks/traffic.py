"""Count the bytes that a compiled program moves, from XLA's text of it, and predict its time. It does not use JAX.

A kernel reads its operands once and writes its result once. Two exceptions are counted exactly: an operand that a
kernel only slices or gathers from, and a result that it writes in place.
"""

import re
from functools import cached_property
from math import prod
from typing import NamedTuple

from benchmarks import hlo

# These constants were fitted to the measured times of four programs of TD3, and are not measurements. The bandwidth is
# greater than that of a large copy (3.4 to 3.5 TB/s). Why was not examined.
LEAST = 3e-6  # [s] a kernel's time, however small it is
LAUNCH = 0.5e-6  # [s] of a kernel, beside its memory traffic and its arithmetic
BANDWIDTH = 4.3e12  # [bytes/s]
RANDOM = 0.9e12  # [bytes/s] of rows gathered from an array that the cache does not hold
CACHE = 50e6  # [bytes]
PEAKS = {"bf16": 700e12, "tf32": 390e12, "float32": 50e12}  # [FLOP/s] of large products, near results/limits.csv
KINDS = ("products", "adam", "gradients", "reductions", "biases", "sampling", "copies", "other")

ARRAY = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]")
COMMENT = re.compile(r"/\*.*?\*/")
BITS = re.compile(r"\d+")
NUMBER = re.compile(r"parameter\((\d+)\)")
ORIGIN = re.compile(r'op_name="([^"]*)"')
CONTRACTED = re.compile(r"lhs_contracting_dims=\{([\d,]*)\}")
SAME = {"bitcast", "reshape", "get-tuple-element"}  # instructions that move nothing
PARTS = {"slice", "dynamic-slice", "gather"}  # instructions that read only a part of their first operand
WRITTEN = {"dynamic-update-slice": 1, "scatter": 2}  # instructions that write an operand into their first, in place
MOVES = {"slice", "transpose", "concatenate", "broadcast", "copy", "copy-start"} | SAME  # without arithmetic
NAMES = {"parameter", "constant", "tuple"}


class Kernel(NamedTuple):
    """A kernel: one of `KINDS`, the bytes that it reads and writes, and the time of its products [s].

    `gathered` are those of the bytes read that are gathered from an array larger than the cache. `arithmetic` is the
    sum over products of FLOP / peak.
    """

    name: str
    kind: str
    read: int
    gathered: int
    written: int
    arithmetic: float

    @property
    def moved(self):
        return self.read + self.written

    @property
    def seconds(self):
        memory = (self.moved - self.gathered) / BANDWIDTH + self.gathered / RANDOM
        return max(LEAST, LAUNCH + memory + self.arithmetic)


def kernels(text, launched):
    """Return `[(launches, Kernel)]` of `{instruction: launches}`, what a loop of the program `text` launches."""
    program = Program(text)
    return [(number, program.kernel(made)) for made, number in launched.items() if made.opcode != "conditional"]


def bytes_by_kind(kernels):
    """Return `{kind: bytes}` of `[(launches, Kernel)]`."""
    return {kind: sum(number * made.moved for number, made in kernels if made.kind == kind) for kind in KINDS}


def predicted(kernels):
    """Return the predicted time of `[(launches, Kernel)]` [s]."""
    return sum(number * made.seconds for number, made in kernels)


class Program:
    """A compiled program, for questions about its kernels."""

    def __init__(self, text):
        self.computations, _ = hlo.parse(text)

    @cached_property
    def results(self):
        """`{name of an instruction: type of its result}`."""
        return {made.name: made.result for inside in self.computations.values() for made in inside}

    def kernel(self, made):
        """Return the `Kernel` of an instruction that is launched."""
        inside = self.inside(made) or [made]
        everything = self.everything(inside)
        products = [part for part in everything if part.opcode == "dot"]
        if not products and is_product(made):
            raise ValueError(
                f"the product {made.name} is a call to a library ({made.operation}); its FLOP cannot be read"
            )
        return Kernel(
            made.name,
            kind(made, everything),
            self.read(made),
            self.gathered(made) if any(part.opcode == "gather" for part in everything) else 0,
            self.written(made),
            sum(self.flop(part) / peak(part, self.results) for part in products),
        )

    def inside(self, made):
        """Return the instructions of a fusion, or None for another instruction."""
        return self.computations[hlo.CALLED.search(made.text)[1]] if made.opcode in ("fusion", "call") else None

    def everything(self, inside):
        """Return these instructions and those of the fusions among them."""
        return [part for made in inside for part in [made, *self.everything(self.inside(made) or [])]]

    def read(self, made):
        """Return the bytes that a kernel reads."""
        return sum(self.touched([made], name) for name in self.given(made))

    def gathered(self, made):
        """Return the bytes that a kernel reads of arrays larger than the cache, if it does not read all of them."""
        large = [name for name in self.given(made) if size(self.results[name]) > CACHE]
        parts = [(self.touched([made], name), size(self.results[name])) for name in large]
        return sum(touched for touched, whole in parts if touched < whole)

    def given(self, made):
        """Return the names of the operands of an instruction, each once."""
        return list(dict.fromkeys(name for name in operands(made) if name in self.results))

    def touched(self, instructions, name):
        """Return how many bytes of the array `name` these instructions read. Bytes are counted once."""
        users = [(made, index) for made in instructions for index, x in enumerate(operands(made)) if x == name]
        whole = size(self.results[name])
        return min(whole, sum(self.used(instructions, made, index) for made, index in users))

    def used(self, instructions, made, index):
        """Return how many bytes of operand number `index` an instruction reads."""
        if made.opcode in SAME:
            return self.touched(instructions, made.name)
        if made.opcode in PARTS and index == 0:
            return size(made.result)
        if made.opcode in WRITTEN and index == 0:
            return 0
        if inside := self.inside(made):
            names = {int(found[1]): part.name for part in inside if (found := NUMBER.search(part.text))}
            return self.touched(inside, names[index])
        return size(self.results[operands(made)[index]])

    def written(self, made):
        """Return the bytes that a kernel writes."""
        if made.opcode == "copy-start":  # Its result names the source, too.
            return self.read(made)
        if made.opcode == "custom-call":  # Its result may include working space.
            return sum(bytes_of(*array) for array in ARRAY.findall(made.result) if array[0] != "s8")
        inside = self.inside(made)
        return self.stored(inside, inside[-1]) if inside else self.stored([made], made)

    def stored(self, instructions, made):
        """Return the bytes of a result that have to be written: only a part of it, if it is written in place."""
        by_name = {part.name: part for part in instructions}
        if made.opcode == "tuple":
            return sum(self.stored(instructions, by_name[name]) for name in operands(made))
        if made.opcode in SAME and operands(made)[0] in by_name:
            return self.stored(instructions, by_name[operands(made)[0]])
        if made.opcode in WRITTEN and self.is_given(by_name, operands(made)[0]):
            return size(self.results[operands(made)[WRITTEN[made.opcode]]])
        return size(made.result)

    def is_given(self, by_name, name):
        """Return whether an array comes from outside of these instructions."""
        while name in by_name and by_name[name].opcode in SAME:
            name = operands(by_name[name])[0]
        return name not in by_name or by_name[name].opcode == "parameter"

    def flop(self, product):
        """Return the FLOP of a dot."""
        left = axes(self.results[operands(product)[0]])
        contracted = [left[int(axis)] for axis in CONTRACTED.search(product.text)[1].split(",") if axis]
        return 2 * prod(axes(product.result)) * prod(contracted)


def is_product(made):
    """Return whether a kernel is named as a matrix product. Its `dot` may be hidden in a call to a library."""
    return "gemm" in made.operation or "convolution" in made.operation


def kind(made, inside):
    """Return the kind of a kernel with these instructions. The first that fits counts."""
    opcodes = {part.opcode for part in inside}
    origins = [origin[1] for part in (made, *inside) if (origin := ORIGIN.search(part.text))]
    random = {"xor", "log-plus-one"} & opcodes  # random bits, or a normal distribution's numbers from them
    if "dot" in opcodes or is_product(made):
        return "products"
    if {"gather", "dynamic-slice"} & opcodes or random:
        return "sampling"
    if {"sqrt", "divide"} <= opcodes:
        return "adam"
    if any("transpose(" in origin for origin in origins):
        return "gradients"
    if "reduce" in opcodes:
        return "reductions"
    if opcodes <= MOVES | NAMES or "concatenate" in opcodes:
        return "copies"
    return "biases" if any("Dense" in origin for origin in origins) else "other"


def peak(product, results):
    """Return the peak [FLOP/s] of a dot, by its operands."""
    if ARRAY.search(results[operands(product)[0]])[1] in ("bf16", "f16"):
        return PEAKS["bf16"]
    return PEAKS["float32" if "operand_precision={highest" in product.text else "tf32"]


def operands(made):
    """Return the names of the operands of an instruction."""
    given = made.text[made.text.index(f"{made.opcode}(") + len(made.opcode) + 1 :]
    names = COMMENT.sub("", given[: given.index(")")]).split(",")
    return [name.split()[-1].lstrip("%") for name in names if name.strip()]


def size(result):
    """Return the bytes of a type: of an array, or of all arrays of a tuple."""
    return sum(bytes_of(*array) for array in ARRAY.findall(result))


def bytes_of(dtype, lengths):
    bits = 8 if dtype == "pred" else int(BITS.search(dtype)[0])
    return prod(int(length) for length in lengths.split(",") if length) * bits // 8


def axes(result):
    return [int(length) for length in ARRAY.search(result)[2].split(",") if length]

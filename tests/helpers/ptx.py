"""PTX run on a CPU: what a compiler made of a Gluon kernel of Hopper's, instruction by instruction, for a whole cluster of programs.

`tests/helpers/gluon_on_cpu.py` runs a kernel's source, where layouts and barriers say nothing. They are the compiler's, and here is what it
says: which thread has which number, who waits for whom. All threads of the cluster do each instruction together, on arrays of one number a
thread; that a branch is one for all of them is asserted. What another order would change is the business of `ptx_memory` and
`ptx_products`, what a sum is that of `ptx_arithmetic`. Known are the instructions that the kernels consist of; another one is an error
that says it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from ptx_arithmetic import BITS, RULES, TYPES, constant
from ptx_memory import BASE, LANES, PEER, THREADS, WORD, Global, Races, Shared
from ptx_products import Product, Products, nothing_yet


class Instruction(NamedTuple):
    text: str
    where: str  # the predicate it hangs on, with ! before its opposite; or nothing
    name: str
    operands: tuple[str, ...]


class Code(NamedTuple):
    instructions: list[Instruction]
    labels: dict[str, int]  # which instruction they stand before
    parameters: int

    @classmethod
    def of(cls, text: str) -> Code:
        instructions: list[Instruction] = []
        labels = {}
        for number, line in enumerate(text.splitlines(), 1):
            line = line.split("//")[0].strip()
            if label := re.fullmatch(r"(\$L\w+):", line):
                labels[label[1]] = len(instructions)
            elif line.endswith(";") and not line.startswith("."):
                for part in filter(None, map(str.strip, line.split(";"))):
                    if not (read := re.fullmatch(r"(?:@(!?%p\d+)\s+)?([a-z][\w.:]+)(?:\s+(.*))?", part)):
                        raise NotImplementedError(f"text that is not known: line {number}, {part}")
                    where, name, operands = read.groups("")
                    apart = re.split(r",\s*(?![^{]*\})", operands) if operands else ()
                    instructions.append(Instruction(f"line {number}, {part[:90]}", where, name, tuple(map(str.strip, apart))))
        return cls(instructions, labels, len(re.findall(r"^\s*\.param ", text, re.M)))


def listed(operand: str) -> tuple[str, ...]:
    """The registers of `{ %r1, %r2 }`."""
    return tuple(re.findall(r"%\w+", operand))


class Cluster:
    """The programs of one cluster, and all their threads. `parameters` are the kernel's, pointers as numbers."""

    def __init__(self, code: Code, parameters: list[float], memory: Global, races: Races, number: int, programs: int, shared: int):
        if len(parameters) != code.parameters:
            raise ValueError(f"a kernel of {code.parameters} parameters was given {len(parameters)}")
        self.code, self.parameters, self.memory, self.races = code, parameters, memory, races
        self.threads = programs * THREADS
        self.first = number * self.threads  # of all threads that are launched
        self.shared = Shared(programs, shared, races)
        self.products = Products(self.shared, races)
        self.registers: dict[str, np.ndarray] = {
            "%tid.x": np.tile(np.arange(THREADS, dtype=np.uint32), programs),
            "%ctaid.x": (number * programs + self.shared.program).astype(np.uint32),
            "%cluster_ctarank": self.shared.program.astype(np.uint32),
            "global_smem": np.full(self.threads, BASE, np.uint32),
        }
        self.at = 0  # the instruction that comes next

    def value(self, operand: str, kind: str) -> np.ndarray:
        """A register's or a constant's, as a type of the same size."""
        found = self.registers.get(operand)
        if found is None:
            found = constant(operand, kind, self.threads)
        if operand in self.products.pending:
            self.races.note("a product's number before it is waited for", True)
        if found.itemsize != np.dtype(TYPES[kind]).itemsize:
            raise TypeError(f"{operand} is no {kind}: {self.races.instruction}")
        return found.view(TYPES[kind])

    def keep(self, register: str, values: np.ndarray, where: np.ndarray) -> None:
        """Put values into a register of the threads that the predicate lets through."""
        self.races.note("a write into a register of a product that is on its way", register in self.products.pending)
        bits = values if values.dtype == np.bool_ else np.ascontiguousarray(values).view(BITS[values.itemsize])
        self.registers[register] = bits if where.all() else np.where(where, bits, self.registers[register])

    def addresses(self, operand: str) -> np.ndarray:
        """Of `[ register + number ]`."""
        register, offset = re.fullmatch(r"\[\s*([%\w]+)\s*(?:\+\s*(-?\d+)\s*)?\]", operand).groups("0")
        return self.registers[register].astype(np.int64) + int(offset)

    def run(self) -> Cluster:
        with np.errstate(all="ignore"):
            while self.at < len(self.code.instructions):
                instruction = self.code.instructions[self.at]
                self.at += 1
                self.races.instruction = instruction.text
                where = np.ones(self.threads, bool)
                if instruction.where:
                    where = self.registers[instruction.where.strip("!")] ^ instruction.where.startswith("!")
                self.step(instruction, where)
        return self

    def step(self, instruction: Instruction, where: np.ndarray) -> None:
        stem, _, kind = instruction.name.rpartition(".")
        if stem in RULES and kind in TYPES:
            rule = RULES[stem]
            target, *operands = instruction.operands
            kinds = rule.operands or [kind] * len(operands)
            self.keep(target, rule.does(*(self.value(operand, own or kind) for operand, own in zip(operands, kinds))), where)
            return
        for name, does in MOVES.items():
            if instruction.name.startswith(name):
                does(self, instruction, where)
                return
        raise NotImplementedError(f"an instruction that is not known: {instruction.text}")

    def branch(self, instruction: Instruction, where: np.ndarray) -> None:
        assert where.all() or not where.any(), f"a branch that some threads take: {instruction.text}"
        if where.all():
            self.at = self.code.labels[instruction.operands[0]]

    def leave(self, instruction: Instruction, where: np.ndarray) -> None:
        self.shared.leave()
        self.products.leave()
        self.at = len(self.code.instructions)

    def parameter(self, instruction: Instruction, where: np.ndarray) -> None:
        register, name = instruction.operands
        number = self.parameters[int(re.search(r"_param_(\d+)\]", name)[1])]
        kind = np.float32 if isinstance(number, float) else np.int64 if register.startswith("%rd") else np.int32
        self.keep(register, np.full(self.threads, number, kind), where)

    def load(self, instruction: Instruction, where: np.ndarray) -> None:
        """From global memory, from a program's own shared memory or from that of one of its peers."""
        registers, threads = listed(instruction.operands[0]), np.flatnonzero(where)
        addresses = self.addresses(instruction.operands[1])[threads]
        size = 1 if instruction.name.endswith(".b8") else WORD
        if instruction.name.startswith("ld.global"):
            found = self.memory.load(addresses, size * len(registers))
        else:
            peers = instruction.name.startswith("ld.shared::cluster")
            programs = addresses >> PEER if peers else self.shared.program[threads]
            found = self.shared.load(addresses & (1 << PEER) - 1, size * len(registers), threads, programs)
        numbers = found.astype(np.uint16) if size == 1 else np.ascontiguousarray(found).view(np.uint32)
        for column, register in enumerate(registers):
            values = np.zeros(self.threads, numbers.dtype)
            values[threads] = numbers[:, column]
            self.keep(register, values, where)

    def store(self, instruction: Instruction, where: np.ndarray) -> None:
        registers, threads = listed(instruction.operands[1]), np.flatnonzero(where)
        values = np.stack([self.value(register, "b32") for register in registers], 1)[threads].view(np.uint8)
        addresses = self.addresses(instruction.operands[0])[threads]
        if instruction.name.startswith("st.shared."):
            self.shared.store(addresses, values, threads)
        else:
            self.memory.store(addresses, values, self.first + threads)

    def peer(self, instruction: Instruction, where: np.ndarray) -> None:
        """An address in one's own shared memory as that of the same place in another program."""
        target, address, program = instruction.operands
        self.keep(target, self.value(address, "u32") + (self.value(program, "u32") << np.uint32(PEER)), where)

    def copy(self, instruction: Instruction, where: np.ndarray) -> None:
        """Sixteen bytes a thread into shared memory, so many of them read and zeros behind."""
        target, source, size, *read = instruction.operands
        threads = np.flatnonzero(where)
        count = self.value((read or [size])[0], "u32")[threads].astype(int)
        index = self.memory.index(self.addresses(source)[threads], count, int(size, 0))
        values = np.where(np.arange(int(size, 0)) < count[:, None], self.memory.bytes[index], 0).astype(np.uint8)
        self.shared.copy(self.addresses(target)[threads], values, threads)

    def wait_for_copies(self, instruction: Instruction, where: np.ndarray) -> None:
        assert instruction.operands == ("0",), f"a wait for some copies: {instruction.text}"
        self.shared.wait_for_copies()

    def barrier(self, instruction: Instruction, where: np.ndarray) -> None:
        assert instruction.operands == ("0",), f"a barrier of some threads: {instruction.text}"
        self.shared.barrier()

    def arrive(self, instruction: Instruction, where: np.ndarray) -> None:
        """At the cluster's barrier: nothing may come between this and the wait, from which on epochs are counted."""
        assert self.code.instructions[self.at].name.startswith("barrier.cluster.wait"), f"not waited for: {instruction.text}"

    def product(self, instruction: Instruction, where: np.ndarray) -> None:
        sums, first, second, adds, *signs = instruction.operands
        registers = listed(sums)
        shape = rf"wgmma\.mma_async\.sync\.aligned\.m64n{2 * len(registers)}k16\.f32\.(b?f16)\.\1"
        known = re.fullmatch(shape, instruction.name)
        if not known or signs != ["1", "1", "0", "0"]:
            raise NotImplementedError(f"a product that is not known: {instruction.text}")
        operands = tuple(self.one(operand, "u64") for operand in (first, second))
        asked = Product(registers, known[1], operands, bool(self.one(adds, "pred")))
        held = [self.value(register, "b32") for register in registers] if asked.adds and registers not in self.products.sums else []
        self.products.begin(asked, held)
        self.registers |= dict.fromkeys(registers, nothing_yet(self.threads))

    def one(self, operand: str, kind: str) -> Any:
        """The number that all threads have."""
        values = self.value(operand, kind)
        assert (values == values[0]).all(), f"{operand} is not the same everywhere: {self.races.instruction}"
        return values[0].item()

    def wait_for_products(self, instruction: Instruction, where: np.ndarray) -> None:
        self.registers |= self.products.wait(int(instruction.operands[0]))

    def shuffle(self, instruction: Instruction, where: np.ndarray) -> None:
        """Each lane of a warp takes another one's number."""
        target, register, other, clamp, members = instruction.operands
        assert (clamp, members) == ("31", "-1"), f"a part of a warp: {instruction.text}"
        lanes = self.value(other, "u32").astype(int).reshape(-1, LANES)
        lanes = lanes ^ np.arange(LANES) if ".bfly." in instruction.name else lanes % LANES
        self.keep(target, np.take_along_axis(self.value(register, "b32").reshape(-1, LANES), lanes, 1).reshape(-1), where)


MOVES: dict[str, Callable[[Cluster, Instruction, np.ndarray], None]] = {  # by how a name begins
    "bra": Cluster.branch, "ret": Cluster.leave, "ld.param.": Cluster.parameter,
    "ld.global.": Cluster.load, "ld.shared.": Cluster.load, "ld.shared::cluster.": Cluster.load,
    "st.global.b32": Cluster.store, "st.shared.": Cluster.store,
    "mapa.shared::cluster.u32": Cluster.peer, "shfl.sync.": Cluster.shuffle,
    "cp.async.cg.shared.global": Cluster.copy, "cp.async.wait_group": Cluster.wait_for_copies,
    "cp.async.commit_group": lambda cluster, *_: None,
    "bar.sync": Cluster.barrier, "barrier.cluster.arrive.aligned": Cluster.arrive,
    "barrier.cluster.wait.aligned": lambda cluster, *_: cluster.shared.cluster_barrier(),
    "fence.proxy.async.shared::cta": lambda cluster, *_: cluster.shared.fence(),
    "wgmma.fence": lambda cluster, *_: None, "wgmma.mma_async": Cluster.product,
    "wgmma.commit_group": lambda cluster, *_: cluster.products.commit(), "wgmma.wait_group": Cluster.wait_for_products,
}  # fmt: skip

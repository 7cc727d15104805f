"""The memory behind tests/helpers/ptx.py: what a cluster's threads find there, and what they could have found in another order.

On a GPU a number may be old or new until a barrier, a wait or a fence lies between who writes and who reads. Here a cluster runs in
lockstep, where everything would happen to be right, so for every word of shared memory it is written down who touched it last and in which
epoch: they are counted by barriers of a program and by those of the cluster. A touch that no barrier keeps apart from another warp's or
program's is a race, and a race is noted whatever the numbers are. Nothing that is on its way lies there before somebody has waited for it:
until then it is NaN, as is all that nobody has written.
"""

from __future__ import annotations

import collections
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

THREADS, LANES = 128, 32  # of a program, of a warp
BASE = 1024  # where a program's shared memory begins: swizzles are of the address, so a multiple of what they repeat after
PEER = 24  # the bits of an address in a program's own shared memory; above them is the program, for who reads it from another
WORD = 4
POISON = 0xFF  # in every byte of a NaN


class Races:
    """What could end otherwise on a GPU, and which instruction does it: how many threads it happened to."""

    def __init__(self) -> None:
        self.found: collections.Counter[str] = collections.Counter()
        self.instruction = ""  # the one that is done

    def note(self, what: str, where: np.ndarray | bool) -> None:
        if count := int(np.count_nonzero(where)):
            self.found[f"{what}: {self.instruction}"] += count


class Global:
    """The storages of tensors, side by side at addresses as a GPU has them; an access outside of them is an error. A word is stored by one
    thread alone, whichever cluster it is in."""

    APART = 256

    def __init__(self, tensors: list[Tensor], races: Races):
        self.races = races
        self.storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors}
        self.begins: dict[int, int] = {}
        end = self.APART
        for place, storage in self.storages.items():
            self.begins[place] = end
            end += -(-(storage.nbytes() + 1) // self.APART) * self.APART
        self.bytes = np.full(end, POISON, np.uint8)
        self.given = np.zeros(end, bool)
        self.stored_by = np.full(end // WORD, -1)
        for place, storage in self.storages.items():
            inside = slice(self.begins[place], self.begins[place] + storage.nbytes())
            self.bytes[inside] = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
            self.given[inside] = True

    def address(self, tensor: Tensor) -> int:
        return self.begins[tensor.untyped_storage().data_ptr()] + tensor.storage_offset() * tensor.element_size()

    def index(self, addresses: np.ndarray, size: int | np.ndarray, most: int) -> np.ndarray:
        """The bytes from each address on, [addresses, most]; those from `size` on are not read, and may lie anywhere."""
        index = addresses[:, None] + np.arange(most)
        read = np.arange(most) < np.reshape(size, (-1, 1))
        index = np.where(read, index, self.APART)
        if index.size and (index.min() < 0 or index.max() >= len(self.bytes) or not (self.given[index] | ~read).all()):
            raise IndexError(f"an address outside of the tensors: {self.races.instruction}")
        return index

    def load(self, addresses: np.ndarray, size: int) -> np.ndarray:
        return self.bytes[self.index(addresses, size, size)]

    def store(self, addresses: np.ndarray, values: np.ndarray, threads: np.ndarray) -> None:
        index, words = self.index(addresses, WORD, WORD), addresses // WORD
        before = self.stored_by[words]
        self.races.note("two threads store a word", (before >= 0) & (before != threads))
        self.stored_by[words] = threads
        self.races.note("two threads store a word", self.stored_by[words] != threads)
        self.bytes[index] = values

    def tensor(self, like: Tensor) -> Tensor:
        """What lies where the tensor does."""
        storage = like.untyped_storage()
        begin = self.begins[storage.data_ptr()]
        own = torch.from_numpy(self.bytes[begin : begin + storage.nbytes()].copy()).view(like.dtype)
        return own.as_strided(like.shape, like.stride(), like.storage_offset())


class Copy(NamedTuple):
    """Bytes on their way from global memory into shared memory."""

    programs: np.ndarray  # [copies, 1]
    places: np.ndarray  # [copies, bytes], where in the program's memory
    values: np.ndarray
    words: np.ndarray  # [copies, words]
    warps: np.ndarray  # [copies, 1]


class Shared:
    """The shared memories of a cluster's programs. Threads are counted through the cluster; an address is one in a program."""

    def __init__(self, programs: int, size: int, races: Races):
        self.races = races
        self.program = np.repeat(np.arange(programs), THREADS)
        self.warp = np.tile(np.arange(THREADS) // LANES, programs)
        self.bytes = np.full((programs, BASE + size), POISON, np.uint8)
        words = (programs, (BASE + size) // WORD)
        self.epoch = self.cluster_epoch = 0  # barriers that every thread of a program has come to, and of the cluster
        self.written_by = np.full(words, -1)  # warp
        self.written_at = np.full(words, -1)  # epoch
        self.written_in = np.full(words, -1)  # cluster's epoch
        self.read_at = np.full((programs, THREADS // LANES, words[1]), -1)  # epoch, of each warp
        self.read_by_peer_in = np.full(words, -1)  # cluster's epoch
        self.on_its_way = np.zeros(words, bool)
        self.unfenced = np.zeros(words, bool)  # written where the matrix units do not see it yet
        self.lent = np.zeros(words[1], int)  # products that still read it, in every program
        self.copies: list[Copy] = []

    def barrier(self) -> None:
        self.epoch += 1

    def cluster_barrier(self) -> None:
        self.epoch += 1
        self.cluster_epoch += 1

    def fence(self) -> None:
        self.unfenced[:] = False

    def words(self, addresses: np.ndarray, size: int) -> np.ndarray:
        if (addresses % size).any():
            raise ValueError(f"an address that is no multiple of {size}: {self.races.instruction}")
        return addresses[:, None] // WORD + np.arange(size // WORD)

    def load(self, addresses: np.ndarray, size: int, threads: np.ndarray, programs: np.ndarray) -> np.ndarray:
        """Bytes [threads, size] of each thread's program or of another one of the cluster."""
        words, program, warp = self.words(addresses, size), programs[:, None], self.warp[threads][:, None]
        own = program == self.program[threads][:, None]
        late = self.written_at[program, words] >= self.epoch
        self.races.note("a read of what another warp writes", own & late & (self.written_by[program, words] != warp))
        self.races.note("a read of what a peer writes", ~own & (self.written_in[program, words] >= self.cluster_epoch))
        self.races.note("a read of what is on its way", self.on_its_way[program, words])
        own, peers = own[:, 0], ~own[:, 0]
        self.read_at[program[own], warp[own], words[own]] = self.epoch
        self.read_by_peer_in[program[peers], words[peers]] = self.cluster_epoch
        return self.bytes[program, addresses[:, None] + np.arange(size)]

    def claim(self, words: np.ndarray, threads: np.ndarray, differs: np.ndarray | bool) -> None:
        """Note who may still want what lies in the words that these threads write."""
        program, warp = self.program[threads][:, None], self.warp[threads][:, None]
        readers = self.read_at[program, :, words] >= self.epoch  # [threads, words, warps]
        others = np.arange(THREADS // LANES) != warp[..., None]
        written = (self.written_at[program, words] >= self.epoch) & (self.written_by[program, words] != warp)
        self.races.note("a write over what another warp reads", (readers & others).any(-1))
        self.races.note("a write over what a peer reads", self.read_by_peer_in[program, words] >= self.cluster_epoch)
        self.races.note("a write over what another warp writes", written & differs)
        self.races.note("a write over what is on its way", self.on_its_way[program, words])
        self.races.note("a write over what a product reads", self.lent[words] > 0)

    def written(self, program: np.ndarray, words: np.ndarray, warp: np.ndarray) -> None:
        self.written_by[program, words] = warp
        self.written_at[program, words], self.written_in[program, words] = self.epoch, self.cluster_epoch
        self.unfenced[program, words] = True

    def store(self, addresses: np.ndarray, values: np.ndarray, threads: np.ndarray) -> None:
        size = values.shape[1]
        words, program, warp = self.words(addresses, size), self.program[threads][:, None], self.warp[threads][:, None]
        index = addresses[:, None] + np.arange(size)
        other = (self.bytes[program, index] != values).reshape(len(threads), -1, WORD).any(-1)
        self.claim(words, threads, other)
        self.bytes[program, index] = values
        self.races.note("two threads write different numbers", self.bytes[program, index] != values)
        self.written(program, words, warp)

    def copy(self, addresses: np.ndarray, values: np.ndarray, threads: np.ndarray) -> None:
        """Begin to bring bytes [threads, size] here."""
        size = values.shape[1]
        words, program, warp = self.words(addresses, size), self.program[threads][:, None], self.warp[threads][:, None]
        self.claim(words, threads, True)
        index = addresses[:, None] + np.arange(size)
        self.bytes[program, index] = POISON
        self.on_its_way[program, words] = True
        self.copies.append(Copy(program, index, values, words, warp))

    def wait_for_copies(self) -> None:
        """All that was begun is there, for the thread that began it: for others a barrier later."""
        for copy in self.copies:
            self.bytes[copy.programs, copy.places] = copy.values
            self.on_its_way[copy.programs, copy.words] = False
            self.written(copy.programs, copy.words, copy.warps)
        self.copies = []

    def lend(self, words: np.ndarray) -> None:
        """To a product, which begins to read these words in every program."""
        self.races.note("a product of what is on its way", self.on_its_way[:, words])
        self.races.note("a product of what other warps write", self.written_at[:, words] >= self.epoch)
        self.races.note("a product of what no fence shows to the matrix units", self.unfenced[:, words])
        self.lent[words] += 1

    def returned(self, words: np.ndarray) -> None:
        self.lent[words] -= 1
        self.read_at[:, :, words] = self.epoch

    def leave(self) -> None:
        """A program that ends takes its memory with it."""
        self.races.note("an end while a peer reads", self.read_by_peer_in >= self.cluster_epoch)
        self.races.note("an end before what is on its way", bool(self.copies))

"""What is alive: the tensors that Python's collector knows."""

import gc

from torch import Tensor, nn


def live() -> tuple[int, int]:
    """How many tensors, and the bytes of their memory, each storage once. Compilers' fakes and the meta device have none. Inside
    `gc.freeze()` only those that were made since, which is quick in a process that holds much."""
    there = [thing for thing in gc.get_objects() if type(thing) in (Tensor, nn.Parameter) and not thing.is_meta]
    storages = [tensor.untyped_storage() for tensor in there]
    return len(there), sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

"""Reading ahead of the model."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

from i2am.evaluation.batches import read_ahead


class Data:
    """Pairs that say how many threads read them."""

    def __getitem__(self, index: int) -> dict[str, int]:
        return {"threads": torch.get_num_threads()}


def test_readers_work_alone_and_later_threads_do_not() -> None:
    """More OpenMP teams than cores would put the model's threads to sleep after every operation."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = [batch["threads"].tolist() for batch, _ in read_ahead(Data(), [[0, 1], [2]], False) if batch is not None]
        assert found == [[1, 1], [1]]
        assert torch.get_num_threads() == 2
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)

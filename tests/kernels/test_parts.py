"""Every head of every row is in one part, parts fit their memory, and memory that is kept is nobody else's."""

from __future__ import annotations

import threading
from itertools import product

import pytest
import torch
from cases import make, run

from i2am_kernels import check, parts

pytestmark = pytest.mark.usefixtures("on_the_cpu")


@pytest.mark.parametrize("elements", [1, 1000, 400_000, 1_000_000, 3_400_000, 5_000_000])
@pytest.mark.parametrize(("batch", "heads"), product((1, 3, 8), (1, 2, 5, 10)))
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_parts_cover_a_call_once(batch: int, heads: int, elements: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    call = check.checked(*(torch.empty(batch, heads, 2, 4) for _ in range(3)), *[None] * 13)
    seen = torch.zeros(batch, heads, 2)
    for part, scratch in parts.parts(call, elements, 1 << 20):
        part.of(seen).add_(1)
        assert part.of(seen).data_ptr() == seen[part.rows, part.heads].data_ptr()
        assert len(part.of(seen)) == part.tiles
        assert part.tiles * elements <= len(scratch) <= max(elements, parts.SCRATCH_BYTES // 4)
    assert seen.eq(1).all()


def test_memory_is_kept_and_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts.KEPT, "memory", None)
    like = torch.empty(0, dtype=torch.float16)
    one, less, more = (parts.memory(like, n) for n in (100, 10, 1000))
    assert one.data_ptr() == less.data_ptr() != more.data_ptr()
    assert [len(one), len(less), len(more)] == [100, 10, 1000]
    assert more.dtype == torch.float32
    assert len(parts.memory(like, parts.SCRATCH_BYTES)) == parts.SCRATCH_BYTES  # too much to keep
    assert parts.KEPT.memory is not None
    assert len(parts.KEPT.memory) == 1000


def test_memory_made_in_inference_mode_serves_outside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts.KEPT, "memory", None)
    case = make(heads=2)
    with torch.inference_mode():
        inside = run(case, "streaming")
    assert torch.equal(run(case, "streaming").out, inside.out)


def test_threads_do_not_share_memory() -> None:
    """Calls at the same time give what they give alone."""
    cases = [make(heads=2, tokens=(200, 150)) for _ in range(4)]
    alone = [run(case, "streaming") for case in cases]
    found: dict[int, bool] = {}

    def work(i: int) -> None:
        found[i] = all(
            torch.equal(got.out, alone[i].out) and torch.equal(got.maps["r2g"], alone[i].maps["r2g"])
            for got in (run(cases[i], "streaming") for _ in range(30))
        )

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(cases))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == dict.fromkeys(range(4), True)

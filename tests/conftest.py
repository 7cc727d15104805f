"""What every test shares: the interpreter where there is no GPU, one seed per test, the hypothesis profile.

`N=10000` in the environment sets how many examples the fuzz tests draw.
"""

import os

import interpreting
import pytest
import torch

os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # else every process that compiles starts others, which import torch first
if torch.cuda.is_available():
    torch.set_default_device("cuda")
else:
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when the kernels are first imported
    interpreting.without_repeats()

from hypothesis import HealthCheck, settings

settings.register_profile(
    "default",
    deadline=None,
    derandomize="N" not in os.environ,  # the same examples at every run, fresh ones in a long run
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
settings.load_profile("default")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def on_the_cpu():
    """What a test makes is on the CPU, whatever the suite's default device; no mode is left behind."""
    with torch.device("cpu"):
        yield


@pytest.fixture(params=["reference", "streaming", "triton"])
def backend(request):
    return request.param

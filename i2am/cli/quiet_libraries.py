"""What other libraries say while a command runs: their errors and warnings stay; bars of what takes seconds, and remarks that whoever
typed the command can do nothing about, go. DIFFUSERS_VERBOSITY and TRANSFORMERS_VERBOSITY bring the remarks back."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import re
import warnings
from collections.abc import Iterator

REMARKS = re.compile(
    r"requires torchvision \(not installed\)"  # an image processor's twin for Pillow does the same
    r"|You are using a model of type"  # an image encoder, of the CLIP inside a checkpoint
    r"|has been deprecated and will not receive"  # diffusers, of Paint-by-Example
    r"|should be kept in float32: \[\]"  # none of them
    r"|`torch_dtype` is deprecated"  # of a call of ours: older diffusers know no other name for it
    r"|`local_dir_use_symlinks` argument is deprecated"  # diffusers' own call of the hub
)


def matters(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR or not REMARKS.search(record.getMessage())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, diffusers and transformers are quieter; afterwards they are as they were."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message=f".*({REMARKS.pattern})")
        for name in ("diffusers", "transformers"):
            if importlib.util.find_spec(name) is None:
                continue
            library = importlib.import_module(f"{name}.utils.logging")
            if library._tqdm_active:
                without_bars(library)
                stack.callback(library.enable_progress_bar)
            for handler in logging.getLogger(name).handlers if f"{name.upper()}_VERBOSITY" not in os.environ else ():
                handler.addFilter(matters)
                stack.callback(handler.removeFilter, matters)
        yield


def without_bars(library: object) -> None:
    """No bars of the library's own; a download's bar stays, which transformers takes for one of its own."""
    from huggingface_hub import utils as hub

    downloads = not hub.are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where HF_HUB_DISABLE_PROGRESS_BARS has decided
        library.disable_progress_bar()  # type: ignore[attr-defined]
        if downloads:
            hub.enable_progress_bars()

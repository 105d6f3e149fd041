"""XML text → a small tree that knows its lines. Bounded, without DTD or entities; owns no meaning."""

from __future__ import annotations

from io import StringIO
from xml.sax import SAXException, handler, xmlreader

import defusedxml
import defusedxml.expatreader
import msgspec

from buckler.policy.problem import Problem
from buckler.policy.source import Source

MAX_CHARACTERS = 4 * 1024 * 1024
MAX_DEPTH = 64


class Node(msgspec.Struct):
    """One element."""

    tag: str
    attributes: dict[str, str]
    file: str
    line: int
    children: list[Node] = []
    text: str = ""

    def all(self, tag: str) -> list[Node]:
        """List children of one tag."""
        return [each for each in self.children if each.tag == tag]

    def first(self, *path: str) -> Node | None:
        """Find the first child along a path."""
        found: Node | None = self
        for tag in path:
            found = next(iter(found.all(tag)), None) if found is not None else None
        return found


class _Builder(handler.ContentHandler):
    def __init__(self, file: str) -> None:
        super().__init__()
        self._file, self._open = file, list[Node]()
        self.root: Node | None = None
        self._locator: xmlreader.Locator | None = None

    def setDocumentLocator(self, locator: xmlreader.Locator) -> None:  # noqa: N802 - sax's name
        self._locator = locator

    def startElement(self, name: str, attrs: xmlreader.AttributesImpl) -> None:  # noqa: N802 - sax's name
        if len(self._open) >= MAX_DEPTH:
            raise SAXException(f"nested deeper than {MAX_DEPTH} levels")
        line = (self._locator.getLineNumber() or 0) if self._locator else 0
        node = Node(name, dict(attrs.items()), self._file, line, [])
        if self._open:
            self._open[-1].children.append(node)
        else:
            self.root = node
        self._open.append(node)

    def endElement(self, name: str) -> None:  # noqa: ARG002, N802 - sax's form
        self._open.pop()

    def characters(self, content: str) -> None:
        self._open[-1].text += content


def read_tree(source: Source) -> tuple[Node | None, list[Problem]]:
    """Read one document."""
    if len(source.text) > MAX_CHARACTERS:
        return None, [Problem(source.name, 0, "", f"the file is larger than {MAX_CHARACTERS} characters")]
    builder = _Builder(source.name)
    parser = defusedxml.expatreader.create_parser(forbid_dtd=True)
    parser.setContentHandler(builder)
    try:
        parser.parse(StringIO(source.text))
    except (SAXException, defusedxml.DefusedXmlException, ValueError) as error:
        return None, [Problem(source.name, 0, "", f"not XML: {' '.join(str(error).split())}")]
    return builder.root, []

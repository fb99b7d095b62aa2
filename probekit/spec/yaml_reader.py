"""Builds a tree of plain Python values with their places out of PyYAML's events, under caps.

PyYAML's constructors are never used, so nothing in a text can run code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from probekit.errors import Problem, SpecError
from probekit.spec.yaml_places import START, Path, Place, end_of, place_of
from probekit.spec.yaml_scalars import cited, how_to_quote, parse_scalar
from probekit.spec.yaml_syntax import NO_TAG, Read, explain, raw_at, word_at

MAX_BYTES = 1_048_576
MAX_VALUES = 50_000  # after the expansion of aliases
MAX_DEPTH = 40
MAX_ALIASES = 200
_MAX_PROBLEMS = 100

_SURROGATE = re.compile(r"[\ud800-\udfff]")
# Beyond YAML's own ban: U+0085, U+2028 and U+2029 end lines in YAML 1.1 only, and U+FEFF is invisible.
_FORBIDDEN = re.compile(r"[^\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_REFUSED = "\0refused"  # stands for a key that is refused, compared by identity; its value is left out


@dataclass
class Node:
    """A value under construction; one that has an anchor is kept for its aliases."""

    value: Any
    place: Place
    index: int  # where it starts in the text
    before: int  # values counted before it
    size: int = 1  # values in it, itself included; 0 until it ends
    height: int = 0  # levels of collections in it
    flow: bool = True  # neither a block collection nor a block scalar
    path: Path = ()
    key: Any = None  # the key whose value comes next


@dataclass
class Reader:
    """Turns the events of one text into values and places, and counts as it goes."""

    text: str
    file: str
    root: Node | None = None
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    stack: list[Node] = field(default_factory=list)
    anchors: dict[str, Node] = field(default_factory=dict)
    aliases: list[tuple[Any, Any, Path, Place]] = field(default_factory=list)  # holder, key in it, path, place
    used: int = 0
    count: int = 0
    documents: int = 0
    last: yaml.Event | None = None

    def read(self) -> Node | None:
        """Return the top value with its aliases expanded, or nothing if there is none."""
        self.text = re.sub("\r\n?", "\n", self.text.removeprefix("\ufeff"))
        if (size := len(self.text.encode(errors="surrogatepass"))) > MAX_BYTES:
            self._stop("PK-Y16", *too_large(size), START)
        if bad := _FORBIDDEN.search(self.text):
            what = f"character U+{ord(bad.group()):04X} is not allowed"
            self._stop(
                "PK-Y22", what, "remove it or write an escape in double quotes", end_of(self.text[: bad.start()])
            )
        # The pure-Python loader: its errors carry positions and words that the C loader lacks or changes.
        loader: Any = yaml.SafeLoader(self.text)
        try:
            while loader.check_event():
                self.last = loader.get_event()
                self._feed(self.last)
        except yaml.MarkedYAMLError as error:
            self._stop(*explain(error, self._so_far(flow=loader.flow_level > 0)))
        except (ValueError, OverflowError):  # PyYAML hands "\UFFFFFFFF" to chr() and the version of %YAML to int()
            self._stop("PK-Y09", "a number is out of range here", "use single quotes", place_of(loader.get_mark()))
        for holder, key, path, place in self.aliases:  # in their order, so that an alias in an alias is a copy already
            holder[key] = self._copy(holder[key], path, place)
        return self.root

    def _refuse(self, code: str, what: str, hint: str, place: Place) -> None:
        self.problems.append(Problem(code, what, hint, "", self.file, place.line, place.column))
        if len(self.problems) == _MAX_PROBLEMS:
            raise SpecError(*self.problems)

    def _so_far(self, *, flow: bool) -> Read:
        brackets = [node for node in self.stack if node.flow and self.text[node.index] in "[{"]
        return Read(self.text, self.last, [(node.index, node.place) for node in brackets], flow)

    def _stop(self, code: str, what: str, hint: str, place: Place) -> NoReturn:
        self._refuse(code, what, hint, place)
        raise SpecError(*self.problems) from None

    def _copy(self, value: Any, path: Path, place: Place) -> Any:
        self.keys.setdefault(path, place)
        self.values[path] = place
        if isinstance(value, dict):
            return {key: self._copy(item, (*path, key), place) for key, item in value.items()}
        if isinstance(value, list):
            return [self._copy(item, (*path, index), place) for index, item in enumerate(value)]
        return value

    def _feed(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self._stop("PK-Y19", "a second document begins here", "keep one per file", place_of(event.start_mark))
        elif isinstance(event, yaml.CollectionEndEvent):
            node = self.stack.pop()
            node.size = self.count - node.before
            if self.stack:
                self.stack[-1].height = max(self.stack[-1].height, node.height + 1)
        elif isinstance(event, yaml.NodeEvent):
            self._node(event)

    def _node(self, event: Any) -> None:
        parent = self.stack[-1] if self.stack else None
        node = Node(None, place_of(event.start_mark), event.start_mark.index, self.count)
        is_key = parent is not None and isinstance(parent.value, dict) and parent.key is None
        alias = isinstance(event, yaml.AliasEvent)
        if alias:
            self._alias(event, node)
        else:
            self._tag(event, node)
            if event.anchor:
                self.anchors[event.anchor] = node
            if isinstance(event, yaml.ScalarEvent):
                node.value = self._scalar(event, node, is_key=is_key)
                node.flow = event.style not in ("|", ">")
            else:
                node.value = {} if isinstance(event, yaml.MappingStartEvent) else []
                node.size, node.height, node.flow = 0, 1, event.flow_style
        self.count += max(node.size, 1) - is_key
        if self.count > MAX_VALUES:
            code, what = ("PK-Y13", f"alias *{event.anchor}") if alias else ("PK-Y16", "this value")
            what += f" is beyond the {MAX_VALUES:,} values of a spec"
            self._stop(code, what, "keep data in files of their own", node.place)
        if len(self.stack) + node.height > MAX_DEPTH:
            self._stop("PK-Y15", f"this is nested deeper than {MAX_DEPTH} levels", "", node.place)
        if is_key and parent is not None:
            self._key(event, node, parent)
        else:
            self._put(parent, node, alias=alias)
        if isinstance(event, yaml.CollectionStartEvent):
            self.stack.append(node)

    def _alias(self, event: Any, node: Node) -> None:
        self.used += 1
        if self.used > MAX_ALIASES:
            self._stop("PK-Y13", f"more than {MAX_ALIASES} aliases", "write the values out", node.place)
        target = self.anchors.get(event.anchor)
        if target is None:
            what = f"alias *{event.anchor} names no anchor before it"
            flow = bool(self.stack) and self.stack[-1].flow
            self._refuse("PK-Y08", what, how_to_quote(raw_at(self.text, node.index, flow=flow, key=True)), node.place)
        elif not target.size:
            what = f"alias *{event.anchor} stands inside the value that it names"
            self._refuse("PK-Y14", what, "write the value out", node.place)
        else:
            node.value, node.size, node.height = target.value, target.size, target.height

    def _tag(self, event: Any, node: Node) -> None:
        if event.tag is None:
            return
        tag = word_at(self.text, self.text.index("!", node.index))
        if event.tag.startswith("tag:yaml.org,2002:python/"):
            self._refuse("PK-Y17", f"tag {tag} is not allowed", "a spec runs no code; remove the tag", node.place)
        else:
            self._refuse("PK-Y18", f"tag {tag} is not allowed", NO_TAG, node.place)

    def _scalar(self, event: yaml.ScalarEvent, node: Node, *, is_key: bool) -> Any:
        text = event.value
        if _SURROGATE.search(text):  # JSON escapes one character beyond U+FFFF as two halves
            try:
                text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
            except UnicodeDecodeError:
                self._refuse("PK-Y22", f"{cited(text)} holds half a character", "write both escapes", node.place)
        if is_key or event.style is not None:
            return text
        try:
            return parse_scalar(text)
        except SpecError as error:
            self._refuse(error.problems[0].code, error.problems[0].what, error.problems[0].hint, node.place)

    def _key(self, event: Any, node: Node, parent: Node) -> None:
        place, plain = node.place, getattr(event, "style", "") is None
        kinds = {yaml.AliasEvent: "an alias", yaml.SequenceStartEvent: "a list", yaml.MappingStartEvent: "a mapping"}
        if type(event) in kinds or (plain and not node.value):
            what = f"{kinds.get(type(event), 'nothing')} cannot be a key"
            self._refuse("PK-Y24", what, "write text, in quotes if need be", place)
            parent.key = _REFUSED
            node.path = (*parent.path, parent.key)
            return
        if plain and node.value == "<<":
            self._refuse("PK-Y12", "merge keys (<<) are not allowed", "write the keys out", place)
            parent.key = _REFUSED
            return
        if node.value in parent.value:
            first = self.keys[(*parent.path, node.value)]
            what = f"duplicate key {cited(node.value)}, first in line {first.line}"
            self._refuse("PK-Y02", what, "keep one of them", place)
        else:
            self.keys[(*parent.path, node.value)] = place
        parent.key = node.value

    def _put(self, parent: Node | None, node: Node, *, alias: bool) -> None:
        if parent is None:
            self.root = node
        else:
            key = parent.key if isinstance(parent.value, dict) else len(parent.value)
            node.path = (*parent.path, key)
            if isinstance(parent.value, list):
                parent.value.append(node.value)
            elif key is not _REFUSED:
                parent.value[key] = node.value
            parent.key = None
            if alias:
                parent.height = max(parent.height, node.height + 1)
            if alias and key is not _REFUSED:
                self.aliases.append((parent.value, key, node.path, node.place))
        self.keys.setdefault(node.path, node.place)
        self.values[node.path] = node.place


def too_large(size: int) -> tuple[str, str]:
    """Return the fact and the hint of ``PK-Y16`` for a text of so many bytes."""
    return f"{size:,} bytes are more than the {MAX_BYTES:,} of a spec", "keep data in files of their own"

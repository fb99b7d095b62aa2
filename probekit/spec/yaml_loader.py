"""Reads spec files: YAML 1.2 without tags and merge keys, under caps, into plain Python values with their places.

The tree is built from PyYAML's event stream and never by its constructors, so nothing in a file can run code.
"""

from __future__ import annotations

import math
import re
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from probekit.errors import Problem, SpecError, nearest

if TYPE_CHECKING:
    import pathlib

MAX_BYTES = 1_048_576
MAX_VALUES = 50_000  # after the expansion of aliases
MAX_DEPTH = 40
MAX_ALIASES = 200
MAX_DIGITS = 19
_MAX_PROBLEMS = 100

Path = tuple[str | int, ...]

_WORDS = dict.fromkeys(("", "~", "null", "Null", "NULL")) | {
    form: word == "true" for word in ("true", "false") for form in (word, word.capitalize(), word.upper())
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
# Beyond YAML's own ban: U+0085, U+2028 and U+2029 end lines in YAML 1.1 only, and U+FEFF is invisible.
_FORBIDDEN = re.compile(r"[^\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_IN_DOUBLE_QUOTES = re.compile(r'"((?:[^"\\\n]|\\[^"\n])*)"')


@dataclass(frozen=True)
class Place:
    """Where something stands in a text; both numbers count from 1."""

    line: int
    column: int


_START = Place(1, 1)
_REFUSED = "\0refused"  # stands for a key that is refused, compared by identity; its value is left out
_NO_TAG = "remove it, or quote text that begins with '!'"
_Words = tuple[str, str, str, Place]  # a problem's code, fact, hint and place


@dataclass(frozen=True)
class Document:
    """A spec file as plain Python values, and where each value stands.

    Args:
        file: the file as the user named it, for messages.
        value: str, int, float, bool, None, list and dict only.
        keys: where the key (or list item) of each path stands; below an alias, where the alias stands.
        values: where the value of each path begins; likewise.
        problems: what is wrong with the structure, where the rest could still be read.
    """

    file: str
    value: dict[str, Any]
    keys: dict[Path, Place]
    values: dict[Path, Place]
    problems: tuple[Problem, ...] = ()

    def place(self, path: Path) -> Place:
        """Return where ``path`` or its nearest known ancestor stands: a mapping at its key, all else at its value."""
        while path and path not in self.values:
            path = path[:-1]
        value: Any = self.value
        for step in path:
            value = value[step]
        return (self.keys if isinstance(value, dict) else self.values).get(path, _START)


def read_text(path: pathlib.Path, shown: str) -> str:
    """Return the text of a spec file, which messages call ``shown``, without its byte order mark.

    Raises:
        SpecError: PK-Y16 too large, PK-Y22 not UTF-8, PK-Y25 missing, unreadable or no YAML file.
    """
    try:
        status = path.stat()
        if kind := _special(status.st_mode):
            _stop("PK-Y25", f"this is {kind}, not a file", "name a .yaml file", shown)
        if path.suffix.lower() not in {".yaml", ".yml"}:
            _stop("PK-Y25", f"a spec ends in .yaml or .yml, not in {path.suffix!r}", "rename the file", shown)
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        if not path.parent.is_dir():
            _stop("PK-Y25", f"no such file, as there is no folder {str(path.parent)!r}", "", shown)
        names = [other.name for other in path.parent.glob("*.y*ml") if other.is_file()]
        _stop("PK-Y25", "no such file", nearest(path.name, names, "specs in this folder"), shown)
    except (OSError, ValueError) as error:
        why = str(getattr(error, "strerror", None) or error).lower()
        _stop("PK-Y25", f"the file cannot be read: {why}", "", shown)
    if len(data) > MAX_BYTES:
        _stop("PK-Y16", *_too_large(max(len(data), status.st_size)), shown)
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        what = f"byte 0x{data[error.start]:02x} is not UTF-8"
        _stop("PK-Y22", what, "save the file as UTF-8", shown, _end(data[: error.start].decode()))


def load(text: str, file: str) -> Document:
    """Return the mapping that ``text`` holds; ``file`` is its name in messages.

    Problems that leave the rest readable (a key twice, a tag) stand in the document, so that they can be told together
    with what validation finds.

    Raises:
        SpecError: a syntax error or a breach of a cap, after the structural problems before it; no mapping at all.
    """
    reader = _Reader(text, file)
    root = reader.read()
    value = root and root.value
    if value is None:
        _raise(reader.problems)
        _stop("PK-Y20", "the spec is empty", "begin with a key, such as model:", file, _START)
    if not isinstance(value, dict):
        _raise(reader.problems)
        what = f"the top level must be a mapping, but is {'a list' if isinstance(value, list) else _short(value)}"
        _stop("PK-Y21", what, "begin with a key, such as model:", file, reader.values[()])
    return Document(file, value, reader.keys, reader.values, tuple(reader.problems))


def _raise(problems: list[Problem]) -> None:
    if problems:
        raise SpecError(*problems)


def parse_value(text: str) -> Any:
    """Return the value of ``--set key=VALUE`` under the rules of a spec file; lists and mappings in brackets only.

    Raises:
        SpecError: the problems found, with their places in ``text`` and without a file.
    """
    if not text.strip():
        return None
    reader = _Reader(text, "")
    root = reader.read()
    _raise(reader.problems)
    if root is None or not root.flow or text.split(maxsplit=1)[0] == "---":
        hint = "quote it if text is meant; lists and mappings need [...] and {...}"
        _stop("PK-Y10", f"{_short(text)} is syntax of YAML, not a value", hint, "", _START)
    return root.value


def parse_scalar(text: str) -> str | int | float | bool | None:
    """Return what YAML 1.2 reads in an unquoted scalar; text with a leading zero (010, 0x1F, 0o17) stays text.

    Raises:
        SpecError: PK-Y06 infinity or not a number, PK-Y23 an integer of more than 19 digits.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        if (digits := len(text.lstrip("+-"))) > MAX_DIGITS:
            what = f"{_short(text)} has {digits:,} digits, more than {MAX_DIGITS}"
            _stop("PK-Y23", what, "quote it if text is meant")
        return int(text)
    is_float = _FLOAT.fullmatch(text)
    if _NOT_FINITE.fullmatch(text) or (is_float and math.isinf(float(text))):
        _stop("PK-Y06", f"{_short(text)} is not a finite number", "quote it if text is meant")
    return float(text) if is_float else text


@dataclass
class _Node:
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
class _Reader:
    """Turns the events of one text into values and places, and counts as it goes."""

    text: str
    file: str
    root: _Node | None = None
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    stack: list[_Node] = field(default_factory=list)
    anchors: dict[str, _Node] = field(default_factory=dict)
    aliases: list[tuple[Any, Any, Path, Place]] = field(default_factory=list)  # holder, key in it, path, place
    used: int = 0
    count: int = 0
    documents: int = 0
    last: yaml.Event | None = None

    def read(self) -> _Node | None:
        """Return the top value with its aliases expanded, or nothing if there is none."""
        self.text = re.sub("\r\n?", "\n", self.text.removeprefix("\ufeff"))
        if (size := len(self.text.encode(errors="surrogatepass"))) > MAX_BYTES:
            self._stop("PK-Y16", *_too_large(size), _START)
        if bad := _FORBIDDEN.search(self.text):
            what = f"character U+{ord(bad.group()):04X} is not allowed"
            self._stop("PK-Y22", what, "remove it or write an escape in double quotes", _end(self.text[: bad.start()]))
        # The pure-Python loader: its errors carry positions and words that the C loader lacks or changes.
        loader: Any = yaml.SafeLoader(self.text)
        try:
            while loader.check_event():
                self.last = loader.get_event()
                self._feed(self.last)
        except yaml.MarkedYAMLError as error:
            self._stop(*_explain(error, self, flow=loader.flow_level > 0))
        except (ValueError, OverflowError):  # PyYAML hands "\UFFFFFFFF" to chr() and the version of %YAML to int()
            self._stop("PK-Y09", "a number is out of range here", "use single quotes", _place(loader.get_mark()))
        for holder, key, path, place in self.aliases:  # in their order, so that an alias in an alias is a copy already
            holder[key] = self._copy(holder[key], path, place)
        return self.root

    def _refuse(self, code: str, what: str, hint: str, place: Place) -> None:
        self.problems.append(Problem(code, what, hint, "", self.file, place.line, place.column))
        if len(self.problems) == _MAX_PROBLEMS:
            raise SpecError(*self.problems)

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
                self._stop("PK-Y19", "a second document begins here", "keep one per file", _place(event.start_mark))
        elif isinstance(event, yaml.CollectionEndEvent):
            node = self.stack.pop()
            node.size = self.count - node.before
            if self.stack:
                self.stack[-1].height = max(self.stack[-1].height, node.height + 1)
        elif isinstance(event, yaml.NodeEvent):
            self._node(event)

    def _node(self, event: Any) -> None:
        parent = self.stack[-1] if self.stack else None
        node = _Node(None, _place(event.start_mark), event.start_mark.index, self.count)
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

    def _alias(self, event: Any, node: _Node) -> None:
        self.used += 1
        if self.used > MAX_ALIASES:
            self._stop("PK-Y13", f"more than {MAX_ALIASES} aliases", "write the values out", node.place)
        target = self.anchors.get(event.anchor)
        if target is None:
            what = f"alias *{event.anchor} names no anchor before it"
            flow = bool(self.stack) and self.stack[-1].flow
            self._refuse("PK-Y08", what, _quote(_raw(self.text, node.index, flow=flow, key=True)), node.place)
        elif not target.size:
            what = f"alias *{event.anchor} stands inside the value that it names"
            self._refuse("PK-Y14", what, "write the value out", node.place)
        else:
            node.value, node.size, node.height = target.value, target.size, target.height

    def _tag(self, event: Any, node: _Node) -> None:
        if event.tag is None:
            return
        tag = _word(self.text, self.text.index("!", node.index))
        if event.tag.startswith("tag:yaml.org,2002:python/"):
            self._refuse("PK-Y17", f"tag {tag} is not allowed", "a spec runs no code; remove the tag", node.place)
        else:
            self._refuse("PK-Y18", f"tag {tag} is not allowed", _NO_TAG, node.place)

    def _scalar(self, event: yaml.ScalarEvent, node: _Node, *, is_key: bool) -> Any:
        text = event.value
        if _SURROGATE.search(text):  # JSON escapes one character beyond U+FFFF as two halves
            try:
                text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
            except UnicodeDecodeError:
                self._refuse("PK-Y22", f"{_short(text)} holds half a character", "write both escapes", node.place)
        if is_key or event.style is not None:
            return text
        try:
            return parse_scalar(text)
        except SpecError as error:
            self._refuse(error.problems[0].code, error.problems[0].what, error.problems[0].hint, node.place)

    def _key(self, event: Any, node: _Node, parent: _Node) -> None:
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
            what = f"duplicate key {_short(node.value)}, first in line {first.line}"
            self._refuse("PK-Y02", what, "keep one of them", place)
        else:
            self.keys[(*parent.path, node.value)] = place
        parent.key = node.value

    def _put(self, parent: _Node | None, node: _Node, *, alias: bool) -> None:
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


def _explain(error: yaml.MarkedYAMLError, reader: _Reader, *, flow: bool) -> _Words:
    at: Any = error.problem_mark
    start: Any = error.context_mark or at
    said = f"{error.context}: {error.problem}"
    return _in_token(said, reader.text, start, at, flow=flow) or _between_tokens(said, reader, start, at, flow=flow)


def _in_token(said: str, text: str, start: Any, at: Any, *, flow: bool) -> _Words | None:
    raw = _raw(text, start.index, flow=flow, key=True)
    if "cannot start any token" in said and text[at.index] == "\t":
        where = "between values" if text[at.index - at.column : at.index].strip() else "for indentation"
        return "PK-Y01", f"YAML forbids tabs {where}", "use spaces", _place(at)
    if "cannot start any token" in said:
        return "PK-Y00", f"unquoted text cannot begin with {text[at.index]}", _quote(raw), _place(at)
    if found := re.search("scanning an (alias|anchor)", said):
        return "PK-Y08", f"unquoted {_short(raw)} is read as an {found[1]}", _quote(raw), _place(start)
    if "double-quoted scalar" in said:
        escape = text.rfind("\\", 0, at.index + 1)
        what = f"{text[escape : escape + 2]} begins no valid escape in double quotes"
        whole = _IN_DOUBLE_QUOTES.match(text, start.index)
        return "PK-Y09", what, _quote(whole[1] if whole else "", "use single quotes"), _end(text[:escape])
    if "quoted scalar" in said:
        quote = text[start.index]
        return "PK-Y11", f"the {quote} opened here is never closed", f"add the closing {quote}", _place(start)
    if re.search("(?:scanning|parsing) a tag|tag handle", said):
        return "PK-Y18", f"tag {_word(text, start.index)} is not allowed", _NO_TAG, _place(start)
    return None


def _between_tokens(said: str, reader: _Reader, start: Any, at: Any, *, flow: bool) -> _Words:
    text, last = reader.text, reader.last
    colon = text.rfind(": ", at.index - at.column, at.index)
    if colon >= 0 and ("mapping values" in said or said.endswith("but got ':'")):
        raw = _raw(text, colon + 2, flow=flow, key=False)
        return "PK-Y10", f"{_short(raw)} holds ': ', which needs quotes", _quote(raw), _place(at)
    if isinstance(last, yaml.ScalarEvent) and last.style in ("'", '"'):
        begin: Any = last.start_mark
        end: Any = last.end_mark
        if begin.line < end.line == at.line:
            what = f"the {last.style} opened here closes only in line {end.line + 1}, before other text"
            return "PK-Y11", what, f"add the closing {last.style}", _place(begin)
    brackets = [node for node in reader.stack if node.flow and text[node.index] in "[{"]
    found = text[at.index : at.index + 1]  # nothing at the end
    if brackets and found != "," and (found in "]}" or at.line + 1 != brackets[-1].place.line):
        opening = text[brackets[-1].index]
        what = f"the '{opening}' opened here is never closed"
        return "PK-Y11", what, f"add '{']' if opening == '[' else '}'}'", brackets[-1].place
    if "could not find expected ':'" in said:
        raw = _raw(text, start.index, flow=flow, key=False)
        return "PK-Y00", f"no ':' follows {_short(raw)}", "write key: value", _place(start)
    hint = "check the quotes, brackets and indentation here"
    return "PK-Y00", f"{_short(_word(text, at.index))} cannot stand here", hint, _place(at)


def _stop(code: str, what: str, hint: str, file: str = "", place: Place | None = None) -> NoReturn:
    problem = Problem(code, what, hint, file=file)
    raise SpecError(problem.at(file, place.line, place.column) if place else problem) from None


def _special(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe (FIFO)"), (stat.S_ISSOCK, "a socket"))
    return next((kind for test, kind in kinds if test(mode)), "" if stat.S_ISREG(mode) else "a device")


def _too_large(size: int) -> tuple[str, str]:
    return f"{size:,} bytes are more than the {MAX_BYTES:,} of a spec", "keep data in files of their own"


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _end(text: str) -> Place:
    lines = re.split("\r\n?|\n", text)
    return Place(len(lines), len(lines[-1]) + 1)


def _word(text: str, index: int) -> str:
    return (text[index : index + 40].split("\n", 1)[0].split() or ["the end of the line"])[0]


def _raw(text: str, index: int, *, flow: bool, key: bool) -> str:
    """Return the text from ``index`` on that was meant as one value, or as one key too."""
    stops = r"\s#" + (r"|[,\]}]" if flow else "") + (r"|:(?:\s|$)" if key else "")
    return re.split(stops, text[index:].split("\n", 1)[0], maxsplit=1)[0].strip()


def _short(value: object) -> str:
    return repr(f"{value[:40]}..." if isinstance(value, str) and len(value) > 60 else value)


def _quote(raw: str, how: str = "quote it") -> str:
    doubled = raw.replace("'", "''")
    return f"{how}: '{doubled}'" if 0 < len(raw) <= 60 else how

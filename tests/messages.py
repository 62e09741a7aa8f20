"""List every message that a user can see, as written in the sources.

``python tests/messages.py`` writes ``docs/messages.md``; ``tests/test_messages.py`` reads the same
list. A message is any string of the package that holds words, except docstrings: what is raised,
logged and printed, and the help of the commands. No code runs for it, so no message is missed
because no test reaches it.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "modules" / "yolograft"
PAGE = ROOT / "docs" / "messages.md"

#: Two words side by side, or a file and what is wrong with it.
_PROSE = re.compile(r"[A-Za-z]{2,}[,:;)]* [A-Za-z]{2,}|\}:? [a-z]{2,}|^[A-Z][a-z]+ \{")

#: Strings of these calls are patterns, code or keys.
_NOT_FOR_USERS = {"compile", "search", "match", "fullmatch", "sub", "findall", "finditer", "split"}
_NOT_FOR_USERS |= {"exec", "eval", "strptime", "strftime", "define", "custom_op"}

#: Functions that raise their text: their first argument is a fact, the second a hint.
_REFUSALS = ("refuse", "_refuse")


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        file: Where it is written, relative to the package.
        line: Its line there.
        fact: Its text; what is filled in stands in braces.
        hint: What a user can do, if it says so.
        error: Whether it is raised.
    """

    file: str
    line: int
    fact: str
    hint: str = ""
    error: bool = False

    def __str__(self) -> str:
        return f"{self.fact} → {self.hint}" if self.hint else self.fact


def collect() -> list[Message]:
    """Return the messages of all sources, in their order, each once per file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py"), key=lambda p: (len(p.parts), p)):
        file = path.relative_to(PACKAGE).as_posix()
        visitor = _Visitor(file)
        visitor.visit(ast.parse(path.read_text(encoding="utf-8")))
        for message in visitor.messages:
            found.setdefault((file, message.fact, message.hint), message)
    return [*found.values()]


class _Visitor(ast.NodeVisitor):
    """Walk a module and keep the outermost strings that hold words."""

    def __init__(self, file: str):
        self.file = file
        self.error = False
        self.messages: list[Message] = []

    def visit_Call(self, node: ast.Call) -> None:
        name = _name(node.func)
        if name in _NOT_FOR_USERS:
            return
        if name in _REFUSALS and node.args:
            fact, *rest = [_text(argument) for argument in node.args[:2]]
            self.error = True
            self._keep(node, fact, *rest)
            self.error = False
            for argument in (*node.args, *(k.value for k in node.keywords)):
                self._inside(argument)
            return
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        """A text named ``msg`` is raised in the next line."""
        self.error = [_name(target) for target in node.targets] == ["msg"]
        self.visit(node.value)
        self.error = False

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        self._string(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self._string(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, ast.Add) and any(map(_is_string, (node.left, node.right))):
            self._string(node)
        else:
            self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        """Annotations are no messages."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.visit(node.value)

    def _string(self, node: ast.expr) -> None:
        fact, _, hint = _text(node).partition("\n\nHint: ")
        self._keep(node, fact, hint)
        self._inside(node)

    def _inside(self, node: ast.expr) -> None:
        """Visit what is filled in: a field may choose between texts."""
        if isinstance(node, ast.JoinedStr):
            for value in node.values:
                if isinstance(value, ast.FormattedValue):
                    self.visit(value.value)
        elif isinstance(node, ast.BinOp):
            self._inside(node.left)
            self._inside(node.right)
        elif not isinstance(node, ast.Constant):
            self.visit(node)

    def _keep(self, node: ast.expr, fact: str, hint: str = "") -> None:
        fact, hint = (" ".join(text.split()) for text in (fact, hint))
        if fact.startswith(("import ", "#!")):
            return
        if _PROSE.search(fact) or _PROSE.search(hint):
            error = self.error or bool(hint)
            self.messages.append(Message(self.file, node.lineno, fact, hint, error))


def _text(node: ast.expr) -> str:
    """Return a string expression as a user reads it, with names for what is filled in."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_text, node.values))
    if isinstance(node, ast.FormattedValue):
        return f"{{{_field(node.value)}}}"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    return f"{{{_field(node)}}}"


def _field(node: ast.expr) -> str:
    """Return a short name for an expression."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript):
        return _field(node.value)
    if isinstance(node, ast.Call):
        if _name(node.func) in ("join", "str", "len", "repr", "sorted", "map") and node.args:
            return _field(node.args[-1])
        return _name(node.func)
    if isinstance(node, ast.IfExp | ast.BoolOp):
        return "..."
    names = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
    return names[0].id if names else "..."


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _is_string(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def page(messages: list[Message]) -> str:
    """Return the page that lists them: errors first, by room, then all other texts."""
    errors = [message for message in messages if message.error]
    others = [m for m in messages if not m.error and not m.fact.startswith("<")]
    lines = [
        "# Messages",
        "",
        "Every message of yolograft, as `python tests/messages.py` finds it in the sources. Values",
        "that are filled in stand in braces.",
    ]
    for title, some in (("Errors: fact → hint", errors), ("Logs, help and parts of texts", others)):
        lines += ["", f"## {title}"]
        for file in dict.fromkeys(message.file for message in some):
            lines += ["", f"### {file}", ""]
            lines += [f"- {_markdown(str(m))}" for m in some if m.file == file]
    return "\n".join(lines) + "\n"


def _markdown(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", r"\*")


if __name__ == "__main__":
    PAGE.write_text(page(collect()), encoding="utf-8")

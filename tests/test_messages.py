"""Plain English in everything that a user reads."""

import ast
import inspect
import re

import messages
import pytest

import yolograft
from yolograft import cli, registry

#: What is not written, and what is written instead.
WORDS = {
    r"pictures?": "image",
    r"told|tells?|telling": "report, print, say",
    r"(?:as |most |too )?dear|dearer|dearest": "expensive, costs more",
    r"mend(?:s|ed|ing)?": "correct, fix",
    r"serves?": "work for, support",
    r"(?<!there )(?:is|are) no(?! longer)\b": "is not a",
    r"whole numbers?": "positive integer",
    r"(?:go|goes|going|went|gone) on": "resume, continue",
    r"ma[kd]es? good|really|anew|ever so|all the same": "plain words",
    r"(?<!HTTP )hosts?": "stage, or Ultralytics",
    r"findings?": "issues",
    r"data sets?": "dataset",
    r"what is that|stands? there": "say what is expected",
    r"complain(?:s|ed)? about|content with": "plain words",
}
_BANNED = {re.compile(rf"\b(?:{word})\b"): word for word in WORDS}

#: In messages, a gate is what a warm start opens; blocks that keep the shape are attention.
_GATE = re.compile(r"(?<!residual )\bgates?\b")

needs_checkout = pytest.mark.skipif(not messages.PAGE.parent.exists(), reason="needs a checkout")


#: What is filled in: a name of the code, not a word.
_FIELD = re.compile(r"\{[\w.]*\}")


def hits(text):
    """Return the words of a text that are not written."""
    return [match[0] for word in _BANNED for match in [word.search(text)] if match]


def listing(found):
    """Return lines for an assertion: place, words, text."""
    return "\n" + "\n".join(
        f"{place}: {', '.join(words)}: {text[:150]}" for place, words, text in found
    )


@needs_checkout
def test_the_page_is_up_to_date():
    page = messages.page(messages.collect())
    assert messages.PAGE.read_text(encoding="utf-8") == page, "run python tests/messages.py"


def test_messages_are_plain_english():
    found = []
    for message in messages.collect():
        text = _FIELD.sub("{}", f"{message.fact} {message.hint}")
        words = [*hits(text), *(match[0] for match in [_GATE.search(text)] if match)]
        if words:
            found.append((f"{message.file}:{message.line}", words, text))
    assert not found, listing(found)


def public():
    """Yield what a user looks up in Python or by ``yolograft list NAME``: name and docstring."""
    for name in yolograft.__all__:
        yield name, inspect.getdoc(getattr(yolograft, name)) or ""
    for block in registry.table():
        yield block.name, inspect.getdoc(block.load()) or ""


def test_docstrings_are_plain_english():
    docs = dict(public())
    assert len(docs) > 20
    assert min(map(len, docs.values())) > 20, "a public name without a docstring"
    found = [(name, hits(text), " ".join(text.split())) for name, text in docs.items()]
    found = [one for one in found if one[1]]
    assert not found, listing(found)


@pytest.mark.parametrize(
    "command",
    ["", "list", "doctor", "patch", "train", "val", "coco", "coco check", "compare"],
)
def test_help_is_plain_english(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main([*command.split(), "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith(f"usage: yolograft {command}".rstrip())
    assert len(text) > 100
    assert not hits(text), f"{hits(text)}: {text}"


# The list itself


SOURCE = '''
"""A docstring with no message."""
import re
PATTERN = re.compile(r"never seen anywhere")
def load(file: "a type here") -> None:
    """Another docstring."""
    kind = "old" if file else "the new one"
    if not file:
        refuse(f"{file}: there is no {kind.name} file", "give " + "a path")
    LOGGER.warning(f"skipped {len(files)} files" + (": not readable" if bad else ""))
    msg = f"{file!r} is empty\\n\\nHint: write to it"
    raise ValueError(msg)
'''


def test_every_kind_of_message_is_found():
    visitor = messages._Visitor("a.py")
    visitor.visit(ast.parse(SOURCE))
    assert [(m.line, m.error, str(m)) for m in visitor.messages] == [
        (7, False, "the new one"),
        (9, True, "{file}: there is no {name} file → give a path"),
        (10, False, "skipped {files} files{...}"),
        (10, False, ": not readable"),
        (11, True, "{file} is empty → write to it"),
    ]


def test_banned_words_are_found():
    assert hits("the picture is no YAML and is told") == ["picture", "told", "is no"]
    assert not hits("there is no such file: retell, dearth, amend, ghost, image")
    assert len(messages.collect()) > 300

"""`python docs/readability.py FILE ...`: how many words the sentences of Markdown files have."""

import re
import sys
from pathlib import Path
from typing import NamedTuple


class Length(NamedTuple):
    """Lines and words of a text, the mean and the longest of its sentences [words], and that sentence itself."""

    lines: int
    words: int
    mean: float
    longest: int
    sentence: str


def measure(text: str) -> Length:
    """Measure the sentences of Markdown `text`. Code blocks, tables and headings do not count; `code` is one word."""
    found = [sentence for paragraph in _paragraphs(text) for sentence in re.split(r"(?<=[.!?:])\s+", paragraph)]
    counts = [len(sentence.split()) for sentence in found] or [0]
    longest = max(range(len(counts)), key=counts.__getitem__)
    words = len(text.split())
    return Length(text.count("\n"), words, sum(counts) / len(counts), counts[longest], found[longest] if found else "")


def _paragraphs(text: str) -> list[str]:
    for pattern in (r"^( *)```.*?^\1```", r"^( *):::.*?$", r"<!--.*?-->"):
        text = re.sub(pattern, "\n", text, flags=re.DOTALL | re.MULTILINE)
    lines = ["" if re.match(r"\s*(\||#|!\[)", line) else line for line in text.splitlines()]
    text = re.sub(r"^\s*([-*:]|\d+\.) ", "\n", "\n".join(lines), flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`", "code", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text))
    return [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]


if __name__ == "__main__":
    for file in sys.argv[1:]:
        length = measure(Path(file).read_text())
        print(f"{file}: {length.lines} lines, {length.words} words, sentences of {length.mean:.1f} words in the mean")
        print(f"    longest ({length.longest}): {length.sentence}")

"""Check that sentences name their nouns: fail on phrases that hide them, in code, docs and messages.

python scripts/check_words.py
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHECKED = ("src/**/*.py", "benchmarks/*.py", "scripts/*.py", "docs/*.md", "*.md", "napari.yaml")
# Each as a regex and what to write instead.
PHRASES = {
    r"what (is|are|was|were)": "the noun: the labels, the finished tiles, the saved run",
    r"whether what": "the noun",
    r"those (that|who|which)": "the noun: the tiles that",
    r"(whoever|somebody)": "the user, another process, the caller",
    r"at hand": "current, active",
    r"for good": "finally, never again",
    r"to be (had|known)": "an active verb",
    r"whose turn": "next",
    r"so many": "the number",
    r"all is well": "the condition",
    r"(is|are|was|were) said": "reported, printed, stated",
    r"needed no more": "released, finished",
    r"kept of the image": "cropped",
    r"(go|goes|going|gone) on with": "resume, continue",
    r"(take|takes|taken|took) (it |them )?up(?! to)": "resume",
}


def found_in(text: str) -> Iterator[tuple[int, str, str]]:
    """The line, phrase and advice of every match, also across the lines of a comment or docstring."""
    for phrase, advice in PHRASES.items():
        words = phrase.replace(" ", r"[\s#]+")
        pattern = re.compile(rf"\b{words}\b", re.IGNORECASE)
        for match in pattern.finditer(text):
            yield text.count("\n", 0, match.start()) + 1, " ".join(match[0].split()), advice


def main() -> int:
    """Print every match, and return whether there was one."""
    paths = sorted({path for glob in CHECKED for path in ROOT.glob(glob)} - {Path(__file__)})
    failed = False
    for path in paths:
        for line, phrase, advice in sorted(found_in(path.read_text(encoding="utf-8"))):
            print(f"{path.relative_to(ROOT)}:{line}: {phrase!r}: write {advice}")
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

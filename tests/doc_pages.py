"""What stands in the code blocks of the documents, for the tests that run them."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]

BLOCK = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)
# The last bits of a fit, its seconds, and which of two close values is best are a machine's.
NUMBER = re.compile(r"([+-]?\d[\d,.]*(?<![,.])|[+-]?\.\d+)[¹²]?")


def blocks(page: Path, language: str) -> list[str]:
    """The page's code blocks of a language that have no title."""
    return [
        code
        for found, title, code in BLOCK.findall(page.read_text(encoding="utf-8"))
        if found == language and not title
    ]


def files(page: Path) -> dict[str, str]:
    """The page's files: the blocks that have a title, by it."""
    return {title: code for _, title, code in BLOCK.findall(page.read_text(encoding="utf-8")) if title}


def entry_points(page: Path) -> str:
    """What the page's `[project.entry-points."GROUP"]` tables say, as a package's entry_points.txt."""
    lines = []
    for code in blocks(page, "toml"):
        for line in code.splitlines():
            group = re.fullmatch(r'\[project\.entry-points\."(.+)"\]', line)
            lines.append(f"[{group[1]}]" if group else line.replace('"', ""))
    return "\n".join([*lines, ""])


def steps(page: Path) -> list[tuple[str, str]]:
    """Each command of the page's consoles, and what it prints."""
    return re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", "".join(blocks(page, "console")), re.MULTILINE)


def folded(text: str) -> str:
    """The text with every number `#`, and every run of white space, or of a table's rule, one sign."""
    return " ".join(re.sub("─+", "─", NUMBER.sub("#", text)).split())


def agrees(printed: str, page: str) -> bool:
    """Whether the page shows what was printed; `…` stands for anything."""
    pattern = ".*".join(re.escape(part.strip()) for part in folded(page).split("…"))
    return re.fullmatch(pattern.replace(".*", r"\s*.*?\s*") + r"\s*.*", folded(printed), re.DOTALL) is not None

"""A program of its own: the lines of a PDF from stdin, as JSON on stdout.

    python -I pdf_lines.py CPU_SECONDS MEMORY_BYTES MOST_BYTES < FILE.pdf

PDFium is a library in C++ that one thread may use at a time, over files that strangers made. Here it may crash, fill
its memory or spend its time, and costs that file alone. It imports nothing of slimpajama, so that it starts at once.

Each line of stdout is a page: a list of `[text, left, right, first, last]`. `first` and `last` are the heights of its
first and last character above the page's lower edge, in points: PDFium joins lines at a hyphen. Exit code 3: the file
needs a password. 4: it is no PDF, or a damaged one. 5: its text is longer than MOST_BYTES.
"""

import contextlib
import json
import sys
from importlib import import_module
from typing import Any

ENCRYPTED, DAMAGED, TOO_LARGE = 3, 4, 5
# A hyphen at which PDFium has joined two lines, a soft hyphen, and what no text holds.
LEFT_OUT = (0, 2, 13, 0xAD, 0xFFFE, 0xFFFF)


def main(cpu_seconds: int, memory_bytes: int, most_bytes: int) -> int:
    """Write the lines of the PDF on stdin; return the exit code."""
    # Windows has no limits, and macOS refuses this one.
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    pypdfium2 = import_module("pypdfium2")
    raw = pypdfium2.raw
    try:
        document = pypdfium2.PdfDocument(sys.stdin.buffer.read())
    except pypdfium2.PdfiumError as error:
        return ENCRYPTED if error.err_code == raw.FPDF_ERR_PASSWORD else DAMAGED
    size = 0
    for number in range(len(document)):
        try:
            page = document[number]
            text = page.get_textpage()
        except pypdfium2.PdfiumError:
            print("[]")
            continue
        if (size := size + text.count_chars()) > most_bytes:
            return TOO_LARGE
        print(json.dumps(_lines(text, raw)))
        text.close()
        page.close()
    return 0


def _lines(page: Any, raw: Any) -> list[tuple[str, float, float, float, float]]:
    lines = []
    characters: list[str] = []
    boxes: list[tuple[float, float, float, float]] = []
    count = page.count_chars()
    for at in range(count + 1):
        unit = raw.FPDFText_GetUnicode(page, at) if at < count else 10
        if unit == 10:
            # Characters beyond 16 bits may come in halves.
            text = "".join(characters).encode("utf-16", "surrogatepass").decode("utf-16", "replace").strip()
            if text and boxes:
                lines.append((text, boxes[0][0], boxes[-1][2], boxes[0][1], boxes[-1][1]))
            characters, boxes = [], []
        elif unit not in LEFT_OUT:
            characters.append(chr(unit))
            if unit > 32:
                boxes.append(page.get_charbox(at))
    return lines


if __name__ == "__main__":
    raise SystemExit(main(*map(int, sys.argv[1:4])))

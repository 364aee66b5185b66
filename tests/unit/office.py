"""Word documents and books, made out of XML as their programs pack it."""

import io
import zipfile

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def packed(method: int = zipfile.ZIP_DEFLATED, **files: str) -> bytes:
    """Return files as a zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as package:
        for name, text in files.items():
            package.writestr(name, text)
    return out.getvalue()


def docx(body: str, **files: str) -> bytes:
    """Return a Word document of a body, with further files in it."""
    return packed(**{"word/document.xml": f'<w:document xmlns:w="{W}"><w:body>{body}</w:body></w:document>'} | files)


def epub(*chapters: str, **files: str) -> bytes:
    """Return a book that is read from its last chapter to its first, with further files in it."""
    items = "".join(f'<item id="c{n}" href="t%20x/c{n}.xhtml"/>' for n in range(len(chapters)))
    spine = "".join(f'<itemref idref="c{n}"/>' for n in reversed(range(len(chapters))))
    opf = (
        f"<package><manifest>{items}<item id='nav' properties='nav' href='nav.xhtml'/></manifest><spine>{spine}</spine>"
    )
    return packed(
        **{
            "META-INF/container.xml": '<container><rootfiles><rootfile full-path="O/b.opf"/></rootfiles></container>',
            "O/b.opf": opf + "</package>",
            "O/nav.xhtml": "<html><body>contents</body></html>",
        }
        | {f"O/t x/c{n}.xhtml": chapter for n, chapter in enumerate(chapters)}
        | files
    )

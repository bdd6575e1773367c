"""The files of the status page, which are read before the process may lose them by chroot(2)."""

from pathlib import Path

TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "ico": "image/x-icon",
    "txt": "text/plain; charset=utf-8",
    "json": "application/json",
    "woff2": "font/woff2",
}
"""The types of files, by the ends of their names."""

FOLDER = Path(__file__).with_name("page")

INDEX = "index.html"

PageFiles = dict[str, tuple[str, bytes]]
"""The type and the content of each path."""


def read_page_files() -> PageFiles:
    """Return the files of the package's folder ``page``, by their paths on the server."""
    found: PageFiles = {}
    for file in FOLDER.iterdir() if FOLDER.is_dir() else ():
        content_type = TYPES.get(file.suffix[1:])
        if content_type is not None and file.is_file():
            found[f"/{file.name}"] = content_type, file.read_bytes()
    if f"/{INDEX}" in found:
        found["/"] = found[f"/{INDEX}"]
    return found

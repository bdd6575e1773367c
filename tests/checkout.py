"""The checkout under test, and the documents in it."""

from pathlib import Path

TOP = Path(__file__).parents[1]
DOCUMENTS = [TOP / "README.rst", *sorted((TOP / "docs").glob("*.rst"))]


def path_of(name: str) -> Path:
    """Return the path of a document by its name."""
    return next(document for document in DOCUMENTS if document.name == name)

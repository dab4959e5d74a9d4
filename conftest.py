"""Executes the python blocks of the documents, each document as one program from top to bottom.

A block that cannot run by itself is preceded by `<!-- skip: next "the reason" -->`.
"""

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

DOCUMENTS = ["README.md", "docs/*.md", "docs/**/*.md", "packages/*/README.md"]
# Needs a server, so the tests of its package run it.
ELSEWHERE = ["packages/flowcraft-redis/README.md"]

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()], patterns=DOCUMENTS, excludes=ELSEWHERE
).pytest()

"""Embedded documentation: there, clean, the same each time, and several domains."""

import subprocess
import sys

import pytest

from hftransfer.data.demo import SHORTEST_TEXT
from hftransfer.data.demo_docs import DOCS_PACKAGES, docs


@pytest.fixture(scope="module")
def found():
    return {config: docs(config)["text"][:] for config in DOCS_PACKAGES}


@pytest.mark.parametrize("config", DOCS_PACKAGES)
def test_documents_are_distinct_sorted_and_long_enough(found, config):
    texts = found[config]
    assert len(texts) > 1000 and sum(len(text) for text in texts) > 500_000
    assert texts == sorted(set(texts))
    assert min(len(text) for text in texts) >= SHORTEST_TEXT
    assert not [text for text in texts if " at 0x" in text]


def test_domains_do_not_overlap(found):
    """scikit-learn and SciPy each document what they share with nobody."""
    for one in DOCS_PACKAGES:
        for other in DOCS_PACKAGES:
            shared = set(found[one]) & set(found[other])
            assert one == other or len(shared) < 0.02 * min(len(found[one]), len(found[other]))


def test_what_is_known_is_there(found):
    for config, opening in (
        ("scipy", "Compute the LU decomposition"),
        ("torch", "Applies a linear"),
        ("sklearn", "Ordinary least squares"),
        ("python", "Heap queue algorithm"),
    ):
        assert any(opening.lower() in text.lower() for text in found[config]), config


READ_ALL = """
import zlib
from hftransfer.data.demo import api_docs
from hftransfer.data.demo_docs import DOCS_PACKAGES, docs
for made, config in [*((docs, name) for name in DOCS_PACKAGES), (api_docs, "scipy"), (api_docs, "torch")]:
    print(made.__name__, config, zlib.crc32("\\0".join(made(config)["text"]).encode("utf-8", "surrogatepass")))
"""


def test_another_process_reads_the_same():
    """SciPy draws at import what it shows as examples, and prints sets in the order of the process's hashes."""
    one, other = (
        subprocess.run([sys.executable, "-c", READ_ALL], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert one == other and one.count("\n") == len(DOCS_PACKAGES) + 2

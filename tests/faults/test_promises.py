# SPDX-License-Identifier: ISC
"""README says what is tested where: it must be so."""

import re
from pathlib import Path

TOP = Path(__file__).parents[2]


def test_table_is_true():
    """Each file of tests that the table names is there, and each one here is named."""
    text = (TOP / "README").read_text()
    section = text.split("What it promises and how that is tested", 1)[1]
    table, _, rest = section.partition("and in tests/e2e:")
    here = {p.name for p in Path(__file__).parent.glob("test_*.py")} - {Path(__file__).name}
    assert set(re.findall(r"test_\w+\.py", table)) == here
    there = {p.name for p in (TOP / "tests/e2e").glob("test_*.py")}
    assert set(re.findall(r"test_\w+\.py", rest)) <= there

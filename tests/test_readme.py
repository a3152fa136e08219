"""The README's code runs, in order, as a reader would run it."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_code_blocks(capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)
    assert blocks
    names: dict = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)

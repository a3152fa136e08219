"""The code in the README and on the site runs, page by page, in order, as a reader would run it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "pages").glob("*.md"))]


def blocks(page):
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def run_page(page):
    """The names that a page's code defines."""
    names: dict = {"__name__": "__main__"}
    for block in blocks(page):
        exec(compile(block, page.name, "exec"), names)
    return names


@pytest.mark.slow
def test_the_code_of_the_readme():
    run_page(PAGES[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [p for p in PAGES[1:] if blocks(p) and p.name != "funnels.md"],  # that is in `test_recipes`
    ids=lambda page: page.name,
)
def test_the_code_of_the_site(page):
    run_page(page)


def test_every_recipe_has_a_test():
    """`test_recipes` and `test_extensions` run them, and look at what they find."""
    files = ("test_recipes.py", "test_extensions.py")
    tests = "".join((ROOT / "tests" / name).read_text(encoding="utf-8") for name in files)
    recipes = list((ROOT / "docs" / "pages" / "recipes").glob("*.md"))
    assert recipes
    for page in recipes:
        assert f'RECIPES / "{page.name}"' in tests


def test_there_is_code_in_the_readme():
    assert len(blocks(PAGES[0])) == 3

"""blocks.py: what it finds in a page."""

import pytest
from blocks import blocks_of, commands_of, matches

PAGE = """\
# Title
```python title="main.py"
x = 1
```

<!-- not run: needs a cluster -->

```console
$ curl \\
    -s http://x
{"a": 1}

$ true
```

1.  In a list:

    ````
    ```
    ````
"""


def test_blocks_of_a_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    first, second, third = blocks_of(page)
    assert (first.language, first.title, first.not_run, first.text) == (
        "python",
        "main.py",
        None,
        "x = 1\n",
    )
    assert (second.language, second.title, second.not_run) == ("console", None, "needs a cluster")
    assert third.text == "```\n"
    curl, true = commands_of(second)
    assert (curl.text, curl.output) == ("curl \\\n    -s http://x", ['{"a": 1}', ""])
    assert (true.text, true.output, true.line) == ("true", [], 13)


def test_a_block_without_an_end_and_output_without_a_command(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\n")
    with pytest.raises(ValueError, match="does not end"):
        blocks_of(page)
    page.write_text("```console\nx\n```\n")
    with pytest.raises(ValueError, match="without a command"):
        commands_of(blocks_of(page)[0])


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        (["a", "b"], "a\nb\n", True),
        (["a"], "a\nb\n", False),
        (["a ... c", ""], "a 12 c\n", True),
        (["...", "c"], "1\n2\nc\n", True),
        (["[.*]"], "[x]", False),
        ([], "", True),
        ([], "x", False),
    ],
)
def test_what_is_printed_is_compared(expected, printed, same):
    assert matches(expected, printed) is same

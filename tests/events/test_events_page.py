"""The examples of docs/events.md run, and give what the page says."""

import ast
import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "events.md"


def test_every_example_runs_and_gives_what_it_says():
    text = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL))
    namespace, checked, block = {}, 0, []
    for line in text.splitlines():
        code, _, comment = line.partition("  #")
        block.append(code)
        if not code.strip() or code.startswith("try"):
            continue  # its handler is on the next line
        source, block = "\n".join(block).strip(), []
        if isinstance(ast.parse(source).body[-1], ast.Expr):
            stated = re.split(r": | \(|, may", comment.strip())[0] if "[" in comment else comment
            assert eval(source, namespace) == ast.literal_eval(stated.strip()), line
            checked += 1
        else:
            exec(source, namespace)
    assert checked == 12

"""Is every function of wm_gym/ short, and does it take few parameters? Prints those that are not; exit status 1."""

import ast
import sys
from pathlib import Path

LINES, PARAMETERS = 60, 8
ROOT = Path(__file__).resolve().parents[1]


def too_large(path: Path) -> list[str]:
    """One line a function of a file that is longer than LINES or takes more than PARAMETERS."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        given = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        parameters = len([name for name in given if name not in ("self", "cls")])
        if any(isinstance(d, ast.Name) and d.id == "register_to_config" for d in node.decorator_list):
            parameters = 0  # of a network's constructor: they are the fields of its config.json
        if lines > LINES or parameters > PARAMETERS:
            found.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {lines} lines, {parameters} parameters")
    return found


if __name__ == "__main__":
    found = [line for path in sorted((ROOT / "wm_gym").rglob("*.py")) for line in too_large(path)]
    print("\n".join(found) or f"no function is longer than {LINES} lines or takes more than {PARAMETERS} parameters")
    sys.exit(bool(found))

"""Where the walls stand: no import circle, no private name across files, nothing too long to read."""

import ast
from functools import cache
from pathlib import Path

from ..conftest import ROOT

PACKAGE = ROOT / 'ckd_mm'
FILES = sorted(PACKAGE.rglob('*.py'))
LONGEST_FILE, LONGEST_FUNCTION = 300, 50


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding='utf-8'))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


MODULES = {name_of(path): path for path in FILES}


def imports_of(path: Path) -> list[tuple[str, list[str]]]:
    """Modules of the package that are imported when this one is, and the names that are taken from each."""
    package, found = list(path.relative_to(ROOT).parent.parts), []
    inside = {child for node in ast.walk(tree_of(path)) if isinstance(node, (ast.FunctionDef, ast.If))
              for child in ast.walk(node)}  # later, or for type checkers
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node not in inside and node.level:
            above = package[:len(package) - node.level + 1]
            base = '.'.join(above + (node.module or '').split('.')).rstrip('.')
            for name in (item.name for item in node.names):
                module = f'{base}.{name}' if f'{base}.{name}' in MODULES else base
                found.append((module, [name]))
    return found


def test_no_import_circle():
    """Between modules; a package's ``__init__`` counts as one of its modules."""
    graph = {name: {module for module, _ in imports_of(path)} - {name} for name, path in MODULES.items()}
    done, walking = set(), []

    def walk(name: str) -> None:
        assert name not in walking, f'import circle: {" -> ".join([*walking[walking.index(name):], name])}'
        if name in done or name not in graph:
            return
        walking.append(name)
        for other in sorted(graph[name]):
            walk(other)
        walking.pop()
        done.add(name)

    for name in sorted(graph):
        walk(name)


def test_no_private_name_across_files():
    taken = [(name_of(path), name, module) for path in FILES for module, names in imports_of(path)
             for name in names]
    used = [f'{path} takes {name} from {module}' for path, name, module in taken
            if name.startswith('_') and not name.startswith('__')]
    assert used == []


def test_nothing_is_too_long():
    files = {name_of(path): lines for path in FILES
             for lines in [len(path.read_text().splitlines())] if lines > LONGEST_FILE}
    functions = {f'{name_of(path)}.{node.name}': node.end_lineno - node.lineno + 1 for path in FILES
                 for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef)
                 and node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION}
    assert (files, functions) == ({}, {})


def test_text_files_are_utf_8():
    """Whatever the locale: a trajectory.json with a class 'Müller' is whole."""
    found = []
    for path in [*FILES, *sorted((ROOT / 'tools').glob('*.py'))]:
        for node in ast.walk(tree_of(path)):
            name = node.func.id if isinstance(getattr(node, 'func', None), ast.Name) else getattr(
                getattr(node, 'func', None), 'attr', '')
            opens = name == 'open' and isinstance(node.func, ast.Name) and not any(
                isinstance(part, ast.Constant) and 'b' in str(part.value) for part in node.args[1:])
            if (opens or name in ('read_text', 'write_text')) and 'encoding' not in {
                    keyword.arg for keyword in node.keywords}:
                found.append(f'{path}:{node.lineno}')
    assert found == []


def test_the_pipeline_knows_no_method():
    """But for build.py, which says which stages there are, and what is made of it."""
    allowed = {'ckd_mm.pipeline.build', 'ckd_mm.pipeline.reference'}
    knows = {name: module for name, path in MODULES.items() if name.startswith('ckd_mm.pipeline.')
             for module, _ in imports_of(path) if module.startswith('ckd_mm.stages') and name not in allowed}
    assert knows == {}

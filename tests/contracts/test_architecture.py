"""What the house promises of itself: who may import whom, and how long a file may be."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIBRARY = sorted((ROOT / "behavior_lib").rglob("*.py"))
CODE = [*LIBRARY, *sorted((ROOT / "jobs").glob("*.py")), *sorted((ROOT / "tests").rglob("*.py"))]
MAX_FILE, MAX_FUNCTION = 400, 50

# package → packages of the library that it may import; a package may always import itself.
ALLOWED = {
    "errors": set(),
    "arguments": {"errors"},
    "layout": set(),
    "locks": {"errors"},
    "version": set(),
    "progress": set(),
    "tables": {"errors"},
    "config": {"errors", "layout", "tables"},
    "data": {"errors", "tables", "models", "config"},
    "models": {"errors", "tables", "data", "config"},
    "evaluation": {"errors", "tables", "models", "data", "config"},
    "inference": {"errors", "tables", "models", "data"},
    "profile": {"errors", "tables"},
    "samples": {"errors"},
    "privacy": {"errors", "config", "tables"},
    "report": {"errors", "tables", "evaluation", "version"},
    "train": {"errors", "tables", "config", "data", "models", "evaluation", "progress", "version"},
    "tune": {"errors", "tables", "config", "data", "models", "train"},
}
FREE = {"spark", "cli", "doctor", "registry", ""}


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def package(path: Path) -> str:
    parts = path.relative_to(ROOT / "behavior_lib").with_suffix("").parts
    return "" if parts[0] == "__init__" else parts[0]


def test_only_the_spark_package_and_the_jobs_import_spark():
    guilty = [
        str(path.relative_to(ROOT))
        for path in LIBRARY
        if package(path) != "spark" and any(name.split(".")[0] in ("pyspark", "delta") for name in imports(path))
    ]
    # Programs of the doctor that each try one part in a process of their own.
    assert [path for path in guilty if "doctor/probes" not in path] == []


def test_dependencies_point_one_way():
    guilty = []
    for path in LIBRARY:
        own = package(path)
        if own in FREE:
            continue
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "behavior_lib" and len(parts) > 1 and parts[1] not in {own, *ALLOWED[own], "__version__"}:
                guilty.append(f"{path.relative_to(ROOT)} imports {name}")
    assert guilty == []


def test_no_file_is_too_long():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in CODE}
    assert {name: length for name, length in lengths.items() if length > MAX_FILE} == {}


def test_no_function_is_too_long():
    guilty = []
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if is_function and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION:
                guilty.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert guilty == []


def test_importing_the_library_starts_nothing():
    """A module may define and import; a call at its top level must be one that only builds a value."""
    guilty = []
    for path in LIBRARY:
        # The doctor's probes are programs, and MLflow runs the file of a model to learn what it is.
        if "probes" in path.parts or path.name.startswith("registered_"):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                guilty.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert guilty == []


def test_pickle_eval_and_shells_are_not_used():
    forbidden = {"eval", "exec", "os.system"}
    guilty = []
    for path in LIBRARY:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        guilty += [
            f"{path.name}: imports {name}" for name in imports(path) if name.split(".")[0] in ("pickle", "cloudpickle")
        ]
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                has_shell = any(k.arg == "shell" and ast.unparse(k.value) == "True" for k in node.keywords)
                if called in forbidden or has_shell:
                    guilty.append(f"{path.name}:{node.lineno} {called}")
    assert guilty == []

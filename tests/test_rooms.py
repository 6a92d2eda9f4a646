"""The house: every module can be imported, and a name means one thing."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import decode_zoo as dz

PACKAGE = Path(dz.__file__).parent
MODULES = [found.name for found in pkgutil.walk_packages(dz.__path__, "decode_zoo.")]


def test_every_module_can_be_imported_and_rebinds_no_public_name():
    code = (
        "import importlib, sys, types, decode_zoo as dz\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "bad = [n for n in dz.__all__ if isinstance(getattr(dz, n), types.ModuleType)]\n"
        "assert not bad, bad\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    named = [name for name in MODULES if name != "decode_zoo.__main__"]
    assert len(named) > 100
    done = subprocess.run([sys.executable, "-c", code, *named], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_file_name_stands_for_one_thing():
    counts = Counter(
        path.name
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py" and path.parent.name != "figures"
    )
    assert [name for name, count in counts.items() if count > 1] == []

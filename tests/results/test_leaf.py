"""Oracle: the modules that a fresh interpreter has loaded after importing all of `results`."""

import subprocess
import sys

IMPORT_ALL = """
import importlib, pkgutil, sys, results
for module in pkgutil.iter_modules(results.__path__):
    importlib.import_module(f"results.{module.name}")
print(*sorted({name.split(".")[0] for name in sys.modules}))
"""


def test_results_load_neither_torch_nor_the_rest_of_the_harness() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "polars" in loaded
    assert loaded.isdisjoint({"torch", "harness", "baselines", "etegrec", "sweeps"})

"""Every registered method against the conformance suite; a class for each, so that workers can share them."""

from harness.methods import methods
from harness.testing import MethodConformance

for name, method in methods().items():
    is_trained = method.family != "no training"
    facts = {"method": method, "is_seeded": is_trained, **({"margin": 0.0} if name == "popularity" else {})}
    globals()[f"Test{method.title}"] = type(f"Test{method.title}", (MethodConformance,), facts)

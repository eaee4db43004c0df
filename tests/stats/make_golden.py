"""Regenerates golden/*.json with packages whose pinned dependencies don't fit into our environment.

`make oracles` makes an environment for each package, with the pins of requirements/oracles/, and runs this file in it:

    build/oracles/irrCAC/bin/python tests/stats/make_golden.py irrCAC

The inputs are golden/inputs.json; `inputs` as the argument draws them anew, after which all files must be made again.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent / "golden"


def read(name: str) -> Any:
    """Read a file of golden/."""
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def write(name: str, content: Any) -> None:
    """Write a file of golden/, one line per top-level key."""
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
    (GOLDEN / f"{name}.json").write_text("{\n" + lines + "\n}\n", encoding="utf-8")


def inputs() -> dict[str, Any]:
    """Draw ratings (raters x items, None where missing), votes among four models, and labels with predictions."""
    rng = random.Random(20_261_128)
    truth = [rng.randrange(1, 5) for _ in range(40)]
    ratings = [
        [None if rng.random() < 0.25 else t if rng.random() < 0.7 else rng.randrange(1, 5) for t in truth]
        for _ in range(4)
    ]
    strengths = {"a": 4.0, "b": 2.0, "c": 1.5, "d": 1.0}
    votes = []
    for _ in range(400):
        left, right = rng.sample(sorted(strengths), 2)
        if rng.random() < 0.15:
            votes.append([left, right, "tie"])
        else:
            wins = rng.random() < strengths[left] / (strengths[left] + strengths[right])
            votes.append([left, right, "left" if wins else "right"])
    quality = [rng.random() for _ in range(700)]
    predictions = [round(q + rng.gauss(0.05, 0.1), 4) for q in quality]
    labels = [float(rng.random() < q) for q in quality[:200]]
    return {"ratings": ratings, "votes": votes, "labels": labels, "predictions": predictions}


def irr_cac() -> dict[str, Any]:
    """Compute chance-corrected agreement of all raters, and Cohen's kappa of the first two."""
    import pandas as pd
    from irrCAC.raw import CAC

    table = pd.DataFrame(read("inputs")["ratings"], dtype=float).T
    values = {}
    for name, weights, method in (
        ("fleiss_kappa", "identity", "fleiss"),
        ("gwet_ac1", "identity", "gwet"),
        ("krippendorff_alpha|nominal", "identity", "krippendorff"),
        ("krippendorff_alpha|interval", "quadratic", "krippendorff"),
    ):
        values[name] = getattr(CAC(table, weights=weights, digits=16), method)()["est"]["coefficient_value"]
    both = table[[0, 1]].dropna()
    values["cohen_kappa"] = CAC(both, digits=16).conger()["est"]["coefficient_value"]
    return values


def arena_rank() -> dict[str, Any]:
    """Fit a Bradley-Terry model; ratings and standard errors are natural logarithms of strengths."""
    import numpy as np
    import pandas as pd
    from arena_rank.models.bradley_terry import BradleyTerry
    from arena_rank.utils.data_utils import PairDataset

    winner = {"left": "model_a", "right": "model_b", "tie": "tie"}
    rows = [{"model_a": a, "model_b": b, "winner": winner[who]} for a, b, who in read("inputs")["votes"]]
    data = PairDataset.from_pandas(pd.DataFrame(rows))
    model = BradleyTerry(data.n_competitors, ftol=1e-14, gtol=1e-14)
    found = model.compute_ratings_and_cis(data)
    ratings = (np.asarray(found["ratings"]) - model.init_rating) / model.alpha
    errors = np.sqrt(np.asarray(found["variances"])) / model.alpha
    return {"names": list(found["competitors"]), "ratings": ratings.tolist(), "standard_errors": errors.tolist()}


def ppi_python() -> dict[str, Any]:
    """Compute 95 % intervals of the mean label: without predictions, with them, and with tuned use of them."""
    import numpy as np
    from ppi_py import ppi_mean_ci, ppi_mean_pointestimate

    content = read("inputs")
    labels, predictions = np.array(content["labels"]), np.array(content["predictions"])
    labeled, unlabeled = predictions[: len(labels)], predictions[len(labels) :]
    values = {}
    for name, lam in (("classical", 0), ("plain", 1), ("tuned", None)):
        low, high = ppi_mean_ci(labels, labeled, unlabeled, alpha=0.05, lam=lam)
        point = ppi_mean_pointestimate(labels, labeled, unlabeled, lam=lam)
        values[name] = [float(np.squeeze(number)) for number in (point, low, high)]
    return values


ORACLES: dict[str, Callable[[], dict[str, Any]]] = {
    "irrCAC": irr_cac,
    "arena-rank": arena_rank,
    "ppi-python": ppi_python,
}

if __name__ == "__main__":
    (package,) = sys.argv[1:]
    if package == "inputs":
        write("inputs", inputs())
    else:
        write(package, {"package": package, "version": metadata.version(package)} | ORACLES[package]())

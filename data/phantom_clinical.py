"""A synthetic clinical table for the phantom's patients, linked to their tumor load, but imperfectly.

What is drawn, for a patient whose tumor takes the share r of the liver (z = (log10 max(r, 0.001) + 1.8) / 0.8, about
-1.5 to 1.9; the constants are invented):

- log10_afp, of ng/ml: 1.2 + 0.7 z + noise of deviation 0.6;
- tumor_nodularity: whether there is more than one tumor, told wrongly in 15 % of the patients;
- vascular_invasion: "yes" with probability min(0.9, 0.05 + 2 r);
- age_years, sex, bilirubin_mg_dl and cirrhosis: unrelated to the tumor.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def draw_clinical(rng: np.random.Generator, load: float, n_tumors: int) -> dict[str, Any]:
    """Draw a patient's row.

    Args:
        rng: of this patient's table alone.
        load: tumor voxels / liver voxels (tumor included).
        n_tumors: number of tumors.
    """
    z = (np.log10(max(load, 1e-3)) + 1.8) / 0.8
    many = (n_tumors > 1) != (rng.random() < 0.15)
    return {
        "log10_afp": round(float(1.2 + 0.7 * z + rng.normal(0, 0.6)), 2),
        "tumor_nodularity": "multinodular" if many else "uninodular",
        "vascular_invasion": "yes" if rng.random() < min(0.9, 0.05 + 2 * load) else "no",
        "age_years": int(np.clip(rng.normal(62, 10), 25, 90)),
        "sex": "male" if rng.random() < 0.75 else "female",
        "bilirubin_mg_dl": round(float(np.exp(rng.normal(0, 0.4))), 2),
        "cirrhosis": "yes" if rng.random() < 0.7 else "no",
    }

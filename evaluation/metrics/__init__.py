"""Scores of masks and probabilities, by NumPy and SciPy alone.

In the order in which data flows; training chooses thresholds by the same code:

counts.py         four counts of a binary segmentation, METRICS of them; the rule for empty masks
roc.py            ROC curves and areas, from histograms that take any number of pixels
exact_roc.py      the same curve by one sort, of pixels that fit into memory
thresholds.py     RULES by which a threshold is chosen from validation pixels
calibration.py    whether probabilities are right as often as they say
curves.py         what is drawn of a cohort: ROC curves, thresholds on them, calibration
regions.py        boxes and connected regions of a mask, ml of liver and tumors
surfaces.py       distances between surfaces in mm
lesions.py        lesions of a case, matched as LiTS does or each at most once
lits.py           the 24 figures of the LiTS challenge
lesion_recall.py  which lesions were found, by size
statistics.py     intervals and comparisons by patient
"""

"""A synthetic cohort: abdominal CT with liver and tumor labels, laid out as LiTS.

shapes     implicit shapes, smooth random fields, and how much of a voxel they cover
patient    one patient drawn at random, in mm: body, organs, vessels, cysts, tumors
paint      the patient as HU and labels on a grid of voxels
scan       the scanner: grid, slice thickness, blur, noise, and how a file stores the axes
cohort     the two cohorts, their files, the clinical table, the record
__main__   the command `python -m data.phantom`
"""

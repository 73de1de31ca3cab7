"""Volumes in, slices out: reading, checks, scaling, splits, the phantom, the slice store, batches.

Commands   prepare (a cohort becomes a store), phantom, download, benchmark
Reading    cohorts/ (one file per cohort), folders, archives, dicom, seg, volumes, images, writing; fetch (download)
Checks     spacing, anatomy
Store      convert, parallel, resize, splits, folds (cross-validation), store
Networks   scaling, enhance (inputs of other systems), augment, masks, batches, volume_batches (3D), clinical
Phantom    phantom_* : anatomy, shapes, paint, imaging, patient, clinical table
Shared     command, files, environment, backend
"""

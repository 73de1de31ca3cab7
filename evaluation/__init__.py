"""From trained models and label maps to scores, tables, figures and segmentations.

Commands   predict, evaluate, tables, figures, report, viewer, spread, publish; score, check_official (LiTS scoring of
           any predictions); joint_sweep, joint_answer (joint loss), by_slice; compare, comparison, cross_validate,
           cross_validation (all systems); by_seed (what these share over seeds); coverage, benchmark
Scores     metrics (pixels), roc, exact_roc, surfaces (mm), lesions, lesion_recall, lits_scoring, whole_cases,
           calibration, statistics (by patient), postprocess
A run      systems (trained models), other_systems (of the other documents), segmenters (both, on a volume's own
           grid), scoring (a case, a cohort), history, examples, results (read again), published_numbers (of the
           other documents), publish_options
Tables     text, more_tables, case_tables, training_table, cost, claims with evidence, comparison_notes
Folders    drawing (figures), reporting (the report's page), published (recorded results of the README)
"""

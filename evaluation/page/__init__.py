"""The page of the report: its sections, figures and slice viewer; `evaluation.report` writes it."""

"""The report's page: its sections, figures and slice viewer; `evaluation.report` writes it."""

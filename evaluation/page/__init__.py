"""The report of a run as one HTML file, written by `python -m evaluation.report`.

document   the page around its sections: navigation, notices, security policy
sections   test scores, every page of `evaluation.tables`, the run's record
figures    the figures of `evaluation.figures.registry` that were drawn
recording  what evaluate records: example slices, whole test cases for the viewer
viewer     the recorded slices: OUT/viewer.npz, encoded for the page's script
markdown   the tables' Markdown as HTML
assets/    page.html, page.css, page.js, viewer.html, viewer.js
"""

"""The figures of a run, drawn from its recorded results.

    __main__      the command `python -m evaluation.figures`: draws every figure
    history       OUT/training.json: how the systems of Table 1 came to be
    registry      FIGURES: name -> function, title, what it shows; the report reads the same list
    style         fonts, colours, footer, how a figure is written
    legend        how a system looks, legends, the table of systems below panels
    examples      the recorded example slices (OUT/examples.*)
    slices        the networks' inputs, overlays of the results
    architecture  the one-step and the sequential model, drawn around `unet`
    unet          a U-Net as a drawing, from its recorded layers
    probabilities ROC curves, reliability
    training      learning curves, the sweep of the class weight
    table1        Table 1 as bars
    cases         Dice by case, lesions found
    joint         published page: IoU by beta / alpha
    systems       published page: Dice of every system

A figure is a function from `Results` to a matplotlib Figure, or to the reason why a run has none. A
new one is such a function and one entry of the registry.
"""

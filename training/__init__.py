"""From a recipe to a record: systems, losses, the fit loop, the commands.

In the order in which data flows:

presets.py         every hyperparameter of the paper's recipe with its source; lists them
systems/           what is trained: base.py (what a system is), gruber.py (the paper's one-step
                   and sequential), joint.py (its joint loss), elmenabawy.py, dhanush.py,
                   global_local.py; the registry
run.py             a run directory: flags, preset, seed, store; whose it is
losses.py          losses on logits, by name
metrics.py         the validation IoU that is followed by epoch
callbacks.py       checkpoint and resume, log, progress, the watch for collapse
curves.py          learning curves
pretrained.py      published ImageNet weights into an encoder (convert_weights.py: the command)
fit.py             the one fit loop
validation.py      what a network reaches on validation data, and whether that is a result
network.py         a network in a phase: seed, build, fit, thresholds, verdict, record
train.py           what is left to train of a system, in order
sweeps.py          what is trained several times: scalings, class weights, joint losses
one_step.py, liver.py, tumor.py, joint.py, system.py, all_stages.py    the commands

A new system is a dataclass given to `training.systems.register`, a new loss a maker given to
`training.losses.register_loss`, a new input one given to `data.inputs.register_input`.
"""

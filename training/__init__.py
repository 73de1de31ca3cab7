"""Presets, losses, the one fit loop, and a thin script per stage.

The paper's     presets, one_step, liver, tumor, sweep, joint with joint_start and joint_sweep, all_stages; what they
                share in stages, run, losses
Other systems   system_presets, system, system_networks, overlap_losses; pretrained and convert_weights (ImageNet)
Both            fit, callbacks, metrics, curves; benchmark, joint_benchmark
"""

"""Keras functional graphs, one architecture per file, and how their outputs become labels.

The paper's     unet; sequential (masks and labels of a pair), cascade (both networks nested, joint loss)
Other systems   alexnet, resnet18, imagenet (weights of both), segnet with unpooling, segresnet_vae
Prediction      inference (slices in batches), sliding_window (3D)
"""

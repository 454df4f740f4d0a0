"""its-platform: keeps traffic-camera detectors accurate by itself.

Read the package in the order of the flow: cameras, frames, labels, dataset, model, release, serving,
monitoring, retraining.
"""

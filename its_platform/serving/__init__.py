"""Serving: Triton with the front `traffic_detector` and the detectors behind it, and the client that asks it.

Enters: exported detectors and pictures. Leaves: detections. Which version is served at which stage is decided by the
release stage; here it is only made so.
"""

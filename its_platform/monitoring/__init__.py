"""What the live cameras saw, and whether it is still what the served model was judged on.

In comes the log that Triton's front writes beside its answers; out come a table of predictions, drift reports and
the state over several windows. Whether a drift leads to a training is decided in `retraining`, not here.
"""

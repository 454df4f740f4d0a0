"""An hour of load on the whole platform: what it costs, what fails, what is lost, and what grows.

`load.py` is the cameras, `watching.py` looks at the servers and kills one, `repeat.py` is one home from `its up` to the
reckoning, `reckoning.py` says what it came to, `page.py` shows it, and `python -m soak` runs all of it.
"""

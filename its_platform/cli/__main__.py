"""`python -m its_platform.cli`: the command with the code of the folder that it is called in, as dvc.yaml needs it.

The installed `its` runs the code of the checkout that it was installed from, whatever copy DVC works in.
"""

from its_platform.cli import main

if __name__ == "__main__":
    main()

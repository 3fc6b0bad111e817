"""`python -m grefine_rt`: the command `grefine-rt` without its script on the path."""

from grefine_rt.cli import main

if __name__ == "__main__":
    main()

"""`python -m grefine_rt.cli`: the command without its script on the path."""

from grefine_rt.cli import main

if __name__ == "__main__":
    main()

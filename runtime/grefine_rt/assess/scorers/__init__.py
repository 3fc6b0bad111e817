"""Metrics beside both indicators. One file here and one entry of `scorers` in `bundle.json` add one."""

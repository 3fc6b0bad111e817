"""The HTTP service: `grefine-rt serve`. Its modules need the extra `serve`; importing this package does not."""

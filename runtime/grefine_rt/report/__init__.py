"""The report of a refine or assess call as one HTML file."""

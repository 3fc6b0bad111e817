"""Prompts, read where generators leave them: in a picture's text fields, its EXIF and XMP, or a file beside it."""

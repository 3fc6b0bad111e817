"""An opened bundle: its graphs on their engines, its tokenizers."""

"""What tests share: tiny models and graphs, references in numpy, stand-ins; no test imports another test."""

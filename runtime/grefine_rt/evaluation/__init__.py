"""The agreement of scores with opinions: rated databases, correlations, published figures."""

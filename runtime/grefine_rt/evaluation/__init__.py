"""How well scores agree with opinions: rated databases, correlations, published figures."""

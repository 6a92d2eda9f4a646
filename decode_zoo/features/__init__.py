"""From annotation and binding sites to feature sets: what binds each gene, and where."""

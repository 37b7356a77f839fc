"""From resources to a snapshot: specs decoded, names resolved, expressions compiled, routes laid out."""

"""Which predictions become labels: the rule, thresholds, warnings."""

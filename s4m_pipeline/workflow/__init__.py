"""What puts stages together: order, rounds, demo, comparison, report."""

"""Deep steps: training the network of a frozen backbone on what was learned, and judging what it became."""

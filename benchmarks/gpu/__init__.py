"""Run on a machine with a GPU what nothing else can show, as one command for each of a few calls; see README.md."""

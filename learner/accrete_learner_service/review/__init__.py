"""Checks of what a step would learn, and the review of what fails them."""

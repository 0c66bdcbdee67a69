"""Random changes of training images that keep their class."""

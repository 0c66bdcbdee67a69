"""`accrete demo`: the whole loop on real images, run as an application would, with its figures at the end."""

"""The trainer as a child process, and the throttle that lets it yield to serving."""

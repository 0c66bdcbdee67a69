"""Accrete beside other Python model servers, each with the same network, image and callers."""

"""Requests that nobody sane would send, for every RPC of the server."""

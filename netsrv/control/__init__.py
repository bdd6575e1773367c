"""The control API: faults and proxies, changed over HTTP while the server runs.

It is toxiproxy's API, with additions as further keys; toxiproxy's clients work with it.  Nothing in
this room knows HTTP but its words: `Api` gets a method, a path and a body, and returns an answer.
"""

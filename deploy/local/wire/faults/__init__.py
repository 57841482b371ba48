"""Faults that the wire shows on request, over every service: lost, late, doubled, broken answers.

``rules`` writes them, ``schema`` checks them, ``layer`` decides which request meets which,
``effects`` does what the client then sees, and ``bodies`` holds what each service would say.
A fault never touches the venue's own code: it stands between the venue and its client.
"""

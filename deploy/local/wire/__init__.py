"""Stand-ins on 127.0.0.1 that speak the protocols of venues, models and Slack.

``matching`` and ``feed`` are pure: they know neither HTTP nor any venue's JSON. ``venues`` gives
them three personalities. ``server`` puts everything behind one port, ``client`` starts it as a
child process. Nothing here is written to disk.
"""

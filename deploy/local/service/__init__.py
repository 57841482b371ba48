"""The loop on the present, around the clock, on a machine of one's own instead of Pipedream.

``ticker`` says when a workflow is due, ``lanes`` runs each workflow in a thread of its own,
``service`` starts and stops everything. The files beside them are for systemd and containers.
"""

"""One module a subcommand. Each has ``add_parser(subparsers)``, which sets ``handler``.

A handler takes the parsed arguments and returns the exit code. Modules here import cheaply and
load what is heavy inside the handler, so that ``--help`` answers at once.
"""

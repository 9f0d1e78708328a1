"""The commands of `observer`, a module each: ``command`` in the module ``NAME`` is ``observer NAME``.

A new command is a new module here.  Only the module of the command that runs is imported, and it imports what the work
needs when it runs: help and small captures are quick.

Never here: work.
"""

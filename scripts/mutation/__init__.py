"""Mutation testing of the code that decides whether an order may exist: ``make mutation``.

A mutant is the module with one small change. A change that no test notices is a behaviour that no
test asserts.
"""

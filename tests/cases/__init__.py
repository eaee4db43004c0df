"""Inputs of kinds that people reported as bugs of comparable tools, each with the right outcome.

A comment names the public thread that showed the kind; sentences and numbers are made for these tests. A test states
what has to be true for the user, not how it is done or worded: where two outcomes are right, such as a row that is
read whole or refused with its line, it takes both. What is wrong today is a strict `xfail` with the number of the issue
that mends it, so that the mark has to go when the fault does.
"""

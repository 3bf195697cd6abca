"""The books under torture: processes that move money at random and are killed at random, and a database that falls.

`python -m tests.torture --operations 100000` runs it whole; the test of this folder runs less of it.
"""

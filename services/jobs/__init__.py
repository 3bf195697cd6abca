"""Scheduled jobs: what they may do, when they are due, and their runs."""

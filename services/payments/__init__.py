"""Payments through channels: configured, asked for, booked once, given back, and held against the channel's books."""

"""Figures and reports. Every figure function is pure and returns a matplotlib `Figure`."""

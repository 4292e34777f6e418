"""Simulated raters with a hidden taste: for the demonstration in the app, and for the benches."""

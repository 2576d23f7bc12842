"""Everything that observes. Every way of observing yields the same events (`events.py`)."""

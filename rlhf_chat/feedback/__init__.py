"""What people answered, as one log of events: items, snapshots and how far people agree."""

"""What a model file may be, hold and name: it may come from anyone."""

"""What an ascent changes, and how pixels follow from it: `spatial`, then colours and bounds (`image`)."""

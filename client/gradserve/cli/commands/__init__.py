"""The commands, one per module; `add` makes a command's parser."""

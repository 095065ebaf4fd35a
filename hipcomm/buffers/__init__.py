"""What a call's buffers may be: arrays of any library, or addresses; and their element types."""

"""What the words of a request ask for."""
